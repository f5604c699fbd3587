import numpy as np
import pytest

from audit.metrics import (
    METRICS,
    Metric,
    Rgb,
    delta_e,
    delta_e_worst_tile,
    max_abs,
    measure,
    phash,
    ssim,
    ssim_worst_tile,
    tile_means,
)
from tests.audit_records import scene

SHAPE = (64, 96, 3)


def noise(seed: int) -> Rgb:
    return np.random.default_rng(seed).integers(0, 256, SHAPE, dtype=np.uint8)


def flat(*colour: int) -> Rgb:
    return np.full(SHAPE, colour, dtype=np.uint8)


def with_subject(seed: int, top: int = 24, left: int = 40) -> Rgb:
    """A flat background with a 16-pixel subject: a twenty-fourth of the picture."""
    picture = flat(200, 220, 210)
    picture[top : top + 16, left : left + 16] = scene(seed)[:16, :16]
    return picture


@pytest.mark.parametrize("metric", METRICS, ids=lambda metric: metric.name)
def test_equal_pictures_have_the_value_for_identical(metric: Metric) -> None:
    for picture in (noise(1), flat(0, 0, 0), flat(9, 200, 31), scene(1)):
        assert metric.function(picture, picture.copy()) == pytest.approx(metric.identical, abs=1e-9)


@pytest.mark.parametrize("metric", METRICS, ids=lambda metric: metric.name)
def test_every_metric_is_symmetric(metric: Metric) -> None:
    a, b = scene(1), scene(2)
    assert metric.function(a, b) == pytest.approx(metric.function(b, a), rel=1e-9)


