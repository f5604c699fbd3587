"""The record of an attention option says what really ran, also where an option is not itself."""

from dataclasses import replace

import pytest
import torch
from diffusers import StableDiffusionPipeline
from diffusers.models.attention_processor import Attention, AttnProcessor2_0, SlicedAttnProcessor

from core import optimizations
from core.optimization import Slot
from core.optimizations.attention import ATTENTION, BACKENDS, none, sdp
from core.optimizations.attention.auto import AUTO
from core.optimizations.attention.backend import Backend
from core.optimizations.attention.processor import optimization
from core.optimizations.attention.slicing import Cut
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
        return tiny_run(shared_pipeline, tiny_job(seeds=(1, 2), attention=backend.name))

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
def test_all_it_takes_goes_through_the_kernel(run_backend, backend: Backend) -> None:
    called = []

    def kernel(query, key, value, scale, cut):
        called.append((tuple(query.shape), key.shape[2]))
        return backend.kernel(query, key, value, scale, cut)

    effect = attention_of(run_backend(replace(backend, kernel=kernel)))
    assert effect.effect == "applied", effect.reason
    # Two levels with attention: 1 layer down, 2 up in each, and the middle; self and cross.
    assert effect.counts["unet_calls"] == 2 * (2 * 3 + 1) * 2
    assert effect.counts["calls"] == len(called)
    assert effect.counts["unet 4x2x256x16 on 77 keys"] == called.count(((4, 2, 256, 16), 77)) > 0
    in_vae = called.count(((2, 1, 64, 16), 64))
    assert effect.counts.get("vae_calls", 0) == in_vae == ("vae" in backend.parts)
    assert effect.counts.get("vae 2x1x64x16 on 64 keys", 0) == in_vae


@pytest.mark.usefixtures("fake_xformers")
@pytest.mark.parametrize("backend", BACKENDS, ids=lambda backend: backend.name)
def test_the_vae_is_taken_where_the_original_takes_it(
    shared_pipeline: StableDiffusionPipeline, backend: Backend
) -> None:
    """Left alone, its layers keep the very objects that they had, also while the job runs."""
    layers = [m for m in shared_pipeline.vae.modules() if isinstance(m, Attention)]
    before = [layer.processor for layer in layers]
    record = Record()
    with optimizations.applied(shared_pipeline, tiny_job(attention=backend.name), record):
        during = [layer.processor for layer in layers]
    assert [layer.processor for layer in layers] == before
    effect = record.freeze().slot("attention")
    assert effect is not None
    left = backend.name in ("split-v1", "invokeai")
    assert (during == before) == left
    assert effect.counts.get("vae_layers_left_alone", 0) == len(layers) * left
    assert ("leaves the VAE alone, which keeps AttnProcessor2_0" in effect.reason) == left


def test_xformers_is_given_its_own_layout(
    run_backend, fake_xformers: list[tuple[int, ...]]
) -> None:
    (xformers,) = (backend for backend in BACKENDS if backend.name == "xformers")
    effect = attention_of(run_backend(xformers))
    assert effect.effect == "applied"
    assert effect.operators["xformers_fake::attention"] == len(fake_xformers)
    assert (4, 256, 2, 16) in fake_xformers


@pytest.mark.parametrize(
    "backend", [b for b in BACKENDS if b.name != "sdp"], ids=lambda backend: backend.name
)
def test_an_alias_of_sdp_is_found_out(run_backend, backend: Backend) -> None:
    """On a CPU sdp-no-mem runs sdp's kernel, and it is the flag that is missed."""
    effect = attention_of(run_backend(replace(backend, kernel=sdp.kernel)))
    assert effect.effect == "fell-back"
    assert effect.reason


@pytest.mark.parametrize(
    "backend", [b for b in BACKENDS if b.name != "none"], ids=lambda backend: backend.name
)
def test_an_alias_of_none_is_found_out(run_backend, backend: Backend) -> None:
    """In sdp-no-mem, whose MATH kernel shows the same operators, it is the flag that is missed."""
    effect = attention_of(run_backend(replace(backend, kernel=none.kernel)))
    assert effect.effect == "fell-back"


@pytest.mark.parametrize(
    "backend", [b for b in BACKENDS if b.slicing], ids=lambda backend: backend.name
)
def test_an_option_that_does_not_cut_as_it_was_told_is_found_out(
    run_backend, backend: Backend
) -> None:
    """It runs its own operators, on the whole matrix at once."""

    def kernel(query, key, value, scale, cut):
        return backend.kernel(query, key, value, scale, Cut(10**6, 10**6, 10**6))

    effect = attention_of(run_backend(replace(backend, kernel=kernel)))
    assert effect.effect == "fell-back"
    assert "1 were seen" in effect.reason


def test_a_missing_operator_is_found_out(run_backend) -> None:
    """A kernel that runs nothing forbidden, and nothing of attention either."""
    effect = attention_of(run_backend(replace(none.NONE, kernel=lambda q, *rest: q.clone())))
    assert effect.effect == "fell-back"
    assert "baddbmm" in effect.reason


@pytest.mark.parametrize(
    "backend",
    [b for b in BACKENDS if b.slicing and b.slicing.of_free],
    ids=lambda backend: backend.name,
)
def test_what_fits_into_the_budget_is_not_cut(
    shared_pipeline: StableDiffusionPipeline, backend: Backend
) -> None:
    job = tiny_job(attention=backend.name, slice_budget="share:1")
    effect = attention_of(tiny_run(shared_pipeline, job))
    assert effect.effect == "none"
    assert "budget" in effect.reason
    assert effect.counts["slices"] == effect.counts["calls"]


def test_two_rows_are_not_cut_by_split_v1(shared_pipeline: StableDiffusionPipeline) -> None:
    job = tiny_job(guidance_scale=1, attention="split-v1")
    effect = attention_of(tiny_run(shared_pipeline, job))
    assert effect.effect == "none"
    assert "more than 2 rows" in effect.reason


@pytest.mark.parametrize(
    "backend", [b for b in BACKENDS if b.slicing], ids=lambda backend: backend.name
)
def test_slices_are_counted_and_keep_the_budget(run_backend, backend: Backend) -> None:
    effect = attention_of(run_backend(backend))
    assert effect.counts["slices"] >= 3 * effect.counts["calls"]
    assert effect.counts["largest_score_bytes"] == 4 * 2 * 256 * 256 * 4
    quarter = effect.counts["largest_score_bytes"] / 4
    assert effect.counts["largest_slice_bytes"] <= quarter
    if backend.name == "split-v1":
        assert "largest_budget_bytes" not in effect.counts
    else:
        assert effect.counts["largest_budget_bytes"] == quarter


def test_operators_are_multiplied_by_the_calls(run_backend) -> None:
    effect = attention_of(run_backend(none.NONE))
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
    names = [option.name for option in ATTENTION.options]
    assert names == [*(backend.name for backend in BACKENDS), AUTO.name]
