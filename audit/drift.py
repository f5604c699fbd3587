"""How far a configuration's pictures are from the baseline's."""

from collections.abc import Sequence
from dataclasses import fields, replace

import numpy as np

from audit.metrics import METRICS, measure
from audit.pictures import LoadPicture, pixels
from audit.score import Comparison, Drift, Gate
from audit.verdicts import GATES, drift_verdict, not_attributable, rank, worst
from core.run import Picture

_FIELDS = {field.name for field in fields(Comparison)}


def compare(
    baseline: Picture, candidate: Picture, load: LoadPicture, gates: tuple[Gate, ...] = GATES
) -> Comparison:
    """One picture against the baseline's picture of the same request.

    Equal digests are compared without opening a file. Raises OSError where a file is missing and
    ValueError where one is not the picture that was recorded, or has another size.
    """
    if baseline.pixels_sha256 == candidate.pixels_sha256:
        values = {metric.name: metric.identical for metric in METRICS}
    else:
        values = measure(pixels(baseline, load), pixels(candidate, load))
    return Comparison(
        prompt=baseline.request.prompt,
        seed=candidate.request.seed,
        baseline_picture=baseline.path,
        candidate_picture=candidate.path,
        verdict=drift_verdict(values, gates),
        ssim=values["ssim"],
        ssim_worst_tile=values["ssim_worst_tile"],
        delta_e_mean=values["delta_e_mean"],
        delta_e_worst_tile=values["delta_e_worst_tile"],
        phash=int(values["phash"]),
        max_abs=int(values["max_abs"]),
        more={name: value for name, value in values.items() if name not in _FIELDS},
    )


def drift(comparisons: Sequence[Comparison], nudge: Drift | None = None) -> Drift | None:
    """All comparisons of one row together, None where there is none.

    `nudge` is the drift of the one-ULP control, which decides what is not attributable.
    """
    if not comparisons:
        return None
    total = Drift(
        verdict=worst(c.verdict for c in comparisons),
        not_attributable=False,
        ssim_mean=float(np.mean([c.ssim for c in comparisons])),
        ssim_min=min(c.ssim for c in comparisons),
        ssim_worst_tile=min(c.ssim_worst_tile for c in comparisons),
        delta_e_mean=float(np.mean([c.delta_e_mean for c in comparisons])),
        delta_e_worst_tile=max(c.delta_e_worst_tile for c in comparisons),
        phash_max=max(c.phash for c in comparisons),
        max_abs=max(c.max_abs for c in comparisons),
        pictures=tuple(comparisons),
        more={
            metric.name: (min if metric.better == "higher" else max)(
                c.more[metric.name] for c in comparisons
            )
            for metric in METRICS
            if metric.name not in _FIELDS and all(metric.name in c.more for c in comparisons)
        },
    )
    return replace(total, not_attributable=not_attributable(total, nudge))


def worst_first(drift: Drift) -> list[Comparison]:
    """Pictures in the order a sceptic wants to see them."""
    return sorted(drift.pictures, key=lambda c: (-rank(c.verdict), c.ssim_worst_tile, c.ssim))
