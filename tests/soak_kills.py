"""Fifty SIGKILLs at random moments of real audits, each followed by a resume."""

import os
import random
import signal
import subprocess
import sys
import time
import uuid
from collections import Counter
from pathlib import Path
from typing import Any

import psutil

from audit.plan import Plan, PlannedRun
from audit.schedule import expand
from core.platforms import Platform
from core.run import Run
from core.store import Store
from tests.soak import say
from tests.test_resume import ROOT, alive_after, assert_intact, complete

KINDS = ("tree", "write", "worker", "parent")
"""Everything at once; the process that writes, inside a transaction; one worker; the parent."""
GRACE = 5.0
"""Seconds after which nothing of a killed audit may be left."""
LONGEST = 5.0
"""Seconds, at most, between the run that is waited for and the kill."""
SLOWEST = 600.0
"""Seconds that so many runs may take before the kill comes anyway."""
MARK = "SEEDPROOF_SOAK"
PLAN = """
name = "kills"
order_seed = 5
axes = ["after-other-work", "batch-size", "batch-position", "threads", "instruction-set"]
[request]
num_inference_steps = 4
guidance_scale = 5.0
width = 64
height = 64
[clusters]
count = 12
first_seed = 3
axis_clusters = 2
batch_sizes = [2]
patience = 0
[timing]
blocks = 4
sessions = 2
[[candidate]]
settings = { attention = "none" }
[[candidate]]
settings = { token-merging = "seeded:0.5" }
"""


class Sitting:
    """One process that works on an audit, and all that it started, found by a mark."""

    def __init__(self, folder: Path, audit_id: str, dies_in_write: int = 0) -> None:
        self.mark = uuid.uuid4().hex
        self._log = (folder / "audits.log").open("a")
        self.process = subprocess.Popen(
            [
                sys.executable,
                str(ROOT / "tests" / "audit_child.py"),
                str(folder / "seedproof.db"),
                str(ROOT / "data" / "pocket"),
                str(folder / "kills.toml"),
                audit_id,
                str(dies_in_write),
            ],
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT), MARK: self.mark},
            stdout=self._log,
            stderr=self._log,
        )

    def family(self) -> list[psutil.Process]:
        """Every living process that carries the mark, this one included."""
        found = []
        for process in psutil.process_iter():
            try:
                if process.environ().get(MARK) == self.mark:
                    found.append(process)
            except (psutil.NoSuchProcess, psutil.AccessDenied, psutil.ZombieProcess):
                continue
        return found

    def workers(self) -> list[psutil.Process]:
        """The processes that compute: not the parent, and none of multiprocessing's helpers."""
        named = {process: " ".join(process.cmdline()) for process in self.family()}
        servers = {p.pid for p, text in named.items() if _serves(text) and _is_helper(p, named)}
        return [
            process
            for process, text in named.items()
            if process.pid != self.process.pid
            and process.pid not in servers
            and "resource_tracker" not in text
        ]

    def __enter__(self) -> "Sitting":
        return self

    def __exit__(self, *exception: object) -> None:
        """End by itself, or with the soak where that fails."""
        if any(exception):
            self.process.kill()
        self.process.wait()
        self._log.close()


def _serves(command: str) -> bool:
    return "forkserver" in command


def _is_helper(process: psutil.Process, named: dict[psutil.Process, str]) -> bool:
    """The fork server itself: its children have its command line."""
    return not any(p.pid == process.ppid() and _serves(text) for p, text in named.items())


def kill_often(folder: Path, count: int, seed: int) -> dict[str, Any]:
    """Kill and resume until so many kills have struck, then let the audit end; what came of it."""
    rng = random.Random(seed)
    (folder / "kills.toml").write_text(PLAN, encoding="utf-8")
    struck, problems, slowest = Counter[str](), list[str](), 0.0
    audits = []
    with Store(folder / "seedproof.db") as store:
        while sum(struck.values()) < count or not audits or not audits[-1].finished:
            if not audits or audits[-1].finished:
                audits.append(Witnessed(store))
            audit = audits[-1]
            left = count - sum(struck.values())
            kind = rng.choice(KINDS) if left else ""
            with Sitting(folder, audit.id, rng.randint(1, 9) if kind == "write" else 0) as sitting:
                audit.wait_for_id(sitting)
                audit.wait_for_runs(sitting, rng.choice((0, 1, 2, 4, 8)) if kind else 0)
                if kind == "worker":
                    struck[kind] += _kill_worker(sitting, rng)
                    audit.wait_for_runs(sitting, rng.choice((1, 2, 4)))
                    kind = rng.choice(("tree", "parent")) if left > 1 else ""
                if kind:
                    slowest = max(slowest, _kill(sitting, kind, rng, struck, problems))
            if sitting.process.returncode not in (0, -signal.SIGKILL):
                problems.append(f"a sitting ended with code {sitting.process.returncode}")
                break
            assert_intact(folder / "seedproof.db")
            audit.look()
            say(
                f"{sum(struck.values())} kills {dict(struck)}, {audit.stored} runs of {audit.id}, "
                f"{len(problems)} problems"
            )
        for audit in audits:
            problems += audit.problems()
        return {
            "kills": dict(struck),
            "audits": len(audits),
            "runs": sum(audit.stored for audit in audits),
            "runs_excluded": sum(len(store.excluded_runs(audit.id)) for audit in audits),
            "slowest_end_seconds": round(slowest, 2),
            "problems": problems,
        }


