"""The record of an attention option says what really ran, also where an option is not itself."""

from dataclasses import replace

import pytest
import torch
from diffusers import StableDiffusionPipeline
from diffusers.models.attention_processor import Attention, AttnProcessor2_0, SlicedAttnProcessor

from core import optimizations
from core.optimization import Slot
from core.optimizations.attention import ATTENTION, BACKENDS, sdp, sub_quadratic
from core.optimizations.attention.backend import Backend
from core.optimizations.attention.processor import optimization
from core.record import Record
from core.run import SlotEffect
from tests.tiny_run import TinyResult, tiny_job, tiny_run


def attention_of(result: TinyResult) -> SlotEffect:
    effect = result.effective.slot("attention")
    assert effect is not None
    return effect


@pytest.fixture
def run_backend(shared_pipeline: StableDiffusionPipeline, monkeypatch: pytest.MonkeyPatch):
    """Run the tiny job with a backend that takes its namesake's place among the options."""

    def run(backend: Backend) -> TinyResult:
        slot = Slot(name="attention", label="", options=(optimization(backend),))
        monkeypatch.setattr(optimizations, "SLOTS", (slot,))
        return tiny_run(shared_pipeline, tiny_job(attention=backend.name))

    return run


def test_sdp_gives_the_bits_of_diffusers(shared_pipeline: StableDiffusionPipeline) -> None:
    layers = [m for m in shared_pipeline.unet.modules() if isinstance(m, Attention)]
    assert {type(layer.processor) for layer in layers} == {AttnProcessor2_0}
    plain = tiny_run(shared_pipeline, tiny_job())
    sdp_run = tiny_run(shared_pipeline, tiny_job(attention="sdp"))
    assert torch.equal(plain.latents, sdp_run.latents)
    assert torch.equal(plain.pixels, sdp_run.pixels)


@pytest.mark.usefixtures("fake_xformers")
@pytest.mark.parametrize("backend", BACKENDS, ids=lambda backend: backend.name)
def test_unet_and_vae_go_through_the_kernel(run_backend, backend: Backend) -> None:
    called = []

    def kernel(query, key, value, scale):
        called.append((tuple(query.shape), key.shape[2]))
        return backend.kernel(query, key, value, scale)

    effect = attention_of(run_backend(replace(backend, kernel=kernel)))
    assert effect.effect == "applied", effect.reason
    # Two levels with attention: 1 layer down, 2 up in each, and the middle; self and cross.
    assert effect.counts["unet_calls"] == 2 * (2 * 3 + 1) * 2
    assert effect.counts["vae_calls"] == 1
    assert effect.counts["calls"] == len(called)
    assert effect.counts["unet 2x2x256x16 on 77 keys"] == called.count(((2, 2, 256, 16), 77)) > 0
    assert called.count(((1, 1, 64, 16), 64)) == effect.counts["vae 1x1x64x16 on 64 keys"] == 1


def test_xformers_is_given_its_own_layout(
    run_backend, fake_xformers: list[tuple[int, ...]]
) -> None:
    (xformers,) = (backend for backend in BACKENDS if backend.name == "xformers")
    effect = attention_of(run_backend(xformers))
    assert effect.effect == "applied"
    assert effect.operators["xformers_fake::attention"] == len(fake_xformers)
    assert (2, 256, 2, 16) in fake_xformers


@pytest.mark.parametrize(
    "backend", [b for b in BACKENDS if b.name != "sdp"], ids=lambda backend: backend.name
)
def test_an_alias_of_sdp_is_found_out(run_backend, backend: Backend) -> None:
    """On a CPU sdp-no-mem runs sdp's kernel, and it is the flag that is missed."""
    effect = attention_of(run_backend(replace(backend, kernel=sdp.kernel)))
    assert effect.effect == "fell-back"
    assert effect.reason


def test_a_missing_operator_is_found_out(run_backend) -> None:
    """A kernel that runs nothing forbidden, and nothing of attention either."""
    (none,) = (backend for backend in BACKENDS if backend.name == "none")
    effect = attention_of(run_backend(replace(none, kernel=lambda q, k, v, scale: q.clone())))
    assert effect.effect == "fell-back"
    assert "baddbmm" in effect.reason


def test_what_fits_into_the_budget_is_not_cut(run_backend, monkeypatch) -> None:
    monkeypatch.setattr(sub_quadratic, "CPU_SHARE", 1)
    effect = attention_of(run_backend(sub_quadratic.SUB_QUADRATIC))
    assert effect.effect == "none"
    assert "budget" in effect.reason
    assert effect.counts["slices"] == effect.counts["calls"]


def test_slices_are_counted_and_keep_the_budget(run_backend) -> None:
    effect = attention_of(run_backend(sub_quadratic.SUB_QUADRATIC))
    assert effect.counts["slices"] >= 3 * effect.counts["calls"]
    assert effect.counts["largest_score_bytes"] == 2 * 2 * 256 * 256 * 4
    assert effect.counts["largest_budget_bytes"] == effect.counts["largest_score_bytes"] / 4
    assert effect.counts["largest_slice_bytes"] <= effect.counts["largest_budget_bytes"]


def test_operators_are_multiplied_by_the_calls(run_backend) -> None:
    (none,) = (backend for backend in BACKENDS if backend.name == "none")
    effect = attention_of(run_backend(none))
    assert effect.counts["calls_watched"] < effect.counts["calls"]
    assert effect.operators["_softmax"] == effect.counts["calls"]


def test_a_foreign_processor_is_left_alone(
    shared_pipeline: StableDiffusionPipeline, run_backend
) -> None:
    layer = next(m for m in shared_pipeline.unet.modules() if isinstance(m, Attention))
    former = layer.processor
    layer.set_processor(foreign := SlicedAttnProcessor(1))
    try:
        effect = attention_of(run_backend(sdp.SDP))
        assert layer.processor is foreign
    finally:
        layer.set_processor(former)
    assert effect.counts["layers_left_alone"] == 1


def test_without_a_call_there_is_no_effect(shared_pipeline: StableDiffusionPipeline) -> None:
    record = Record()
    with optimizations.applied(shared_pipeline, tiny_job(attention="sdp"), record):
        pass
    effect = record.freeze().slot("attention")
    assert effect is not None
    assert (effect.effect, bool(effect.reason)) == ("none", True)


def test_every_backend_is_an_option() -> None:
    assert [option.name for option in ATTENTION.options] == [backend.name for backend in BACKENDS]
