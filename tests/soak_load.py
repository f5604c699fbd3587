"""Many people at once: the real server under load, with cancels, reloads and a dying worker.

Everybody asks over REST for small pictures of the shipped model, has at most two jobs at a time,
and looks at them until they end.
"""

import hashlib
import io
import os
import random
import secrets
import signal
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import psutil
from PIL import Image

from tests.browser_fixtures import started
from tests.soak import say

STEPS = 4
SIZES = (64, 96, 128)
CLOSED = ("ok", "cancelled", "failed")
KILL_EVERY = 60.0
"""Seconds between two deaths of the worker."""
PATIENCE = 600.0
"""Seconds for the jobs that are left when nobody asks any more."""
SLOWEST = 60.0
"""Seconds after which a request counts as lost."""


@dataclass(frozen=True)
class Served:
    """One job's times by the client's clock: each lies between a lower and an upper bound."""

    owner: int
    asked: tuple[float, float]
    started: tuple[float, float]


@dataclass
class Findings:
    """What the clients saw, together."""

    states: Counter[str] = field(default_factory=Counter)
    served: list[Served] = field(default_factory=list)
    seconds: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    problems: list[str] = field(default_factory=list)
    kept: dict[str, str] = field(default_factory=dict)
    """Job → SHA-256 of the pixels, of pictures that were fetched."""
    lock: threading.Lock = field(default_factory=threading.Lock)

    def problem(self, sentence: str) -> None:
        with self.lock:
            self.problems.append(sentence)


class Client:
    """One person: asks, looks, changes their mind, comes back, and is curious about others."""

    def __init__(self, number: int, url: str, found: Findings, others: list[str]) -> None:
        self.number = number
        self.rng = random.Random(number)
        self.found = found
        self.others = others
        self.http = httpx.Client(
            base_url=url,
            timeout=SLOWEST,
            headers={"Authorization": f"Bearer {secrets.token_hex(16)}"},
        )
        self.open: dict[str, tuple[float, float]] = {}

    def live(self, end: float) -> None:
        """Until `end` by `time.monotonic`, and until the jobs that are left have ended."""
        try:
            while time.monotonic() < end:
                if len(self.open) < 2:
                    self.ask()
                self.do_something()
                time.sleep(self.rng.uniform(0.5, 3))
            last = time.monotonic() + PATIENCE
            while self.open and time.monotonic() < last:
                self.look()
                time.sleep(1)
        except Exception as error:
            self.found.problem(f"client {self.number}: {type(error).__name__}: {error}")
        for job in self.open:
            self.found.problem(f"job {job} never ended")

    def do_something(self) -> None:
        chance = self.rng.random()
        if chance < 0.1 and self.open:
            self.timed("cancel", "DELETE", f"/api/v1/jobs/{self.rng.choice(list(self.open))}")
        elif chance < 0.2:
            self.reload()
        elif chance < 0.3:
            self.peep()
        self.look()

    def timed(self, what: str, method: str, path: str, **more: Any) -> httpx.Response:
        begun = time.monotonic()
        answer = self.http.request(method, path, **more)
        with self.found.lock:
            self.found.seconds[what].append(time.monotonic() - begun)
        if answer.status_code >= 500:
            self.found.problem(f"{method} {path}: {answer.status_code} {answer.text[:200]}")
        return answer

    def ask(self) -> None:
        size = self.rng.choice(SIZES)
        order = {
            "prompt": "a red apple, cartoon style, white background",
            "seed": self.rng.randrange(2**32),
            "width": size,
            "height": size,
            "num_inference_steps": STEPS,
        }
        begun = time.monotonic()
        answer = self.timed("ask", "POST", "/api/v1/jobs", json=order)
        if answer.status_code != 202:
            self.found.problem(f"asking: {answer.status_code} {answer.text[:200]}")
            return
        job = answer.json()["id"]
        self.open[job] = (begun, time.monotonic())
        with self.found.lock:
            self.others.append(job)

    def look(self) -> None:
        for job in list(self.open):
            answer = self.timed("look", "GET", f"/api/v1/jobs/{job}")
            if answer.status_code != 200:
                self.found.problem(f"own job {job}: {answer.status_code}")
                del self.open[job]
            elif answer.json()["state"] in CLOSED:
                self.closed(answer.json())

    def closed(self, job: dict[str, Any]) -> None:
        asked = self.open.pop(job["id"])
        with self.found.lock:
            self.found.states[job["state"]] += 1
            if job["state"] == "ok" and (job["attempt"] or 1) > 1:
                self.found.states["ok at the second attempt"] += 1
            # A job that was cancelled while it ran had its turn all the same. Of one that the queue
            # has forgotten nobody knows any more how long it waited.
            if job["run_seconds"] and job["waited_seconds"] is not None:
                started = (asked[0] + job["waited_seconds"], asked[1] + job["waited_seconds"])
                self.found.served.append(Served(self.number, asked, started))
        if job["state"] == "failed":
            self.found.problem(f"a job failed: {job['reason']}")
        if job["state"] == "ok" and self.rng.random() < 0.5:
            self.fetch(job)

    def fetch(self, job: dict[str, Any]) -> None:
        (image,) = job["images"]
        answer = self.timed("fetch", "GET", image["url"])
        pixels = np.asarray(Image.open(io.BytesIO(answer.content)).convert("RGB"))
        digest = hashlib.sha256(np.ascontiguousarray(pixels).tobytes()).hexdigest()
        if digest != image["pixels_sha256"]:
            self.found.problem(f"job {job['id']}: the file has other pixels than the job says")
        with self.found.lock:
            self.found.kept[job["id"]] = digest

    def reload(self) -> None:
        """The page itself, and all of one's jobs: those that are open must be among them."""
        self.timed("page", "GET", "/")
        listed = self.timed("list", "GET", "/api/v1/jobs", params={"limit": 100}).json()
        if lost := set(self.open) - {job["id"] for job in listed}:
            self.found.problem(f"client {self.number} lost sight of {sorted(lost)}")

    def peep(self) -> None:
        """Another's job by its id: as if it were not there."""
        with self.found.lock:
            job = self.rng.choice(self.others) if self.others else None
        if job is None or job in self.open:
            return
        mine = self.http.get("/api/v1/jobs", params={"limit": 100}).json()
        if job in {one["id"] for one in mine}:
            return
        for path in ("", "/images/0", "/events"):
            status = self.timed("peep", "GET", f"/api/v1/jobs/{job}{path}").status_code
            if status != 404:
                self.found.problem(f"client {self.number} saw another's {path or 'job'}: {status}")


