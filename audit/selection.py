"""Rows of an audit, chosen by their settings."""

from collections.abc import Mapping
from fnmatch import fnmatchcase

from audit.changes import short_name
from audit.score import Audit, Score
from core.optimization import Configuration


def rows_with(audit: Audit, settings: Mapping[str, str]) -> tuple[Score, ...]:
    """The rows with these settings whose other slots are the baseline's; without any, the baseline.

    `settings` is slot → value text, which may hold `*` as in file names: `fixed:*`, and `*:*` for
    whatever has a number. The placebo is never among them.
    """
    start = baseline_of(audit)
    return tuple(
        row
        for row in audit.scores
        if not row.placebo
        and all(fnmatchcase(row.configuration.get(slot), text) for slot, text in settings.items())
        and all(
            row.configuration.get(slot) == start.get(slot)
            for slot, _ in (*row.configuration, *start)
            if slot not in settings
        )
    )


def baseline_of(audit: Audit) -> Configuration:
    found = (row.configuration for row in audit.scores if row.key == audit.baseline)
    return next(found, Configuration())


def name_of(audit: Audit, row: Score) -> str:
    """The settings that are not the baseline's; of the baseline, which attention it has."""
    start = baseline_of(audit)
    if row.configuration == start:
        return f"attention={start.get('attention')} (baseline)"
    return short_name(row.configuration, start)
