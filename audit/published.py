"""Figures that somebody else published, with where they come from: `data/platforms/*.toml`."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from pydantic import ConfigDict

from audit.prompt_file import PlanError, in_shape, read_toml


@dataclass(frozen=True, kw_only=True)
class Setup:
    """What the figures were measured with."""

    __pydantic_config__ = ConfigDict(extra="forbid")

    model: str
    sampler: str
    width: int
    """Pixels."""
    height: int
    """Pixels."""
    num_inference_steps: int
    guidance_scale: float
    seed: int
    """Of the first picture."""
    batch_count: int
    batch_size: int


@dataclass(frozen=True, kw_only=True)
class PublishedRow:
    """One line of a published table."""

    __pydantic_config__ = ConfigDict(extra="forbid")

    label: str
    """As the source writes it."""
    settings: Mapping[str, str] = field(default_factory=dict)
    """The same in our words: slot → value text, on top of the baseline's."""
    seconds: float
    peak_gb: float
    """GB as the source writes them."""


@dataclass(frozen=True, kw_only=True)
class PublishedTable:
    __pydantic_config__ = ConfigDict(extra="forbid")

    title: str
    unit: str
    """The label of the row whose seconds are 1 where ratios are shown."""
    row: tuple[PublishedRow, ...]

    @property
    def unit_seconds(self) -> float:
        return next(row.seconds for row in self.row if row.label == self.unit)


@dataclass(frozen=True, kw_only=True)
class Published:
    """One source's figures. None of them was measured by us."""

    __pydantic_config__ = ConfigDict(extra="forbid")

    source: str
    machine: str
    limits: tuple[str, ...]
    """What the figures do not say, a sentence each."""
    setup: Setup
    table: tuple[PublishedTable, ...]


def read_published(path: Path) -> Published:
    """Raises PlanError with a sentence per mistake."""
    found = in_shape(path, read_toml(path), Published)
    for table in found.table:
        labels = [row.label for row in table.row]
        if table.unit not in labels:
            raise PlanError(
                f"{path}: {table.title}: its unit is {table.unit!r}, and its rows are "
                f"{', '.join(labels)}."
            )
    return found


def read_platforms(folder: Path) -> tuple[Published, ...]:
    """Every file of a folder, by name. Raises PlanError with a sentence per mistake."""
    return tuple(read_published(path) for path in sorted(folder.glob("*.toml")))
