"""An audit as the JSON document that other programs read; its names are kept between versions."""

from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

from audit.claims import judge_claims
from audit.score import Audit, Drift
from audit.side_by_side import compared, side_by_side
from core.optimization import Configuration


def document(audit: Audit) -> dict[str, Any]:
    """Plain dictionaries, lists and numbers. Configurations are slot → value, controls by name."""
    made: dict[str, Any] = plain(audit)
    made["controls"] = {control["name"]: control for control in made["controls"]}
    made["claims"] = plain(judge_claims(audit))
    made["side_by_side"] = [compared(table) for table in side_by_side(audit)]
    return made


def plain(value: Any) -> Any:
    """A record and all that is in it as JSON knows it."""
    if isinstance(value, Configuration):
        return value.as_dict()
    if isinstance(value, Drift):
        return _drift(value)
    if is_dataclass(value) and not isinstance(value, type):
        return {field.name: plain(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [plain(item) for item in value]
    return str(value) if isinstance(value, Path) else value


def _drift(drift: Drift) -> dict[str, Any]:
    return {
        "verdict": drift.verdict,
        "not_attributable": drift.not_attributable,
        "ssim": {
            "mean": drift.ssim_mean,
            "min": drift.ssim_min,
            "worst_tile": drift.ssim_worst_tile,
        },
        "delta_e": {"mean": drift.delta_e_mean, "worst_tile": drift.delta_e_worst_tile},
        "phash_max": drift.phash_max,
        "max_abs": drift.max_abs,
        "more": plain(drift.more),
        "pictures": plain(drift.pictures),
    }
