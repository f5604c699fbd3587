"""What a number of trials allows to be said: bounds, intervals and ties."""

import math
from collections.abc import Sequence

import numpy as np
from scipy.stats import beta, binom

from audit.score import TimeRatio

CONFIDENCE = 0.95
RESAMPLES = 2000
SAME = 0.02
"""Speeds within ±2 % are never told apart, whatever their intervals say: clocks, page caches and
memory layout move a process by that much."""
MIN_PAIRS = 6
"""Below 6 pairs no difference in speed is claimed: even if all of 5 agree in sign, chance alone
does that more than 5 % of the time (2 × 0.5⁵ = 6.3 %; 2 × 0.5⁶ = 3.1 %)."""


def failure_bound(trials: int, failures: int, confidence: float = CONFIDENCE) -> float:
    """The highest failure rate that still explains so few failures, one-sided.

    Clopper and Pearson, "The use of confidence or fiducial limits illustrated in the case of the
    binomial", Biometrika 26, 1934. Exact, never too narrow; for no failure it is 1 − 0.05^(1/n):
    45 % after 5 trials, 13.9 % after 20, 4.95 % after 59.
    """
    if not 0 <= failures <= trials:
        raise ValueError(f"{failures} failures of {trials} trials")
    if failures == trials:
        return 1.0
    return float(beta.ppf(confidence, failures + 1, trials - failures))


def share_interval(
    successes: int, trials: int, confidence: float = CONFIDENCE
) -> tuple[float, float]:
    """The shares that such a count does not contradict, two-sided; (0, 1) where nothing was tried.

    Clopper and Pearson's exact interval, like `failure_bound`: never too narrow.
    """
    if not 0 <= successes <= trials:
        raise ValueError(f"{successes} successes of {trials} trials")
    tail, failures = (1 - confidence) / 2, trials - successes
    low = float(beta.ppf(tail, successes, failures + 1)) if successes else 0.0
    high = float(beta.ppf(1 - tail, successes + 1, failures)) if failures else 1.0
    return low, high


def mcnemar(lost: int, won: int) -> float:
    """How often pairs that change by chance alone are split so unevenly, or more so.

    McNemar's test ("Note on the sampling error of the difference between correlated proportions or
    percentages", Psychometrika 12(2), 1947) in its exact form: of the pairs that changed, each goes
    either way like a coin. Two-sided; 1 where none changed.
    """
    return min(1.0, 2 * float(binom.cdf(min(lost, won), lost + won, 0.5)))


def time_ratio(
    sessions: Sequence[Sequence[tuple[float, float]]], seed: int = 0
) -> TimeRatio | None:
    """The ratio of two configurations' times, from (candidate, baseline) seconds by session.

    A pair ran in one block, on one request, seconds apart, so that what slows the machine down
    slows both. A session is one set of processes. The estimate is the median of the pairs' ratios;
    its interval resamples whole sessions and then pairs inside each (a bootstrap in two levels,
    after Kalibera and Jones, "Rigorous benchmarking in reasonable time", ISMM 2013), 2000 times
    with a fixed seed. None where there is no pair.

    With one session the luck of its processes (their memory layout, say) is not in the interval;
    the placebo, the same configuration in another process, shows how large that is. With few
    pairs the interval is somewhat too narrow: `tests/test_statistics.py` shows how often it covers
    the truth.
    """
    logs = [
        [math.log(candidate / base) for candidate, base in pairs] for pairs in sessions if pairs
    ]
    if not logs:
        return None
    sizes = np.array([len(session) for session in logs])
    table = np.full((len(logs), sizes.max()), np.nan)
    for row, session in enumerate(logs):
        table[row, : len(session)] = session
    rng = np.random.default_rng(seed)
    chosen = rng.integers(len(logs), size=(RESAMPLES, len(logs)))
    within = rng.random((RESAMPLES, len(logs), sizes.max())) * sizes[chosen][..., None]
    drawn = table[chosen[..., None], within.astype(int)]
    drawn[np.arange(sizes.max()) >= sizes[chosen][..., None]] = np.nan
    medians = np.nanmedian(drawn.reshape(RESAMPLES, -1), axis=1)
    low, high = np.exp(np.quantile(medians, (0.025, 0.975)))
    return TimeRatio(
        median=float(np.exp(np.nanmedian(table))),
        ci95=(float(low), float(high)),
        pairs=int(sizes.sum()),
    )


def median(values: Sequence[float]) -> float | None:
    return float(np.median(values)) if values else None


def spread(values: Sequence[float]) -> float | None:
    """Interquartile range ÷ median, how noisy repeats are; None for fewer than four values."""
    if len(values) < 4:
        return None
    low, middle, high = np.quantile(values, (0.25, 0.5, 0.75))
    return float((high - low) / middle)


def tied(a: TimeRatio, b: TimeRatio, placebo: TimeRatio | None) -> bool:
    """Whether these measurements cannot tell two configurations' speeds apart.

    So where there are too few pairs, where the intervals overlap, or where the medians are no
    farther apart than ±2 % or than the placebo, which is the baseline against itself, strays.
    """
    if min(a.pairs, b.pairs) < MIN_PAIRS:
        return True
    if a.ci95[0] <= b.ci95[1] and b.ci95[0] <= a.ci95[1]:
        return True
    return abs(math.log(a.median / b.median)) <= noise_floor(placebo)


def noise_floor(placebo: TimeRatio | None) -> float:
    """The log ratio below which a difference in time means nothing: ±2 %, or the placebo's."""
    floor = math.log(1 + SAME)
    if placebo is not None:
        floor = max(floor, *(abs(math.log(bound)) for bound in placebo.ci95))
    return floor
