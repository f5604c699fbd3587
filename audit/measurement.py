"""What can decide a statement: a comparison of an audit's figures, as a value."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from pydantic import ConfigDict

from audit.score import Axis, DriftVerdict

Kind = Literal[
    "repeats",
    "may-differ",
    "differs",
    "faster",
    "alike",
    "takes-at-most",
    "takes-at-least",
    "control-costs",
    "lighter",
    "changes",
    "may-change",
    "keeps",
    "closer",
    "follows",
    "counted",
    "uncounted",
    "merges-its-ratio",
    "merges-the-prompt",
]


@dataclass(frozen=True, kw_only=True)
class Measurement:
    """One comparison. `row` and `than` choose rows (`audit.selection`), and every pair of them is
    compared; without `than` it is the baseline."""

    __pydantic_config__ = ConfigDict(extra="forbid")

    kind: Kind
    row: Mapping[str, str] = field(default_factory=dict)
    than: Mapping[str, str] = field(default_factory=dict)
    axes: tuple[Axis, ...] = ("same-process", "fresh-process")
    """Of the kinds about repeating."""
    at_least: DriftVerdict = "fine-detail"
    """Of `changes`, `may-change` and `keeps`: what counts as changed."""
    limit: float = 1.0
    """Of `takes-at-most` and `takes-at-least`: a ratio to the baseline's time."""
    control: str = ""
    """Of `control-costs`: its name."""
    slot: str = ""
    """Of `counted` and `uncounted`: whose record, and which count in it."""
    count: str = ""


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What one pair of rows says. `agrees` is None where the figures leave it open."""

    agrees: bool | None
    sentence: str
    missing: bool = False
    """There are no such rows, or they cannot run here."""
