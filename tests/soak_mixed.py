"""The app's services in mixed use for an hour, with the memory of its processes watched."""

import os
import random
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any

import psutil

from audit.document import document
from audit.judgement import judge
from audit.pictures import load_picture
from audit.plan_file import load_plan
from audit.report import render
from core.optimizations import SLOTS, availability, configure
from core.request import Job, Request
from core.worker import WorkerEngine
from tests.soak import say
from tests.test_resume import alive_after, assert_intact
from webapp import audit_card, row_card, run_card, scores_card
from webapp.audits import Occupied
from webapp.jobs import QueueFull
from webapp.places import places
from webapp.server import services
from webapp.services import Services
from webapp.ticket import Ticket

LOOK = 5.0
"""Seconds between two looks at memory."""
GROWTH, SLACK = 1.10, 50_000_000
"""A process grew where its last quarter's median is above its second quarter's by both of these:
a factor, and bytes. In the first quarter everything is loaded for the first time."""
PATIENCE = 900.0
"""Seconds for one picture, on a machine that does other things as well."""
CHANGED = {"compile": 0.02}
"""How likely somebody touches a slot, where it is not three times in ten. Every new combination is
compiled anew for minutes, so whoever compiles stays with one."""
OWNERS = ("visitor:a", "visitor:b", "visitor:c")


class Memory:
    """Resident bytes of the app, of its worker, and of all its processes together."""

    def __init__(self, worker: Callable[[], int | None]) -> None:
        self.samples: list[tuple[float, dict[str, int]]] = []
        self._worker = worker
        self._me = psutil.Process()
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._end.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._end.wait(LOOK):
            bytes_ = {"parent": self._me.memory_info().rss}
            family = [self._me, *self._me.children(recursive=True)]
            whole = 0
            for process in family:
                try:
                    rss = process.memory_info().rss
                except psutil.NoSuchProcess:
                    continue
                whole += rss
                if process.pid == self._worker():
                    bytes_["worker"] = rss
            self.samples.append((time.monotonic(), {**bytes_, "all": whole}))

    def figures(self) -> tuple[dict[str, Any], list[str]]:
        """By process: MB in the second and in the last quarter, and what grew."""
        found, grew = {}, []
        for name in ("parent", "worker", "all"):
            values = [sample[name] for _, sample in self.samples if name in sample]
            quarter = len(values) // 4
            if not quarter:
                continue
            early, late = median(values[quarter : 2 * quarter]), median(values[-quarter:])
            found[name] = {"early": round(early / 1e6), "late": round(late / 1e6)}
            found[name]["most"] = round(max(values) / 1e6)
            # Audits come and go, so that the sum says only what else is there.
            if name != "all" and late > early * GROWTH and late > early + SLACK:
                grew.append(f"{name} grew from {early / 1e6:.0f} to {late / 1e6:.0f} MB")
        return found, grew


