"""An audit as the JSON document that other programs read; its names are kept between versions."""

from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

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


def read_document(content: Mapping[str, Any]) -> Audit:
    """The audit that `document` was given; claims and comparisons are not read, they follow from
    it. Raises ValueError where the content is no such document.
    """
    try:
        audit = {**content, "controls": list(content["controls"].values())}
        audit["scores"] = [_with_drift(_with_settings(row)) for row in content["scores"]]
        audit["controls"] = [_with_drift(control) for control in audit["controls"]]
        audit["recommendations"] = {
            goal: _with_settings(answer) for goal, answer in content["recommendations"].items()
        }
        return TypeAdapter(Audit).validate_python(audit)
    except (AttributeError, KeyError, TypeError, ValidationError) as error:
        raise ValueError("this is not what `seedproof audit --json` writes") from error


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


def _with_settings(part: Mapping[str, Any]) -> dict[str, Any]:
    """`configuration` as the record has it."""
    settings = part["configuration"]
    made = None if settings is None else {"settings": tuple(settings.items())}
    return {**part, "configuration": made}


def _with_drift(part: Mapping[str, Any]) -> dict[str, Any]:
    """`drift` as the record has it: without the groups by metric."""
    if (drift := part["drift"]) is None:
        return dict(part)
    flat = {
        **drift,
        **{f"ssim_{name}": value for name, value in drift["ssim"].items()},
        **{f"delta_e_{name}": value for name, value in drift["delta_e"].items()},
    }
    return {**part, "drift": flat}
