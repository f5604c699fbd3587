"""Other platforms, emulated on this one: another number of threads, a smaller set of CPU kernels.

What runs is still this machine: its caches, clock and memory, and whatever in its libraries cannot
be limited (`core.instruction_sets`). Hence an emulated platform never goes without that word.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from random import Random
from typing import TYPE_CHECKING, Protocol, TypeVar

from core.instruction_sets import smaller
from core.platforms import Platform
from core.request import ProcessKind, Request

if TYPE_CHECKING:
    from audit.plan import Plan, PlannedRun, Role

CALLS = 2
"""How often a process makes each picture, so that one that does not repeat is seen."""

Subject = TypeVar("Subject")
"""A row of the audit."""


@dataclass(frozen=True, kw_only=True)
class EmulatedPlatform:
    """This machine, limited in at least one of the two."""

    threads: int
    """Inside one operator."""
    instruction_set: str
    """What CPU kernels are limited to, as torch names it."""

    @property
    def name(self) -> str:
        return platform_name(self.instruction_set, self.threads)


class Maker(Protocol):
    """Makes planned runs of one subject in one cluster."""

    def run(
        self,
        role: "Role",
        label: str,
        requests: tuple[Request, ...],
        *,
        process: ProcessKind = "forked",
        threads: int | None = None,
        instruction_set: str | None = None,
        repeat: int = 0,
        block: int | None = None,
    ) -> "PlannedRun": ...


def platform_name(instruction_set: str, threads: int) -> str:
    return f"{instruction_set} kernels, {threads} thread{'' if threads == 1 else 's'}"


def emulations(
    asked: Iterable[tuple[int | None, str | None]], platform: Platform
) -> tuple[tuple[EmulatedPlatform, ...], Mapping[str, str]]:
    """Of platforms asked for as (threads, instruction set), None for this machine's own: those that
    can be emulated here, each once, and the names of the others with the reason. This machine
    itself is neither."""
    found: dict[str, EmulatedPlatform] = {}
    refused: dict[str, str] = {}
    for threads, instruction_set in asked:
        wanted = EmulatedPlatform(
            threads=threads or platform.threads,
            instruction_set=instruction_set or platform.instruction_set,
        )
        if reason := _why_not(wanted, platform):
            refused[wanted.name] = reason
        elif wanted.name != platform_name(platform.instruction_set, platform.threads):
            found[wanted.name] = wanted
    return tuple(found.values()), refused


def _why_not(wanted: EmulatedPlatform, platform: Platform) -> str:
    own = platform.instruction_set
    if platform.device != "cpu":
        return f"pictures are computed on {platform.device}, and only a CPU can be limited so"
    if wanted.instruction_set not in (own, *smaller(own)):
        return f"torch has {own} kernels here, and a machine cannot emulate what it does not have"
    if wanted.threads > platform.cores:
        return f"there are {platform.cores} cores here: its threads would take turns"
    return ""


def platform_sessions(
    plan: "Plan",
    platform: Platform,
    rng: Random,
    subjects: Sequence[Subject],
    maker: Callable[[Subject, int], Maker],
) -> Iterator[tuple["PlannedRun", ...]]:
    """One session per emulated platform: one exec'd process per configuration, taking turns.

    Block 0 warms up with the first picture; then every process makes all pictures, `CALLS` times.
    `subjects` begin with the baseline. Where `plan.timing_workers` is too few for all, a session is
    held in parts, and the baseline is in each.
    """
    baseline, *others = subjects
    room = max(1, plan.timing_workers - 1) if plan.timing_workers else max(1, len(others))
    pictures = list(enumerate(plan.requests))
    turns = [(0, pictures[0], 0)]
    turns += [
        (1 + call * len(pictures) + cluster, (cluster, request), call)
        for call in range(CALLS)
        for cluster, request in pictures
    ]
    for emulated in plan.emulated:
        other_threads = emulated.threads != platform.threads
        other_kernels = emulated.instruction_set != platform.instruction_set
        shuffled = rng.sample(others, len(others))
        for part, start in enumerate(range(0, max(1, len(shuffled)), room)):
            together = (baseline, *shuffled[start : start + room])
            yield tuple(
                maker(subject, cluster).run(
                    "platform",
                    f"{emulated.name} ({part})",
                    (request,),
                    process="exec",
                    threads=emulated.threads if other_threads else None,
                    instruction_set=emulated.instruction_set if other_kernels else None,
                    repeat=call,
                    block=block,
                )
                for block, (cluster, request), call in turns
                for subject in rng.sample(together, len(together))
            )
