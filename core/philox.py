"""Normal numbers as torch draws them on NVIDIA GPUs, on the CPU.

There the generator is Philox 4x32-10 (Salmon, Moraes, Dror and Shaw, "Parallel random numbers: as
easy as 1, 2, 3", 2011). Its key is the seed; its counter holds which of the generator's calls it is
and which element of the tensor. An element is the first of the two numbers that cuRAND's Box-Muller
transform makes of the first two words.

A GPU agrees up to rounding as long as it has a thread for every element. Of a larger tensor it
makes the later elements from words that are thrown away here. From which element on depends on the
GPU (by torch's formula from 36,864 on an RTX 4060); a 512 x 512 picture of Stable Diffusion 1.x has
16,384.
"""

import numpy as np
from numpy.typing import NDArray

Words = NDArray[np.uint64]
"""Words of 32 bits, each with room for a product."""

_ROUNDS = 10
_MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
_KEY_STEPS = (0x9E3779B9, 0xBB67AE85)
_WORD = 0xFFFFFFFF
_STEP = 2.0**-32
_ANGLE = float(np.float32(2 * np.pi)) * _STEP
"""cuRAND's constant is a float32; the products are not rounded to one here."""


def philox(counter: Words, key: int) -> Words:
    """Four random words for each column of a counter, (4, n); the key has 64 bits."""
    a, b, c, d = counter
    low, high = key & _WORD, key >> 32
    for _ in range(_ROUNDS):
        first, second = a * _MULTIPLIERS[0], c * _MULTIPLIERS[1]
        a, b = (second >> 32) ^ b ^ low, second & _WORD
        c, d = (first >> 32) ^ d ^ high, first & _WORD
        low, high = (low + _KEY_STEPS[0]) & _WORD, (high + _KEY_STEPS[1]) & _WORD
    return np.stack([a, b, c, d])


class PhiloxGenerator:
    """Draws what a `torch.Generator("cuda")` of this seed would; every call goes on where the last
    one ended."""

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._calls = 0

    def normal(self, count: int) -> NDArray[np.float32]:
        """The next `count` standard normal numbers."""
        counter = np.zeros((4, count), dtype=np.uint64)
        counter[0] = self._calls
        counter[2] = np.arange(count)
        self._calls += 1
        words = philox(counter, self._seed)
        radius = np.sqrt(-2 * np.log(words[0] * _STEP + _STEP / 2))
        angle = words[1] * _ANGLE + _ANGLE / 2
        numbers: NDArray[np.float32] = (radius * np.sin(angle)).astype(np.float32)
        return numbers
