"""What this platform is and can do, as JSON: `seedproof doctor --json`, and the same over HTTP."""

from pathlib import Path
from typing import Any

from core.hardware import in_words, look
from core.optimizations import OPTIMIZATIONS, SLOTS, availability
from core.platforms import Platform


def document(platform: Platform, model: Path) -> dict[str, Any]:
    """Tries every optimization on the device, and looks into this model's folder for what they
    need of it."""
    return {
        "platform": platform,
        "hardware": in_words(platform, look(platform)),
        "optimizations": [
            {
                "slot": optimization.slot,
                "name": optimization.name,
                "available": (why_not := availability(optimization, platform, model)) is None,
                "why_not": why_not or "",
            }
            for optimization in OPTIMIZATIONS
        ],
    }


def settings(platform: Platform, tried: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Every slot with its options, and the numbers they take; `tried` is of `document`."""
    found = {(one["slot"], one["name"]): one for one in tried}
    return [
        {
            "slot": slot.name,
            "label": slot.label,
            "default": slot.default(platform),
            "options": [
                {
                    **found[slot.name, option.name],
                    "summary": option.summary,
                    "changes": option.changes,
                    "parameter": option.parameter,
                }
                for option in slot.options
            ],
        }
        for slot in SLOTS
    ]
