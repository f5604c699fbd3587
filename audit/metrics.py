"""How far two pictures are apart: plain functions on uint8 RGB arrays (height, width, 3).

A new metric is one function here and one line in `METRICS`; scoring, the report and the JSON take
it from there. All are symmetric, and each has the value `Metric.identical` exactly where the two
pictures are equal.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal

import imagehash
import numpy as np
from numpy.typing import NDArray
from PIL import Image
from skimage.color import deltaE_ciede2000, rgb2lab
from skimage.metrics import structural_similarity

Rgb = NDArray[np.uint8]
"""One picture: (height, width, 3), uint8, sRGB."""

TILE = 16
"""Side in pixels of the squares whose worst one is reported, at any place. A mean over the picture
forgives a small wrong place: a wholly different subject on a flat background still scores above
0.9. On a fixed grid the same damage would score better where it happens to straddle four tiles."""


@dataclass(frozen=True, kw_only=True)
class Metric:
    name: str
    label: str
    unit: str
    better: Literal["higher", "lower"]
    identical: float
    """Its value for two equal pictures."""
    function: Callable[[Rgb, Rgb], float]


def ssim(a: Rgb, b: Rgb) -> float:
    """Mean structural similarity, 11-pixel gaussian window with sigma 1.5, 255 levels.

    Wang, Bovik, Sheikh, Simoncelli, "Image quality assessment: from error visibility to structural
    similarity", IEEE Transactions on Image Processing 13(4), 2004. The window, its sigma and the
    population covariance are what scikit-image names as matching that paper; like the paper, the
    mean leaves out the 5 pixels at the border where the window does not fit. Averaged over R, G
    and B. The constants scale with the number of levels, so a wrong `data_range` would flatter.
    """
    return _ssim(a, b)[0]


def ssim_worst_tile(a: Rgb, b: Rgb) -> float:
    """The lowest mean SSIM of any 16 × 16 pixels: the place that changed most."""
    return float(tile_means(_ssim(a, b)[1]).min())


def delta_e(a: Rgb, b: Rgb) -> float:
    """Mean CIEDE2000 colour difference; about 1 is the least a trained eye can see side by side.

    Sharma, Wu, Dalal, "The CIEDE2000 color-difference formula", Color Research & Application
    30(1), 2005. sRGB is taken to CIELAB with the D65 white point and the 2° observer.
    """
    return float(_delta_e(a, b).mean())


def delta_e_worst_tile(a: Rgb, b: Rgb) -> float:
    """The highest mean CIEDE2000 of any 16 × 16 pixels."""
    return float(tile_means(_delta_e(a, b)).max())


def phash(a: Rgb, b: Rgb) -> float:
    """Bits that differ, of 64, between the perceptual hashes of the two pictures.

    Zauner, "Implementation and benchmarking of perceptual image hash functions", 2010, as
    imagehash computes it: signs of the lowest 8 × 8 DCT coefficients of a 32-pixel grey copy.
    Blind to colour, and coarse on flat pictures: shown, but no gate rests on it.
    """
    _check(a, b)
    return float(imagehash.phash(Image.fromarray(a)) - imagehash.phash(Image.fromarray(b)))


def max_abs(a: Rgb, b: Rgb) -> float:
    """The largest difference of any channel of any pixel, in levels of 255."""
    _check(a, b)
    return float(np.abs(a.astype(np.int16) - b.astype(np.int16)).max())


METRICS = (
    Metric(
        name="ssim",
        label="SSIM",
        unit="",
        better="higher",
        identical=1.0,
        function=ssim,
    ),
    Metric(
        name="ssim_worst_tile",
        label="SSIM, lowest 16 px tile",
        unit="",
        better="higher",
        identical=1.0,
        function=ssim_worst_tile,
    ),
    Metric(
        name="delta_e_mean",
        label="ΔE2000",
        unit="ΔE",
        better="lower",
        identical=0.0,
        function=delta_e,
    ),
    Metric(
        name="delta_e_worst_tile",
        label="ΔE2000, worst 16 px tile",
        unit="ΔE",
        better="lower",
        identical=0.0,
        function=delta_e_worst_tile,
    ),
    Metric(
        name="phash",
        label="pHash distance",
        unit="of 64 bits",
        better="lower",
        identical=0.0,
        function=phash,
    ),
    Metric(
        name="max_abs",
        label="Largest difference",
        unit="of 255 levels",
        better="lower",
        identical=0.0,
        function=max_abs,
    ),
)


def measure(a: Rgb, b: Rgb) -> dict[str, float]:
    """Every metric by name."""
    return {metric.name: metric.function(a, b) for metric in METRICS}


def tile_means(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Mean of every 16 × 16 pixels of a (height, width) map that lie inside it, by summed area."""
    height, width = (min(TILE, side) for side in values.shape)
    areas = np.pad(values.cumsum(axis=0).cumsum(axis=1), ((1, 0), (1, 0)))
    sums = (areas[height:, width:] - areas[:-height, width:] - areas[height:, :-width]) + areas[
        :-height, :-width
    ]
    return np.asarray(sums / (height * width), dtype=np.float64)


def _check(a: Rgb, b: Rgb) -> None:
    for picture in (a, b):
        if picture.dtype != np.uint8 or picture.ndim != 3 or picture.shape[2] != 3:
            raise ValueError(
                f"a picture is uint8 (height, width, 3), not {picture.dtype} {picture.shape}"
            )
    if a.shape != b.shape:
        raise ValueError(f"pictures of different sizes cannot be compared: {a.shape}, {b.shape}")


def _ssim(a: Rgb, b: Rgb) -> tuple[float, NDArray[np.float64]]:
    _check(a, b)
    return _ssim_of(a.tobytes(), b.tobytes(), a.shape)


def _delta_e(a: Rgb, b: Rgb) -> NDArray[np.float64]:
    _check(a, b)
    return _delta_e_of(a.tobytes(), b.tobytes(), a.shape)


@lru_cache(maxsize=1)
def _ssim_of(a: bytes, b: bytes, shape: tuple[int, ...]) -> tuple[float, NDArray[np.float64]]:
    """Mean and map, kept for one pair: two metrics read the same map."""
    mean, full = structural_similarity(
        *_arrays(a, b, shape),
        gaussian_weights=True,
        sigma=1.5,
        use_sample_covariance=False,
        data_range=255,
        channel_axis=-1,
        full=True,
    )
    return float(mean), full.mean(axis=-1)


@lru_cache(maxsize=1)
def _delta_e_of(a: bytes, b: bytes, shape: tuple[int, ...]) -> NDArray[np.float64]:
    first, second = (rgb2lab(picture) for picture in _arrays(a, b, shape))
    difference = deltaE_ciede2000(first, second)
    return np.asarray(difference, dtype=np.float64)


def _arrays(a: bytes, b: bytes, shape: tuple[int, ...]) -> tuple[Any, Any]:
    return tuple(np.frombuffer(data, np.uint8).reshape(shape) for data in (a, b))  # type: ignore[return-value]
