"""A picture beside its twin: the same request, made again by the baseline's settings.

An audit says how far a configuration drifts on the audit's pictures; a twin says it of this one.
"""

import uuid
from dataclasses import dataclass

from audit.drift import compare
from audit.pictures import LoadPicture
from audit.score import Comparison, DriftVerdict, Gate
from audit.verdicts import GATES, worst
from core.optimization import Configuration
from core.request import Conditions, Job
from core.run import Run


@dataclass(frozen=True, kw_only=True)
class Twin:
    """What became of one run's twin."""

    baseline: str
    """The key of the configuration that made it."""
    reason: str = ""
    """Why nothing could be compared, in a sentence; empty where it was."""
    pictures: tuple[Comparison, ...] = ()
    """One for each picture of the run, in its order."""

    @property
    def verdict(self) -> DriftVerdict | None:
        """By the worst picture; None where nothing was compared."""
        return worst(one.verdict for one in self.pictures) if self.pictures else None


def without_twin(run: Run, baseline: Configuration, fingerprint: str) -> str:
    """Why a run gets no twin on the platform of this fingerprint; empty where it gets one."""
    if run.job.configuration.key == baseline.key:
        return "It was made with the baseline's settings."
    if run.environment.fingerprint != fingerprint:
        return "It was made on another platform, whose baseline cannot be run here."
    if run.job.conditions != Conditions():
        return "It was made under conditions of its own."
    if any(picture.path is None or not picture.path.is_file() for picture in run.pictures):
        return "Its file is gone."
    return ""


def twin_job(run: Run, baseline: Configuration) -> Job:
    """The run's batch, as it was asked for, under the baseline."""
    return Job(id=uuid.uuid4().hex, requests=run.job.requests, configuration=baseline)


def twin_of(run: Run, again: Run, load: LoadPicture, gates: tuple[Gate, ...] = GATES) -> Twin:
    """The run's pictures against those of `again`, which ran `twin_job`."""
    key = again.job.configuration.key
    if again.outcome != "ok":
        return Twin(baseline=key, reason=f"The baseline could not make it: {again.reason}")
    try:
        pictures = tuple(
            compare(theirs, ours, load, gates)
            for theirs, ours in zip(again.pictures, run.pictures, strict=True)
        )
    except (OSError, ValueError) as error:
        return Twin(baseline=key, reason=f"The pictures could not be compared: {error}.")
    return Twin(baseline=key, pictures=pictures)
