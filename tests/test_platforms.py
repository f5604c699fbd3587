"""What a machine can do: tried, not assumed; and a fingerprint that moves when pixels could."""

import dataclasses

import pytest
import torch

from core import platforms
from core.optimizations import OPTIMIZATIONS, availability
from core.platforms import CAPABILITIES, Platform, detect


@pytest.fixture(scope="module")
def here() -> Platform:
    return detect("cpu")


def test_every_capability_was_tried_and_says_why_not(here: Platform) -> None:
    assert set(here.capabilities) == {name for name, _ in CAPABILITIES}
    assert here.capabilities["float32"] is None
    assert here.capabilities["cuda"] == "needs an NVIDIA or AMD GPU that torch can use"
    assert here.why_not(frozenset({"float32"})) is None
    assert here.why_not(frozenset({"float32", "cuda"})) == here.capabilities["cuda"]
    assert "does not know" in (here.why_not(frozenset({"teleport"})) or "")


def test_a_probe_that_raises_is_a_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(device: torch.device) -> None:
        raise RuntimeError("this kernel was not built\nfor your card")

    monkeypatch.setattr(platforms, "CAPABILITIES", (("tensor-cores", broken),))
    assert detect("cpu").capabilities == {"tensor-cores": "this kernel was not built"}


@pytest.mark.parametrize(
    "change",
    [
        {"device_name": "another"},
        {"threads": 64},
        {"instruction_set": "NEON"},
        {"system": "Darwin arm64"},
        {"versions": {"torch": "2.14.0"}},
    ],
)
def test_the_fingerprint_moves_with_whatever_could_move_pixels(
    here: Platform, change: dict[str, object]
) -> None:
    other = dataclasses.replace(here, **change)  # type: ignore[arg-type]
    assert other.fingerprint != here.fingerprint
    assert dataclasses.replace(here).fingerprint == here.fingerprint


def test_pinning_threads_does_not_make_another_platform(here: Platform) -> None:
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        assert detect("cpu", threads=before).fingerprint == here.fingerprint
    finally:
        torch.set_num_threads(before)


def test_what_needs_cuda_is_refused_on_a_fake_machine_without_it(here: Platform) -> None:
    unable = {name: "this machine is made of cheese" for name, _ in CAPABILITIES}
    cheese = dataclasses.replace(here, capabilities=unable)
    refused = {o.name for o in OPTIMIZATIONS if o.needs}
    assert refused >= {"xformers", "bf16"}
    for optimization in OPTIMIZATIONS:
        if optimization.needs:
            assert availability(optimization, cheese) == "this machine is made of cheese"


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_gpu_is_found_and_measured() -> None:
    platform = detect()
    assert platform.device.startswith("cuda")
    assert platform.dtype == "float16"
    assert platform.capabilities["cuda"] is None
    assert platform.memory_bytes > 1e9