@pytest.mark.parametrize("metric", METRICS, ids=lambda metric: metric.name)
def test_more_noise_is_never_better(metric: Metric) -> None:
    rng = np.random.default_rng(3)
    base, change = scene(3).astype(int), rng.integers(-30, 31, scene(3).shape)
    values = [
        metric.function(scene(3), np.clip(base + change * share // 4, 0, 255).astype(np.uint8))
        for share in (0, 1, 2, 4)
    ]
    assert values == sorted(values, reverse=metric.better == "higher")
    assert values[0] == pytest.approx(metric.identical)


@pytest.mark.parametrize("metric", METRICS, ids=lambda metric: metric.name)
@pytest.mark.parametrize(
    "wrong",
    [
        np.zeros((64, 96), np.uint8),
        np.zeros((64, 96, 4), np.uint8),
        np.zeros(SHAPE, np.float64),
        np.zeros((96, 64, 3), np.uint8),
    ],
    ids=["grey", "rgba", "float", "turned"],
)
def test_anything_but_two_equal_sized_rgb_pictures_is_refused(metric: Metric, wrong: Rgb) -> None:
    with pytest.raises(ValueError, match=r"uint8|sizes"):
        metric.function(flat(1, 2, 3), wrong)


def test_ssim_is_the_formula_of_the_paper_in_one_window() -> None:
    """At one pixel, with an explicit 11 × 11 gaussian window, straight from Wang 2004."""
    a, b = scene(4)[:11, :11], scene(5)[:11, :11]
    offsets = np.arange(-5, 6)
    row = np.exp(-(offsets**2) / (2 * 1.5**2))
    window = np.outer(row, row) / np.outer(row, row).sum()
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    expected = []
    for channel in range(3):
        x, y = a[..., channel].astype(float), b[..., channel].astype(float)
        mx, my = (window * x).sum(), (window * y).sum()
        vx, vy = (window * (x - mx) ** 2).sum(), (window * (y - my) ** 2).sum()
        cov = (window * (x - mx) * (y - my)).sum()
        expected.append(
            (2 * mx * my + c1) * (2 * cov + c2) / ((mx**2 + my**2 + c1) * (vx + vy + c2))
        )
    # 11 × 11 pixels have exactly one place where the window fits.
    assert ssim(a, b) == pytest.approx(np.mean(expected), rel=1e-9)


def test_ssim_uses_all_255_levels() -> None:
    """Of two flat pictures only the luminance term is left."""
    c1 = (0.01 * 255) ** 2
    expected = (2 * 100 * 120 + c1) / (100**2 + 120**2 + c1)
    assert ssim(flat(100, 100, 100), flat(120, 120, 120)) == pytest.approx(expected, rel=1e-9)


def test_another_subject_on_a_flat_background_hides_in_the_mean_but_not_in_the_worst_tile() -> None:
    a, b = with_subject(1), with_subject(2)
    assert ssim(a, b) > 0.9
    assert ssim_worst_tile(a, b) < 0.4
    assert delta_e(a, b) < 3
    assert delta_e_worst_tile(a, b) > 20


@pytest.mark.parametrize("place", [(16, 32), (24, 40), (19, 45)])
def test_the_same_damage_scores_the_same_wherever_it_is(place: tuple[int, int]) -> None:
    moved = (with_subject(1, *place), with_subject(2, *place))
    assert ssim_worst_tile(*moved) == pytest.approx(
        ssim_worst_tile(with_subject(1), with_subject(2))
    )
    assert delta_e_worst_tile(*moved) == pytest.approx(
        delta_e_worst_tile(with_subject(1), with_subject(2))
    )


def test_black_and_white_are_100_apart() -> None:
    assert delta_e(flat(0, 0, 0), flat(255, 255, 255)) == pytest.approx(100, abs=0.01)


def test_delta_e_of_a_published_pair_of_colours() -> None:
    """sRGB red and blue: CIEDE2000 52.88, as colour calculators give it."""
    assert delta_e(flat(255, 0, 0), flat(0, 0, 255)) == pytest.approx(52.88, abs=0.01)


def test_the_worst_tile_is_where_the_change_is() -> None:
    a = flat(90, 90, 90)
    b = a.copy()
    b[48:64, 80:96] = (90, 120, 90)
    share = (16 * 16) / (64 * 96)
    assert delta_e(a, b) == pytest.approx(share * delta_e_worst_tile(a, b))


def test_tiles_are_all_squares_of_16_pixels_inside_the_picture() -> None:
    values = np.random.default_rng(9).random((20, 40))
    means = tile_means(values)
    assert means.shape == (20 - 15, 40 - 15)
    assert means[0, 0] == pytest.approx(values[:16, :16].mean())
    assert means[3, 11] == pytest.approx(values[3:19, 11:27].mean())
    assert means[-1, -1] == pytest.approx(values[4:, 24:].mean())
    assert tile_means(values[:8, :8]) == pytest.approx(values[:8, :8].mean())


def test_max_abs_does_not_wrap_around() -> None:
    assert max_abs(flat(0, 10, 0), flat(255, 10, 0)) == 255
    assert max_abs(flat(3, 10, 0), flat(3, 9, 0)) == 1


def test_phash_sees_structure_and_not_colour() -> None:
    turned = scene(6)[::-1].copy()
    assert phash(scene(6), turned) > 10
    recoloured = scene(6)[..., [1, 1, 1]]
    assert phash(recoloured, scene(6)[..., [1, 1, 1]].copy()) == 0


def test_measure_has_every_metric_by_name() -> None:
    a, b = scene(7), scene(8)
    measured = measure(a, b)
    assert list(measured) == [metric.name for metric in METRICS]
    assert measured["ssim"] == ssim(a, b)


def test_a_remembered_map_belongs_to_its_pair() -> None:
    a, b = scene(1), scene(2)
    before = (ssim(a, b), delta_e(a, b))
    ssim(a, a), delta_e(a, a)
    assert (ssim(a, b), delta_e(a, b)) == before
    b[0:16, 0:16] = 0
    assert ssim_worst_tile(a, b) != pytest.approx(before[0])
    assert delta_e(a, b) > before[1]
