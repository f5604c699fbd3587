"""Audits for claims: rows straight from their figures, with what their runs counted."""

from dataclasses import replace

from audit.score import (
    Audit,
    AxisVerdict,
    Comparison,
    Determinism,
    Drift,
    DriftVerdict,
    MemoryRange,
    Score,
    TimeRatio,
)
from audit.verdicts import worst
from core.optimization import Configuration
from core.optimizations.attention.slicing import Shape
from core.run import Effective, SlotEffect
from tests.audit_records import PLATFORM, Records, made_score

SELF = Shape("unet", (4, 2, 1024, 32), 1024, 4)
MERGED = Shape("unet", (4, 2, 512, 32), 512, 4)
CROSS = Shape("unet", (4, 2, 1024, 32), 77, 4)


def audit_with(*rows: Score, device: str = "cpu", placebo: float = 0.005) -> Audit:
    """The baseline, its placebo and these rows."""
    again = replace(made_score(), placebo=True, time_ratio=time(1.0, placebo))
    whole = Records().audit()
    return replace(
        whole, platform=replace(PLATFORM, device=device), scores=(baseline(), again, *rows)
    )


def baseline() -> Score:
    return seen(made_score(memory_range=memory(1000)), {"attention": (SELF, CROSS)})


def time(median: float, width: float = 0.005, pairs: int = 12) -> TimeRatio:
    interval = (median * (1 - width), median * (1 + width))
    return TimeRatio(median=median, ci95=interval, pairs=pairs)


def memory(megabytes: int, spread: int = 1, runs: int = 6) -> MemoryRange:
    return MemoryRange(smallest=megabytes * 10**6, largest=(megabytes + spread) * 10**6, runs=runs)


def axis(verdict: Determinism, trials: int, failures: int = 0) -> AxisVerdict:
    bound = 1 - 0.05 ** (1 / trials) if trials and not failures else 1.0
    return AxisVerdict(verdict=verdict, trials=trials, failures=failures, p_upper95=bound)


def pictures(chosen: Configuration, *found: tuple[DriftVerdict, float]) -> Score:
    """A row whose pictures have these verdicts and SSIMs, one per prompt and seed."""
    compared = tuple(
        Comparison(
            prompt=f"prompt {cluster}",
            seed=cluster,
            baseline_picture=None,
            candidate_picture=None,
            verdict=verdict,
            ssim=ssim,
            ssim_worst_tile=ssim,
            delta_e_mean=1.0,
            delta_e_worst_tile=1.0,
            phash=0,
            max_abs=9,
        )
        for cluster, (verdict, ssim) in enumerate(found)
    )
    row = made_score(chosen)
    assert row.drift is not None
    drift: Drift = replace(
        row.drift, verdict=worst(verdict for verdict, _ in found), pictures=compared
    )
    return replace(row, drift=drift)


def seen(
    row: Score,
    shapes: dict[str, tuple[Shape, ...]] | None = None,
    operators: tuple[str, ...] = (),
    **counts: float,
) -> Score:
    """The row with these attention shapes and operators, and counts of its token merging and its
    minimum sigma."""
    slots = []
    for slot, value in row.configuration:
        found = dict(counts) if slot in ("token-merging", "min-sigma") else {}
        if shapes and slot == "attention":
            found = {str(shape): 3.0 for shape in shapes["attention"]}
        slots.append(
            SlotEffect(
                slot=slot,
                requested=value,
                effect="applied",
                counts=found,
                operators=dict.fromkeys(operators, 1) if slot == "attention" else {},
            )
        )
    return replace(row, effective=Effective(slots=tuple(slots), unet_calls=20))
