"""NVIDIA's random numbers on the CPU, against published values."""

import numpy as np
import pytest

from core.philox import PhiloxGenerator, philox

ONES = 0xFFFFFFFF


@pytest.mark.parametrize(
    ("counter", "key", "words"),
    [
        ((0, 0, 0, 0), 0, (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
        ((ONES,) * 4, 2**64 - 1, (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
        (
            (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
            0x299F31D0_A4093822,
            (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
        ),
    ],
)
def test_the_known_answers_of_random123(
    counter: tuple[int, ...], key: int, words: tuple[int, ...]
) -> None:
    """`philox4x32 10` of the file kat_vectors in the authors' own library."""
    columns = np.array([counter, counter], dtype=np.uint64).T
    assert philox(columns, key).T.tolist() == [list(words)] * 2


TWELVE = """
-0.92466259 -0.42534415 -2.6438457   0.14518388
-0.12086647 -0.57972564 -0.62285122 -0.32838709
-1.07454231 -0.36314407 -1.67105067  2.26550497
"""
"""`torch.randn` on CUDA with seed 0, as AUTOMATIC1111's `rng_philox.py` quotes it."""

PRINTED = """
-0.9247 -0.4253 -2.6438  0.1452 -0.1209 -0.5797 -0.6229 -0.3284
-1.0745 -0.3631 -1.6711  2.2655  0.3117 -0.1842  1.2866  1.1820
-0.1271  1.2169  1.4353  1.0605 -0.4941 -1.4244 -0.7244 -1.2973
 0.0697 -0.0074  1.8969  0.6878 -0.0779 -0.8373  1.3506 -0.2879
-0.5965 -0.3283 -0.9086 -0.8059 -0.7407 -0.0504  0.5435  1.5150
 0.0141  0.4532  1.6349  0.7124 -0.1806  1.0252 -1.4622 -0.7554
-0.1836  0.3824  0.3918 -0.0830  0.8971 -1.1123  0.1116  0.4863
-0.5499 -0.3231 -0.5469  0.9049  0.2837  0.1210  0.4730 -1.0823
"""
"""An 8 x 8 tensor of seed 0, as torch printed it on a GPU of compute capability 7.5 in somebody's
published notes on fused kernels."""


def test_the_numbers_are_those_that_torch_draws_on_cuda() -> None:
    for published, rounding in ((TWELVE, 5e-7), (PRINTED, 5.1e-5)):
        numbers = np.array([float(number) for number in published.split()])
        assert PhiloxGenerator(0).normal(len(numbers)) == pytest.approx(numbers, abs=rounding)


def test_the_next_call_goes_on_and_another_seed_is_other_numbers() -> None:
    generator, again = PhiloxGenerator(2**40 + 3), PhiloxGenerator(2**40 + 3)
    first, second = generator.normal(64), generator.normal(64)
    assert np.array_equal(first, again.normal(64))
    assert np.array_equal(second, again.normal(64))
    others = [second, PhiloxGenerator(3).normal(64), PhiloxGenerator(2**40 + 4).normal(64)]
    assert all(abs(np.corrcoef(first, other)[0, 1]) < 0.5 for other in others)


def test_the_numbers_are_normal() -> None:
    numbers = PhiloxGenerator(11).normal(200_000)
    assert numbers.dtype == np.float32
    assert numbers.mean() == pytest.approx(0, abs=0.01)
    assert numbers.std() == pytest.approx(1, abs=0.01)
    assert (np.abs(numbers) < 1.959964).mean() == pytest.approx(0.95, abs=0.002)
