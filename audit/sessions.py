"""Timing sessions: one live process per configuration, taking turns, block by block."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from random import Random
from typing import Protocol, TypeVar

from audit.plan import Plan, PlannedRun, Role
from core.request import Request

LONGER = 12
"""How many times the longer prompt of the `prompt-length` control says what the shorter one says:
more than 75 tokens, whatever it is."""

Subject = TypeVar("Subject")
"""A row of the audit."""


class Maker(Protocol):
    """Makes planned runs of one subject in one cluster."""

    def run(
        self,
        role: Role,
        label: str,
        requests: tuple[Request, ...],
        *,
        repeat: int = 0,
        block: int | None = None,
        group: str | None = None,
    ) -> PlannedRun: ...


def session_rounds(plan: Plan) -> list[int]:
    """After which round each session stands."""
    last, gaps = len(plan.requests) - 1, max(1, plan.timing_sessions - 1)
    count = plan.timing_sessions if plan.timing_blocks else 0
    return [round(last * n / gaps) for n in range(count)]


def sessions(
    plan: Plan, rng: Random, subjects: Sequence[Subject], maker: Callable[[Subject, int], Maker]
) -> Iterator[list[tuple[PlannedRun, ...]]]:
    """Every session as its parts; blocks are numbered through, so that a block's number names one
    baseline run. `subjects` begin with the baseline; `maker` is asked by subject and cluster."""
    baseline, *others = subjects
    room = plan.timing_workers - 1 if plan.timing_workers else len(others)
    block = 1
    for session in range(plan.timing_sessions if plan.timing_blocks else 0):
        shuffled = rng.sample(others, len(others))
        count = len(range(session, plan.timing_blocks, plan.timing_sessions))
        parts: list[tuple[PlannedRun, ...]] = []
        for start in range(0, len(shuffled), room):
            together = (baseline, *shuffled[start : start + room])
            label = f"timing {session}.{start // room}"
            blocks = range(block, block + count)
            cluster = session if plan.cluster_sessions else None
            parts.append(tuple(_blocks(plan, rng, label, together, blocks, cluster, maker)))
            block += count
        yield parts


def _blocks(
    plan: Plan,
    rng: Random,
    label: str,
    subjects: Sequence[Subject],
    blocks: range,
    own: int | None,
    maker: Callable[[Subject, int], Maker],
) -> Iterator[PlannedRun]:
    """The warm-up block, then the scored ones; each batch in a new order of all subjects. Requests
    go round with the blocks, unless the session has a cluster of its `own` or the plan batches."""
    for block in (0, *blocks):
        cluster = block % len(plan.requests) if own is None else own
        batches: Sequence[tuple[Request, ...]] = ((plan.requests[cluster],),)
        if plan.timing_batches:
            cluster, batches = 0, plan.timing_batches if block else plan.timing_batches[:1]
        for repeat, batch in enumerate(batches):
            for subject in rng.sample(subjects, len(subjects)):
                run = maker(subject, cluster).run(
                    "timing", label, batch, repeat=repeat, block=block
                )
                yield replace(run, own_process=own is not None)
            if "prompt-length" in plan.controls:
                yield from _lengths(maker(subjects[0], 0), plan.requests[0], label, repeat, block)


def _lengths(
    maker: Maker, short: Request, label: str, batch: int, block: int
) -> Iterator[PlannedRun]:
    """One picture with its prompt and with a longer one, in a process of the session's that makes
    nothing else; which comes first goes round."""
    long = replace(short, prompt=", ".join([short.prompt] * LONGER))
    both = [(2 * batch, short), (2 * batch + 1, long)]
    for repeat, request in both if (batch + block) % 2 else reversed(both):
        yield maker.run(
            "prompt-length",
            f"{label}, prompt lengths",
            (request,),
            repeat=repeat,
            block=block,
            group=label,
        )
