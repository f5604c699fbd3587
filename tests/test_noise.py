"""Initial noise: one generator per picture, digests over raw bytes."""

import hashlib
import math

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


def test_every_source_draws_from_its_seed_alone() -> None:
    cpu = torch.device("cpu")
    for source in noise.SOURCES:
        alone = noise.initial_noise(noise.generators([7], source, cpu), SHAPE)
        together = noise.initial_noise(noise.generators([3, 7], source, cpu), SHAPE)
        assert alone.dtype == torch.float32
        assert torch.equal(alone[0], together[1])
        assert torch.equal(alone, drawn(7)) == (source != "NV")


def test_the_device_draws_itself_only_where_it_is_a_cuda_device(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    places, generator = [], torch.Generator

    def placed(device: torch.device) -> torch.Generator:
        places.append(device.type)
        return generator()

    monkeypatch.setattr(torch, "Generator", placed)
    for source in ("CPU", "device"):
        for kind in ("cpu", "cuda", "mps"):
            noise.generators([1], source, torch.device(kind))  # type: ignore[arg-type]
    assert places == ["cpu", "cpu", "cpu", "cpu", "cuda", "cpu"]


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_an_nvidia_gpu_draws_what_is_computed_for_it() -> None:
    device = torch.device("cuda")
    gpu = noise.initial_noise(noise.generators([5], "device", device), (4, 64, 64))
    computed = noise.initial_noise(noise.generators([5], "NV", device), (4, 64, 64))
    assert torch.allclose(gpu, computed, atol=1e-5)


def test_a_variation_goes_along_the_arc_between_two_noises() -> None:
    """Each column stays in the plane of both, as long as both are long, and is turned by the
    strength's part of the angle between them."""
    own, other = drawn(1, 2).double()
    for strength in (0.25, 0.5, 0.9):
        varied = noise.between(own, other, strength)
        for channel, column in ((0, 0), (3, 5)):
            a, b, mixed = (one[channel, :, column] for one in (own, other, varied))
            both = torch.stack([a, b], dim=1)
            parts = torch.linalg.lstsq(both, mixed[:, None]).solution
            assert torch.allclose(both @ parts, mixed[:, None])
            first, second = parts.flatten().tolist()
            angle = math.acos(float(a @ b / a.norm() / b.norm()))
            along, across = first + second * math.cos(angle), second * math.sin(angle)
            assert math.hypot(along, across) == pytest.approx(1)
            assert math.atan2(across, along) == pytest.approx(strength * angle)
    assert torch.allclose(noise.between(own, other, 0.0), own)
    assert torch.allclose(noise.between(own, other, 1.0), other)
    assert torch.allclose(noise.between(own, own, 0.3), own)


def test_a_variation_is_as_large_as_noise() -> None:
    """Half-way on a straight line the deviation would be 0.71."""
    own, other = noise.initial_noise(noise.generators([1, 2]), (4, 64, 64))
    assert noise.between(own, other, 0.5).std().item() == pytest.approx(1, abs=0.02)


@pytest.mark.parametrize("name", ["nv", " NV", "Device", "cpu"])
def test_a_source_is_taken_as_people_write_it(name: str) -> None:
    assert noise.source(name).lower() == name.strip().lower()
    with pytest.raises(ValueError, match="Unknown noise source 'GPU': choose one of CPU, device"):
        noise.source("GPU")


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