def _kill_worker(sitting: Sitting, rng: random.Random) -> int:
    """Kill one worker, and give the audit time to notice; how many were killed."""
    end = time.monotonic() + SLOWEST
    while not (workers := sitting.workers()) and time.monotonic() < end:
        if sitting.process.poll() is not None:
            return 0
        time.sleep(0.05)
    if not workers:
        return 0
    time.sleep(rng.uniform(0, 2))
    victim = rng.choice(workers)
    try:
        victim.kill()
    except psutil.NoSuchProcess:
        return 0
    return 1


def _kill(
    sitting: Sitting,
    kind: str,
    rng: random.Random,
    struck: Counter[str],
    problems: list[str],
) -> float:
    """Strike at a random moment; seconds until everything was gone."""
    if kind == "write":
        sitting.process.wait()
    else:
        end = time.monotonic() + rng.uniform(0, LONGEST)
        while time.monotonic() < end and sitting.process.poll() is None:
            time.sleep(0.02)
    family = sitting.family()
    if kind != "write" and sitting.process.poll() is not None:
        kind = ""
    elif kind == "parent":
        sitting.process.kill()
    elif kind == "tree":
        for process in family:
            process.send_signal(signal.SIGKILL)
    began = time.monotonic()
    sitting.process.wait()
    if kind == "write" and sitting.process.returncode == 0:
        kind = ""
    struck.update([kind] if kind else [])
    alive_after(family, GRACE)
    took = time.monotonic() - began
    if left := [process for process in sitting.family() if process.is_running()]:
        named = [f"{process.pid} {' '.join(process.cmdline()[-1:])[:60]}" for process in left]
        problems.append(f"left {GRACE:.0f} s after a kill ({kind}): {'; '.join(named)}")
        alive_after(left, 60.0)
    return took


class Witnessed:
    """What was seen of one audit after every kill, to compare with what it ends with."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._before = {entry.id for entry in store.audits()}
        self.id = ""
        self._kept: dict[str, Run] = {}
        self._seen: dict[tuple[str, str], Run] = {}

    def wait_for_id(self, sitting: Sitting) -> None:
        while not self.id and sitting.process.poll() is None:
            self.id = next((e.id for e in self._store.audits() if e.id not in self._before), "")
            time.sleep(0.05)

    def wait_for_runs(self, sitting: Sitting, more: int) -> None:
        """Return when so many more runs were made, kept or not, or the sitting has ended."""
        end, enough = time.monotonic() + SLOWEST, self._made + more
        while self._made < enough and sitting.process.poll() is None and time.monotonic() < end:
            time.sleep(0.05)

    @property
    def _made(self) -> int:
        return self.stored + len(self._store.excluded_runs(self.id)) if self.id else 0

    @property
    def finished(self) -> bool:
        return bool(self.id) and self._store.audit(self.id).finished_at is not None

    @property
    def stored(self) -> int:
        return len(self._store.identities(self.id)) if self.id else 0

    def look(self) -> None:
        if self.id:
            self._kept |= complete(self._store, self.id)
            for identity, run in self._store.runs(self.id).items():
                self._seen[identity, run.environment.started_at] = run

    def problems(self) -> list[str]:
        """What was lost, repeated, mixed or failed, a sentence each."""
        runs = self._store.runs(self.id)
        excluded = [run for _, run, _ in self._store.excluded_runs(self.id)]
        planned: tuple[PlannedRun, ...] = expand(
            self._store.plan(self.id, Plan), self._store.platform(self.id, Platform)
        )
        processes: dict[str, set[str]] = {}
        for entry in planned:
            if run := runs.get(entry.identity):
                processes.setdefault(entry.process, set()).add(run.environment.process_id)
        pictures = [picture for run in runs.values() for picture in run.pictures]
        counts = {
            "planned runs missing": len({e.identity for e in planned} - runs.keys()),
            "runs nobody planned": len(runs.keys() - {e.identity for e in planned}),
            "runs repeated": sum(runs[i] != run for i, run in self._kept.items()),
            "runs lost": sum(
                run != runs[identity] and run not in excluded
                for (identity, _), run in self._seen.items()
            ),
            "labels with several processes": sum(len(ids) > 1 for ids in processes.values()),
            "runs that did not succeed": sum(run.outcome != "ok" for run in runs.values()),
            "pictures without a file": sum(not (p.path and p.path.is_file()) for p in pictures),
        }
        return [f"{self.id}: {number} {what}" for what, number in counts.items() if number]
