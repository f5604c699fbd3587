"""One owner per device, and a lock that dies with its owner."""

import subprocess
import sys
import time
from pathlib import Path

from core.lease import lease

HOLD = """
import sys, time
from pathlib import Path
from core.lease import lease
with lease("cpu", Path(sys.argv[1])) as owned:
    print("owned", flush=True)
    time.sleep(60)
"""


def test_a_second_owner_waits_and_may_give_up(tmp_path: Path) -> None:
    asked = []

    def stop() -> bool:
        asked.append(1)
        return len(asked) > 2

    with lease("cpu", tmp_path) as first, lease("cpu", tmp_path, stop) as second:
        assert first
        assert not second
    assert len(asked) == 3
    with lease("cpu", tmp_path) as again:
        assert again


def test_devices_do_not_wait_for_each_other(tmp_path: Path) -> None:
    with lease("cuda:0", tmp_path) as one, lease("cuda:1", tmp_path) as other:
        assert one
        assert other


def test_a_killed_owner_leaves_no_lock(tmp_path: Path) -> None:
    owner = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path)], stdout=subprocess.PIPE, text=True
    )
    assert owner.stdout is not None
    with owner, owner.stdout:
        assert owner.stdout.readline() == "owned\n"
        with lease("cpu", tmp_path, lambda: True) as owned:
            assert not owned
        owner.kill()
        owner.wait()
        start = time.monotonic()
        with lease("cpu", tmp_path) as owned:
            assert owned
        assert time.monotonic() - start < 5
