import math

import numpy as np
import pytest

from audit.score import TimeRatio
from audit.statistics import (
    failure_bound,
    median,
    noise_floor,
    share_interval,
    spread,
    tied,
    time_ratio,
)


def ratio(middle: float, low: float, high: float, pairs: int = 12) -> TimeRatio:
    return TimeRatio(median=middle, ci95=(low, high), pairs=pairs)


def around(truth: float, rng: np.random.Generator, count: int) -> list[tuple[float, float]]:
    """Pairs whose ratio is `truth` but for heavy-tailed noise; the machine's speed wanders."""
    speed = np.exp(rng.normal(0, 0.3, count))
    noise = np.exp(0.03 * rng.standard_t(4, count))
    return [(truth * s * n, s) for s, n in zip(speed.tolist(), noise.tolist(), strict=True)]


@pytest.mark.parametrize(
    ("trials", "bound"), [(5, 0.4507), (20, 0.1391), (59, 0.0495), (299, 0.0100)]
)
def test_no_failure_is_still_a_bound(trials: int, bound: float) -> None:
    assert failure_bound(trials, 0) == pytest.approx(bound, abs=5e-5)
    assert failure_bound(trials, 0) == pytest.approx(1 - 0.05 ** (1 / trials))


def test_the_bound_is_where_so_few_failures_become_a_5_percent_event() -> None:
    p = failure_bound(20, 3)
    tail = sum(math.comb(20, k) * p**k * (1 - p) ** (20 - k) for k in range(4))
    assert tail == pytest.approx(0.05)


def test_all_failures_leave_everything_open() -> None:
    assert failure_bound(6, 6) == 1.0
    assert failure_bound(0, 0) == 1.0
    with pytest.raises(ValueError, match="7 failures of 6"):
        failure_bound(6, 7)


def test_a_shares_interval_leaves_2_5_percent_on_either_side() -> None:
    low, high = share_interval(15, 20)
    chance = [
        [math.comb(20, k) * p**k * (1 - p) ** (20 - k) for k in range(21)] for p in (low, high)
    ]
    assert sum(chance[0][15:]) == pytest.approx(0.025)
    assert sum(chance[1][:16]) == pytest.approx(0.025)
    assert share_interval(6, 6) == (pytest.approx(0.025 ** (1 / 6)), 1.0)
    assert share_interval(0, 6) == (0.0, pytest.approx(1 - 0.025 ** (1 / 6)))
    assert share_interval(0, 0) == (0.0, 1.0)
    with pytest.raises(ValueError, match="7 successes of 6"):
        share_interval(7, 6)


def test_the_ratio_is_paired_so_a_slow_machine_does_not_matter() -> None:
    found = time_ratio([[(0.7 * s, s) for s in (1.0, 5.0, 0.2, 9.0, 1.1, 3.0)]])
    assert found is not None
    assert found.median == pytest.approx(0.7)
    assert found.ci95 == pytest.approx((0.7, 0.7))
    assert found.pairs == 6


def test_the_median_ignores_one_wild_pair() -> None:
    pairs = [(0.8, 1.0)] * 8 + [(80.0, 1.0)]
    found = time_ratio([pairs])
    assert found is not None
    assert found.median == pytest.approx(0.8)


def test_the_interval_covers_the_truth_as_often_as_it_says() -> None:
    rng = np.random.default_rng(5)
    hits = 0
    for _ in range(200):
        found = time_ratio([around(0.8, rng, 12)])
        assert found is not None
        hits += found.ci95[0] <= 0.8 <= found.ci95[1]
    assert 0.88 <= hits / 200 <= 0.99


def test_sessions_that_disagree_widen_the_interval() -> None:
    rng = np.random.default_rng(6)
    low, high = around(0.75, rng, 12), around(0.85, rng, 12)
    together, apart = time_ratio([low + high]), time_ratio([low, high])
    assert together is not None
    assert apart is not None
    assert apart.pairs == together.pairs == 24
    assert apart.median == pytest.approx(together.median)
    assert apart.ci95[0] < together.ci95[0]
    assert apart.ci95[1] > together.ci95[1]


def test_sessions_of_different_length_are_each_drawn_from_their_own_pairs() -> None:
    found = time_ratio([[(2.0, 1.0)], [(2.0, 1.0)] * 7, []])
    assert found is not None
    assert found.median == pytest.approx(2)
    assert found.ci95 == pytest.approx((2, 2))
    assert found.pairs == 8


def test_the_same_pairs_give_the_same_interval() -> None:
    pairs = around(0.9, np.random.default_rng(7), 9)
    assert time_ratio([pairs]) == time_ratio([pairs])


def test_without_pairs_there_is_no_ratio() -> None:
    assert time_ratio([]) is None
    assert time_ratio([[], []]) is None
    assert median([]) is None
    assert median([3.0, 1.0, 2.0]) == 2.0


def test_spread_is_the_middle_half_relative_to_the_median() -> None:
    assert spread([1.0, 2.0, 3.0]) is None
    assert spread([8.0, 9.0, 10.0, 11.0, 12.0]) == pytest.approx(0.2)


def test_overlapping_intervals_are_a_tie() -> None:
    assert tied(ratio(0.80, 0.75, 0.85), ratio(0.90, 0.84, 0.95), None)
    assert not tied(ratio(0.80, 0.78, 0.82), ratio(0.90, 0.88, 0.92), None)


def test_two_percent_are_a_tie_however_narrow_the_intervals() -> None:
    assert tied(ratio(1.000, 0.999, 1.001), ratio(0.985, 0.984, 0.986), None)
    assert not tied(ratio(1.000, 0.999, 1.001), ratio(0.975, 0.974, 0.976), None)


def test_what_the_placebo_strays_is_a_tie_in_either_direction() -> None:
    a, b = ratio(1.0, 1.0, 1.0), ratio(0.93, 0.92, 0.94)
    assert not tied(a, b, ratio(1.0, 0.99, 1.01))
    assert tied(a, b, ratio(1.04, 0.99, 1.09))
    assert tied(b, a, ratio(0.96, 0.90, 1.00))


def test_too_few_pairs_are_a_tie() -> None:
    far = ratio(0.5, 0.49, 0.51, pairs=5)
    assert tied(far, ratio(1, 1, 1), None)
    assert not tied(ratio(0.5, 0.49, 0.51, pairs=6), ratio(1, 1, 1), None)


def test_the_noise_floor_is_two_percent_or_the_placebo() -> None:
    assert math.exp(noise_floor(None)) == pytest.approx(1.02)
    assert math.exp(noise_floor(ratio(1, 0.999, 1.001))) == pytest.approx(1.02)
    assert math.exp(noise_floor(ratio(1, 0.8, 1.1))) == pytest.approx(1.25)