def load(folder: Path, minutes: float, clients: int) -> dict[str, Any]:
    """So many people for so long; what was done, how long it took, and what went wrong."""
    found = Findings()
    others: list[str] = []
    with started(folder / "seedproof.db") as url, _watched(url, found) as watch:
        end = time.monotonic() + 60 * minutes
        people = [Client(number, url, found, others) for number in range(clients)]
        threads = [threading.Thread(target=one.live, args=(end,)) for one in people]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    found.problems += unfair(found.served)
    return {
        "clients": clients,
        "jobs": dict(found.states),
        "pictures_fetched": len(found.kept),
        "workers_killed": watch["killed"],
        "most_running_at_once": watch["running"],
        "milliseconds": {what: _spread(values) for what, values in found.seconds.items()},
        "problems": sorted(Counter(found.problems).items()),
    }


def unfair(served: Sequence[Served]) -> list[str]:
    """Who was surely served twice while somebody else's turn had come, a sentence each.

    Somebody's turn has come from when they asked, or from when their job before it began.
    """
    owners: dict[int, list[Served]] = defaultdict(list)
    for job in sorted(served, key=lambda job: job.started[0]):
        owners[job.owner].append(job)
    problems = []
    for owner, jobs in owners.items():
        turns = [(jobs[0].asked[1], jobs[0].started[0])] + [
            (max(job.asked[1], before.started[1]), job.started[0]) for before, job in pairwise(jobs)
        ]
        for begun, ended in turns:
            for other, theirs in owners.items():
                within = [j for j in theirs if begun < j.started[0] and j.started[1] < ended]
                if other != owner and len(within) > 1:
                    problems.append(f"{other} was served {len(within)} times while {owner} waited")
    return problems


@contextmanager
def _watched(url: str, found: Findings) -> Iterator[dict[str, int]]:
    """Kills the worker now and then, and counts how many jobs run at once."""
    seen = {"killed": 0, "running": 0}
    over = threading.Event()

    def watch() -> None:
        again = time.monotonic() + KILL_EVERY
        while not over.wait(0.5):
            for line in httpx.get(f"{url}metrics", timeout=SLOWEST).text.splitlines():
                if line.startswith('seedproof_queue_jobs{state="running"}'):
                    seen["running"] = max(seen["running"], int(float(line.split()[-1])))
            if time.monotonic() > again:
                again += KILL_EVERY
                for worker in _workers():
                    os.kill(worker, signal.SIGKILL)
                    seen["killed"] += 1
                say(f"a worker was killed; {dict(found.states)}")

    thread = threading.Thread(target=_told(watch, found), daemon=True)
    thread.start()
    yield seen
    over.set()
    thread.join()
    if seen["running"] > 1:
        found.problem(f"{seen['running']} jobs ran at once")


def _told(work: Callable[[], None], found: Findings) -> Callable[[], None]:
    def inside() -> None:
        try:
            work()
        except Exception as error:
            found.problem(f"the watch ended: {error}")

    return inside


def _workers() -> list[int]:
    """The processes that make pictures: children of the server's fork server."""
    return [
        worker.pid
        for server in psutil.Process().children()
        for child in server.children()
        if "forkserver" in " ".join(child.cmdline())
        for worker in child.children()
    ]


def _spread(seconds: Sequence[float]) -> dict[str, int]:
    half, most = (round(1000 * float(np.quantile(seconds, q))) for q in (0.5, 0.95))
    return {"requests": len(seconds), "median": half, "p95": most}