class Use:
    """What people do, one thing after another; every method is one of them."""

    def __init__(self, made: Services, rng: random.Random, folder: Path) -> None:
        self.made = made
        self.rng = rng
        self.done = Counter[str]()
        self.reasons = Counter[str]()
        self.problems: list[str] = []
        self.plan = load_plan(made.plans / "smoke.toml", made.model, made.platform)

    def generate(self) -> None:
        """One to three pictures of somebody, under whatever this platform can do."""
        owner = self.rng.choice(OWNERS)
        for job in [self._job() for _ in range(self.rng.randint(1, 3))]:
            self.made.jobs.submit(job, owner)
            self._closed(job.id)

    def cancel(self) -> None:
        """Pictures that are cancelled while they wait, while they run, or too late."""
        jobs = [self._job() for _ in range(2)]
        for job in jobs:
            self.made.jobs.submit(job, OWNERS[0])
        time.sleep(self.rng.uniform(0, 3))
        for job in jobs:
            self.made.jobs.cancel(job.id, OWNERS[0])
        for job in jobs:
            self._closed(job.id)

    def start_audit(self) -> None:
        with_audit = self.made.audits.start(self.plan, self.made.model)
        time.sleep(self.rng.uniform(0, 20))
        self.made.audits.stop(with_audit)
        self._idle(with_audit)

    def resume_audit(self) -> None:
        open_ones = [e.id for e in self.made.store.audits() if e.finished_at is None]
        if open_ones:
            self.made.audits.resume(open_ones[0])
            self._idle(open_ones[0])

    def read_audit(self) -> None:
        """What the Audit and Recommend pages show of one of the audits there are."""
        entries = self.made.store.audits()
        audit_card.listing(entries, self.made.audits.running)
        audit_card.promise(self.plan, self.made.platform)
        if not entries:
            return
        entry = self.rng.choice(entries)
        result = self.made.findings.audit(entry.id) or judge(self.made.store, entry.id)
        scores_card.table(result)
        scores_card.plot(result)
        for score in result.scores:
            row_card.card(result, score)
        document(result)
        render(result, load_picture)
        self.made.findings.judged(self.made.platform, self.made.model)

    def read_history(self) -> None:
        owner = self.rng.choice(OWNERS)
        page = self.made.store.history(owner, self.rng.choice(("", "apple", "sdp")))
        for one in page.generations:
            run_card.facts(one.run, SLOTS)
            self.made.findings.of(one.run)
        if page.generations and self.rng.random() < 0.3:
            victim = self.rng.choice(page.generations).run.job.id
            if not self.made.store.delete_generation(victim, owner):
                self.problems.append(f"a picture of {owner} could not be deleted")

    def _job(self) -> Job:
        settings = {}
        for slot in SLOTS:
            can = [
                o
                for o in slot.options
                if availability(o, self.made.platform, self.made.model.path) is None
            ]
            if can and self.rng.random() < CHANGED.get(slot.name, 0.3):
                option = self.rng.choice(can)
                settings[slot.name] = option.name
        size = self.rng.choice((64, 96, 128))
        asked = Request(
            prompt=self.rng.choice(self.made.examples),
            model=self.made.model,
            seed=self.rng.randrange(2**32),
            width=size,
            height=size,
            num_inference_steps=self.rng.randint(2, 8),
            guidance_scale=self.rng.choice((1.0, 5.0)),
        )
        return Job(
            id=uuid.uuid4().hex,
            requests=(asked,),
            configuration=configure(settings, self.made.platform),
            preview=self.rng.random() < 0.5,
        )

    def _closed(self, job_id: str) -> Ticket | None:
        end = time.monotonic() + PATIENCE
        while (ticket := self.made.jobs.look(job_id)) and not ticket.closed:
            if time.monotonic() > end:
                self.problems.append(f"a picture took more than {PATIENCE:.0f} s")
                return None
            time.sleep(0.05)
        if ticket is None:
            self.problems.append("a picture was forgotten before it ended")
            return None
        refused = "cannot be chosen together" in ticket.reason
        self.done["picture refused" if refused else f"picture {ticket.state}"] += 1
        if ticket.state == "failed":
            self.reasons[ticket.reason] += 1
            if "worker process ended" in ticket.reason or "engine broke" in ticket.reason:
                self.problems.append(ticket.reason)
        return ticket

    def _idle(self, audit_id: str) -> None:
        end = time.monotonic() + PATIENCE
        while self.made.audits.running == audit_id:
            if time.monotonic() > end:
                self.problems.append(f"audit {audit_id} did not stop")
                return
            time.sleep(0.1)
        sitting = self.made.audits.sitting(audit_id)
        if sitting is not None:
            self.done[f"audit {sitting.state}"] += 1
            if sitting.state == "failed":
                self.problems.append(f"audit {audit_id}: {sitting.reason}")


def use(folder: Path, minutes: float, seed: int) -> dict[str, Any]:
    """Use the app for so long; what was done, how memory went, and what went wrong."""
    rng = random.Random(seed)
    with _started(folder) as (made, memory):
        end = time.monotonic() + 60 * minutes
        person = Use(made, rng, folder)
        deeds = {
            person.generate: 6,
            person.cancel: 2,
            person.start_audit: 1,
            person.resume_audit: 1,
            person.read_audit: 2,
            person.read_history: 2,
        }
        while time.monotonic() < end:
            (deed,) = rng.choices(list(deeds), list(deeds.values()))
            try:
                deed()
            except (Occupied, QueueFull) as error:
                person.done[type(error).__name__] += 1
            person.done[deed.__name__] += 1
            if memory.samples:
                megabytes = {k: round(v / 1e6) for k, v in memory.samples[-1][1].items()}
                say(f"{deed.__name__}: {megabytes} MB; {dict(person.done)}")
        renewals = _worker(made).renewals
        family = psutil.Process().children(recursive=True)
    left = [p for p in alive_after(family, 5.0) if not _helps(p)]
    assert_intact(folder / "seedproof.db")
    found, grew = memory.figures()
    if left:
        person.problems.append(f"{len(left)} processes outlived the app by five seconds")
    return {
        "done": dict(person.done),
        "failed_because": dict(person.reasons),
        "megabytes": found,
        "worker_renewals": renewals,
        "problems": [*person.problems, *grew],
    }


@contextmanager
def _started(folder: Path) -> Iterator[tuple[Services, Memory]]:
    place = replace(places(folder / "seedproof.db"), leases=folder / "leases")
    with services(place, "pocket") as made:
        worker = _worker(made)
        memory = Memory(lambda: worker.pid)
        try:
            yield made, memory
        finally:
            memory.close()


def _worker(made: Services) -> WorkerEngine:
    reruns: Any = made.jobs._engine
    worker: WorkerEngine = reruns.usual.engine.worker
    return worker


def _helps(process: psutil.Process) -> bool:
    """multiprocessing's fork server and tracker serve this process for as long as it lives."""
    return process.ppid() == os.getpid()
