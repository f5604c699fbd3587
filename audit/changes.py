"""In which settings a configuration differs from the baseline."""

from core.optimization import Configuration

Change = tuple[str, str]
"""Slot and value text; `off` where the baseline had one and this has none."""


def changes(configuration: Configuration, baseline: Configuration) -> tuple[Change, ...]:
    slots = sorted({slot for slot, _ in (*configuration, *baseline)})
    return tuple(
        (slot, configuration.get(slot))
        for slot in slots
        if configuration.get(slot) != baseline.get(slot)
    )


def short_name(configuration: Configuration, baseline: Configuration) -> str:
    """What a person needs to read: `baseline`, or only what is changed."""
    differing = changes(configuration, baseline)
    return " ".join(f"{slot}={value}" for slot, value in differing) or "baseline"
