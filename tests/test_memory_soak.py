"""The promise about memory, with a limit that the system enforces: by hand, `pytest -m soak`."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from webapp.places import REPOSITORY


def child(folder: Path, *limit: str) -> dict[str, Any]:
    command = [sys.executable, "-m", "tests.memory_child", str(folder), *limit]
    made = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=True)
    answers: dict[str, Any] = json.loads(made.stdout)
    return answers


@pytest.mark.soak
@pytest.mark.skipif(sys.platform != "linux", reason="the limit is Linux's")
def test_within_0_6_of_what_the_default_adds_at_twice_the_size(tmp_path: Path) -> None:
    free = child(tmp_path)
    assert free["plain"]["outcome"] == "ok"
    added = free["plain"]["peak_bytes"] - free["probe"]["loaded_bytes"]
    limited = child(tmp_path, str(int(0.6 * added)))
    print(json.dumps({"free": free, "added_bytes": added, "limited": limited}, indent=2))
    assert limited["plain"]["outcome"] == "failed", "the limit was not felt"
    assert limited["plain"]["shortage"] in ("denoise", "decode")
    assert limited["fits"], limited["sentence"]
    assert limited["planned"]["outcome"] == "ok", limited["planned"]["reason"]
    assert limited["stepped"]["outcome"] == "ok", limited["stepped"]["reason"]
    assert limited["stepped"]["notes"]
