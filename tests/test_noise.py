"""Initial noise: one generator per picture, digests over raw bytes."""

import hashlib

import numpy as np
import pytest
import torch

from core import noise

SHAPE = (4, 8, 8)


def drawn(*seeds: int) -> torch.Tensor:
    return noise.initial_noise(noise.generators(seeds), SHAPE)


def test_neighbours_do_not_change_a_pictures_noise() -> None:
    alone = drawn(7)
    together = drawn(3, 7, 11)
    assert torch.equal(alone[0], together[1])
    assert not torch.equal(together[0], together[1])


def test_noise_is_what_torch_draws_from_a_seeded_generator() -> None:
    expected = torch.randn((1, *SHAPE), generator=torch.Generator().manual_seed(100))
    assert torch.equal(drawn(100), expected)


def test_the_global_generator_is_left_alone() -> None:
    before = torch.random.get_rng_state()
    drawn(1, 2)
    assert torch.equal(before, torch.random.get_rng_state())


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_nudge_moves_one_element_of_each_picture_by_one_ulp(dtype: torch.dtype) -> None:
    latents = drawn(1, 2).to(dtype)
    moved = noise.nudge(latents, 5)
    changed = (moved != latents).flatten(1)
    assert changed.sum(1).tolist() == [1, 1]
    assert changed[:, 5].all()
    integers = {torch.float32: torch.int32, torch.bfloat16: torch.int16}[dtype]
    steps = moved.view(integers).int() - latents.view(integers).int()
    assert steps.abs().max().item() == 1


def test_a_nudge_outside_the_picture_is_refused() -> None:
    with pytest.raises(ValueError, match="between 0 and 255, not 256"):
        noise.nudge(drawn(1), 256)


def test_a_digest_covers_the_bytes_in_the_tensors_own_dtype() -> None:
    tensor = torch.arange(6, dtype=torch.float32).reshape(2, 3)
    expected = hashlib.sha256(np.arange(6, dtype="<f4").tobytes()).hexdigest()
    assert noise.digest(tensor) == expected
    assert noise.digest(tensor.t().contiguous()) != expected
    assert noise.digest(tensor.to(torch.bfloat16)) != expected
