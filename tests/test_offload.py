"""Offload: refused without a GPU; what lies where is looked at inside calls."""

import copy
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from diffusers import StableDiffusionPipeline

from core.diffusion import DiffusersEngine
from core.models import resolve
from core.optimizations import availability, configure, place, prepared_key
from core.optimizations.offload import OFFLOAD, Kind, Places
from core.platforms import detect
from core.record import SlotRecord
from core.request import Following, Job, Request
from core.run import SlotEffect
from tests.fake_engine import PLATFORM
from tests.tiny_run import tiny_job, tiny_run


def test_it_takes_a_device_with_memory_of_its_own() -> None:
    here = detect("cpu")
    gpu = replace(PLATFORM, capabilities={"own-memory": None})
    for option in OFFLOAD.options:
        assert availability(option, here) == "needs a GPU with memory of its own beside the CPU's"
        assert availability(option, gpu) is None
        key = prepared_key(configure({"offload": option.name}, PLATFORM))
        assert key == f"offload={option.name}"


def test_layers_weights_leave_the_pipeline(shared_pipeline: StableDiffusionPipeline) -> None:
    """accelerate fetches a layer's weights for its call; with a CPU as the device it cannot, so
    that computing is left to the test on a GPU."""
    pipeline = copy.deepcopy(shared_pipeline)
    place(pipeline, tiny_job(offload="sequential").configuration, torch.device("cpu"))
    assert {weight.device.type for weight in pipeline.unet.parameters()} == {"meta"}
    assert pipeline._execution_device.type == "cpu"


def test_parts_that_take_turns_on_a_cpu_give_the_same_bits_and_spare_nothing(
    tiny_model_path: Path, tmp_path: Path
) -> None:
    engine = DiffusersEngine(detect("cpu"), tmp_path)
    model = resolve(str(tiny_model_path), Path("unused"))
    asked = Request(prompt="a cat", model=model, width=64, height=64, num_inference_steps=2)
    runs = {}
    for value in ("off", "model"):
        settings = configure({"offload": value}, engine.platform)
        job = Job(id=value, requests=(asked,), configuration=settings)
        runs[value] = engine.run(job, Following())
        assert runs[value].outcome == "ok", runs[value].reason
    assert runs["model"].pictures == runs["off"].pictures
    pipeline = engine.pool.get(model, runs["model"].job.configuration)
    assert len(pipeline._all_hooks) == 3
    effect = runs["model"].effective.slot("offload")
    assert effect is not None
    assert effect.effect == "none"
    assert effect.reason == "the CPU computed, so there was no other memory to spare"


def test_on_a_cpu_it_says_that_nothing_was_spared(
    shared_pipeline: StableDiffusionPipeline,
) -> None:
    effect = tiny_run(shared_pipeline, tiny_job(offload="model")).effective.slot("offload")
    assert effect is not None
    assert effect.effect == "none"
    assert effect.reason == "the CPU computed, so there was no other memory to spare"
    assert effect.counts["unet_calls"] == effect.counts["unet_calls_beside_the_text_encoder"] == 2
    assert effect.counts["most_unet_bytes_on_the_device"] > 1e5


def seen(
    kind: Kind, *, encoder: str = "cpu", unet: str = "cpu", decoding: str = "cpu"
) -> SlotEffect:
    """As a GPU would show it, by weights that say where they lie: during the UNet's calls the text
    encoder and the UNet's own weights, and what of the UNet is there when the VAE decodes."""
    gpu = torch.device("cuda", 0)

    def part(device: str) -> Any:
        where = gpu if device == "cuda" else torch.device(device)
        return SimpleNamespace(parameters=lambda: [SimpleNamespace(nbytes=8, device=where)])

    pipeline: Any = SimpleNamespace(text_encoder=part(encoder), unet=part(unet))
    notes = SlotRecord("offload", kind)
    places = Places(pipeline, notes)
    places.unet(None, (SimpleNamespace(device=gpu),))
    pipeline.unet = part(decoding)
    places.vae(None, (SimpleNamespace(device=gpu),))
    places.conclude(kind)
    return notes.freeze()


def test_parts_that_take_turns_on_a_gpu_are_applied() -> None:
    assert seen("model", unet="cuda").effect == "applied"
    assert seen("sequential", unet="meta").effect == "applied"


@pytest.mark.parametrize(
    ("kind", "places", "reason"),
    [
        ("model", {"encoder": "cuda", "unet": "cuda"}, "the text encoder lay on the device"),
        ("model", {"unet": "cuda", "decoding": "cuda"}, "the UNet lay on the device while the VAE"),
        ("sequential", {"unet": "cuda"}, "8 bytes of the UNet's weights lay on the device"),
    ],
)
def test_parts_that_stay_on_a_gpu_are_found_out(
    kind: Kind, places: dict[str, str], reason: str
) -> None:
    effect = seen(kind, **places)
    assert effect.effect == "fell-back"
    assert effect.reason.startswith(reason)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("kind", ["model", "sequential"])
def test_on_a_gpu_it_acts_with_equal_bits_in_less_memory(
    tiny_model_path: Path, tmp_path: Path, kind: str
) -> None:
    asked = Request(prompt="a cat", model=resolve(str(tiny_model_path), Path("unused")))
    pictures, peaks = [], []
    for value in ("off", kind):
        engine = DiffusersEngine(detect(), tmp_path)
        settings = configure({"offload": value, "precision": "fp32"}, engine.platform)
        job = Job(id=value, requests=(asked,), configuration=settings)
        for _ in range(2):
            run = engine.run(job, Following())
            assert run.outcome == "ok", run.reason
        effect = run.effective.slot("offload")
        assert effect is None or effect.effect == "applied", effect
        pictures.append(run.pictures[0].pixels_sha256)
        peaks.append(run.memory.peak_bytes or 0)
        engine.pool.clear()
    assert pictures[0] == pictures[1]
    assert peaks[1] < peaks[0]
