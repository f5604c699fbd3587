"""What changes between platforms: this machine, and others that it emulates."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import get_args

from audit.divergence import equal
from audit.drift import compare, drift
from audit.emulation import EmulatedPlatform
from audit.pictures import LoadPicture
from audit.plan import Plan, PlannedRun, Role
from audit.score import (
    Comparison,
    CrossPlatform,
    Drift,
    Gate,
    PlatformColumn,
    PlatformFigures,
    PlatformPair,
)
from audit.timing import timing
from audit.trials import Runs, clusters, determinism_calls, done
from core.optimization import Configuration
from core.platforms import Platform
from core.run import Effect, Picture


@dataclass(frozen=True, kw_only=True)
class _Place:
    """A platform, and the runs that were made on it, by configuration."""

    platform: EmulatedPlatform
    emulated: bool
    planned: Mapping[Configuration, Sequence[PlannedRun]]
    """All runs of a configuration that stand for this platform, its timed ones included."""
    runs: Runs

    @property
    def name(self) -> str:
        return self.platform.name

    @property
    def role(self) -> Role:
        """Of the runs whose times count."""
        return "platform" if self.emulated else "timing"

    def calls(self, configuration: Configuration) -> dict[int, list[Picture]]:
        """By cluster, every picture made of its request, the first call first."""
        found: dict[int, list[Picture]] = {}
        for cluster, entries in clusters(self.counted(configuration)).items():
            calls = (
                sorted((e for e in entries if e.block), key=lambda e: (e.process, e.block))
                if self.emulated
                else [call for process in determinism_calls(entries) for call in process]
            )
            if calls:
                found[cluster] = [self.runs[entry.identity].pictures[0] for entry in calls]
        return found

    def finished(self, configuration: Configuration) -> list[PlannedRun]:
        return [entry for entry in self.planned[configuration] if done(entry, self.runs)]

    def counted(self, configuration: Configuration) -> list[PlannedRun]:
        """The finished runs that were made under this platform's conditions."""
        return [entry for entry in self.finished(configuration) if self._fits(entry)]

    def _fits(self, entry: PlannedRun) -> bool:
        there = self.runs[entry.identity].environment
        found = EmulatedPlatform(threads=there.threads, instruction_set=there.instruction_set)
        return found == self.platform


def cross_platform(
    plan: Plan,
    planned: Sequence[PlannedRun],
    runs: Runs,
    platform: Platform,
    *,
    load: LoadPicture,
    gates: tuple[Gate, ...],
    nudge: Drift | None,
) -> CrossPlatform | None:
    """Every configuration on every platform, and between each two of them; None where the plan
    names none. A run that was not made under the conditions it stands for does not count."""
    if not plan.emulated and not plan.not_emulated:
        return None
    places = list(_places(plan, planned, runs, platform))
    made = {
        (place.name, configuration): place.calls(configuration)
        for place in places
        for configuration in plan.runnable
    }
    return CrossPlatform(
        platforms=tuple(
            PlatformColumn(
                name=place.name,
                origin="emulated on this machine" if place.emulated else "this machine as it is",
                threads=place.platform.threads,
                instruction_set=place.platform.instruction_set,
                figures=tuple(
                    _figures(plan, place, configuration, made[place.name, configuration])
                    for configuration in plan.runnable
                ),
            )
            for place in places
        ),
        pairs=tuple(
            _pair(first, second, configuration, made, load, gates, nudge)
            for first, second in combinations((place.name for place in places), 2)
            for configuration in plan.runnable
        ),
        not_emulated=plan.not_emulated,
        published=plan.published_platforms,
    )


def _places(
    plan: Plan, planned: Sequence[PlannedRun], runs: Runs, platform: Platform
) -> Iterator[_Place]:
    """This machine as it is, then those it emulates."""
    here = EmulatedPlatform(threads=platform.threads, instruction_set=platform.instruction_set)
    for wanted in (here, *plan.emulated):
        rows: dict[Configuration, list[PlannedRun]] = {c: [] for c in plan.runnable}
        for entry in planned:
            if not entry.placebo and _stands_for(entry, platform) == wanted:
                rows[entry.configuration].append(entry)
        yield _Place(platform=wanted, emulated=wanted != here, planned=rows, runs=runs)


def _stands_for(entry: PlannedRun, platform: Platform) -> EmulatedPlatform | None:
    """The platform whose figures a run belongs to; None of an axis's or a control's run."""
    if entry.role not in ("determinism", "timing", "platform"):
        return None
    conditions = entry.job.conditions
    return EmulatedPlatform(
        threads=conditions.threads or platform.threads,
        instruction_set=conditions.instruction_set or platform.instruction_set,
    )


def _pair(
    first: str,
    second: str,
    configuration: Configuration,
    made: Mapping[tuple[str, Configuration], Mapping[int, Sequence[Picture]]],
    load: LoadPicture,
    gates: tuple[Gate, ...],
    nudge: Drift | None,
) -> PlatformPair:
    """The first pictures of every request that both platforms made."""
    ours, theirs = made[first, configuration], made[second, configuration]
    compared: list[Comparison] = []
    latents = 0
    problems: list[str] = []
    for cluster in ours:
        if cluster in theirs:
            try:
                compared.append(compare(ours[cluster][0], theirs[cluster][0], load, gates))
            except (OSError, ValueError) as error:
                problems.append(f"a picture was not compared: {error}")
            else:
                latents += equal(ours[cluster][0], theirs[cluster][0])
    return PlatformPair(
        first=first,
        second=second,
        key=configuration.key,
        equal=sum(comparison.verdict == "bit-exact" for comparison in compared),
        equal_latents=latents,
        drift=drift(compared, nudge),
        reason="; ".join(dict.fromkeys(problems)),
    )


def _figures(
    plan: Plan, place: _Place, configuration: Configuration, calls: Mapping[int, Sequence[Picture]]
) -> PlatformFigures:
    row, runs = place.counted(configuration), place.runs
    times = timing(row, place.counted(plan.baseline), runs, place.role)
    again = [pictures for pictures in calls.values() if len(pictures) > 1]
    order = get_args(Effect)
    effects = [slot.effect for entry in row for slot in runs[entry.identity].effective.slots]
    return PlatformFigures(
        key=configuration.key,
        effect=max(effects, key=order.index, default=None),
        pictures=len(again),
        repeated=sum(all(equal(first, other) for other in rest) for first, *rest in again),
        time_ratio=times.ratio,
        seconds_median=times.seconds_median,
        reason="; ".join(_missing(place, configuration)),
    )


def _missing(place: _Place, configuration: Configuration) -> Iterator[str]:
    runs = place.runs
    there = [runs[e.identity] for e in place.planned[configuration] if e.identity in runs]
    if not there:
        yield "not run yet"
    yield from dict.fromkeys(run.reason for run in there if run.outcome == "failed")
    finished = len(place.finished(configuration))
    if others := finished - len(place.counted(configuration)):
        yield f"{others} of {finished} runs were not made with {place.name}, and do not count"
