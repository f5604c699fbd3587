"""A real audit, killed three times in the middle and continued: nothing lost, nothing repeated."""

import contextlib
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from audit.judgement import judge
from audit.plan import Plan
from audit.schedule import expand, groups_of
from core.platforms import Platform
from core.run import Run
from core.store import Store

ROOT = Path(__file__).resolve().parents[1]
SMOKE = ROOT / "data" / "plans" / "smoke.toml"
MOMENTS = (0.1, 0.5, 0.9)
"""Shares of all runs that are stored when the audit is killed."""
WORKER_SECONDS = 5.0
"""How long a worker may outlive the audit."""
HELPER_SECONDS = 30.0
"""The same for multiprocessing's fork server, which has to unload torch; it holds nothing."""


class Child:
    """The audit in a process of its own, with what it started."""

    def __init__(self, database: Path, model: Path, audit_id: str) -> None:
        script = str(ROOT / "tests" / "audit_child.py")
        self.process = subprocess.Popen(
            [sys.executable, script, str(database), str(model), str(SMOKE), audit_id],
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )

    def wait_until(self, reached: Callable[[], bool], timeout: float = 200.0) -> None:
        """Return when `reached`; fail with what the child said where it ends before."""
        end = time.monotonic() + timeout
        while not reached():
            if self.process.poll() is not None:
                assert self.process.stderr
                pytest.fail(f"the audit ended too early:\n{self.process.stderr.read()}")
            assert time.monotonic() < end, "the audit is too slow"
            time.sleep(0.01)

    def wait_for_runs(self, store: Store, audit_id: str, count: int) -> None:
        self.wait_until(lambda: len(store.identities(audit_id)) >= count)

    def kill(self) -> tuple[list[psutil.Process], list[psutil.Process]]:
        """SIGKILL, which nobody can prepare for; returns workers and multiprocessing's helpers."""
        helpers = psutil.Process(self.process.pid).children()
        workers = [worker for helper in helpers for worker in helper.children()]
        self.process.send_signal(signal.SIGKILL)
        self.close()
        return workers, helpers

    def close(self) -> None:
        self.process.wait()
        assert self.process.stderr
        self.process.stderr.close()


def alive_after(processes: list[psutil.Process], seconds: float) -> list[psutil.Process]:
    """Which are left at the end. A zombie is dead, only not yet buried by its new parent."""

    def left() -> list[psutil.Process]:
        found = []
        for process in processes:
            with contextlib.suppress(psutil.NoSuchProcess):
                if process.is_running() and process.status() != psutil.STATUS_ZOMBIE:
                    found.append(process)
        return found

    end = time.monotonic() + seconds
    while left() and time.monotonic() < end:
        time.sleep(0.05)
    return left()


def complete(store: Store, audit_id: str) -> dict[str, Run]:
    """The stored runs of groups that miss none."""
    runs = store.runs(audit_id)
    planned = expand(store.plan(audit_id, Plan), store.platform(audit_id, Platform))
    return {
        entry.identity: runs[entry.identity]
        for group in groups_of(planned).values()
        if all(member.identity in runs for member in group)
        for entry in group
    }


def assert_intact(database: Path) -> None:
    connection = sqlite3.connect(database)
    assert connection.execute("pragma integrity_check").fetchall() == [("ok",)]
    assert connection.execute("pragma foreign_key_check").fetchall() == []
    connection.close()


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_killed_three_times_and_continued(tmp_path: Path, tiny_model_path: Path) -> None:
    database = tmp_path / "seedproof.db"
    audit_id = ""
    killed_workers = 0
    kept: dict[str, Run] = {}
    seen: dict[tuple[str, str], Run] = {}
    with Store(database) as store:
        for moment in MOMENTS:
            child = Child(database, tiny_model_path, audit_id)
            if not audit_id:
                child.wait_until(lambda: bool(store.audits()))
                audit_id = store.audits()[0].id
                planned = expand(store.plan(audit_id, Plan), store.platform(audit_id, Platform))
            child.wait_for_runs(store, audit_id, round(moment * len(planned)))
            workers, helpers = child.kill()
            killed_workers += len(workers)
            assert not alive_after(workers, WORKER_SECONDS)
            assert not alive_after(helpers, HELPER_SECONDS)
            assert_intact(database)
            for identity, run in store.runs(audit_id).items():
                seen[identity, run.environment.started_at] = run
            kept |= complete(store, audit_id)
            assert store.audit(audit_id).finished_at is None

        child = Child(database, tiny_model_path, audit_id)
        child.wait_until(lambda: store.audit(audit_id).finished_at is not None)
        child.close()
        assert child.process.returncode == 0
        assert killed_workers, "no kill met a worker"

        runs = store.runs(audit_id)
        assert runs.keys() == {entry.identity for entry in planned}
        assert {run.outcome for run in runs.values()} == {"ok"}
        assert kept
        assert all(runs[identity] == run for identity, run in kept.items()), "repeated"
        excluded = [run for _, run, _ in store.excluded_runs(audit_id)]
        assert all(run in excluded or run == runs[i] for (i, _), run in seen.items()), "lost"
        processes: dict[str, set[str]] = {}
        for entry in planned:
            process_id = runs[entry.identity].environment.process_id
            processes.setdefault(entry.process, set()).add(process_id)
        assert all(len(ids) == 1 for ids in processes.values()), "mixed"
        for run in runs.values():
            assert all(picture.path and picture.path.is_file() for picture in run.pictures)

        result = judge(store, audit_id)
    assert result.complete
    words = {v.verdict for score in result.scores for v in score.determinism.values()}
    assert "held" not in words, "two clusters hold nothing"
    assert_intact(database)
