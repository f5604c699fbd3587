"""An audit's rows beside the figures that somebody else published."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from audit.published import PublishedRow
from audit.score import Audit, Score
from audit.selection import rows_with


@dataclass(frozen=True, kw_only=True)
class SideRow:
    """Theirs and ours of the same setting."""

    theirs: PublishedRow
    their_ratio: float
    """Their seconds ÷ those of their unit row: one run each, so without an interval."""
    ours: Score | None
    """None where this audit has no such row; one that is not available has its reason."""


@dataclass(frozen=True, kw_only=True)
class SideTable:
    title: str
    rows: tuple[SideRow, ...]


def side_by_side(audit: Audit) -> tuple[SideTable, ...]:
    """The published tables in their order; none where the plan names no figures."""
    if audit.published is None:
        return ()
    return tuple(
        SideTable(
            title=table.title,
            rows=tuple(
                SideRow(
                    theirs=row,
                    their_ratio=row.seconds / table.unit_seconds,
                    ours=next(iter(rows_with(audit, row.settings)), None),
                )
                for row in table.row
            ),
        )
        for table in audit.published.table
    )


def compared(table: SideTable) -> Mapping[str, Any]:
    """One table as other programs read it: theirs as published, ours by the key of its score."""
    return {
        "title": table.title,
        "rows": [
            {
                "label": row.theirs.label,
                "theirs": {
                    "seconds": row.theirs.seconds,
                    "ratio": row.their_ratio,
                    "peak_gb": row.theirs.peak_gb,
                },
                "key": row.ours.key if row.ours else None,
            }
            for row in table.rows
        ],
    }
