"""Every field of a request acts and its record says so, or says why not, or it is refused."""

import hashlib
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import StableDiffusionPipeline

from audit.schedule import expand
from core import noise
from core.clip_skip import skipping
from core.diffusion import DiffusersEngine
from core.models import check, resolve
from core.optimizations import configure
from core.platforms import detect
from core.record import Record
from core.request import Following, Job, Request
from core.run import Effective, Run
from tests.fake_engine import PLATFORM
from tests.test_plan import EVERYTHING
from tests.test_samplers import NOISE_LEVELS, Watched

ACTING: dict[str, tuple[str, dict[str, Any]]] = {
    "schedule": ("schedule", {"schedule": "Karras"}),
    "noise_source": ("noise-source", {"noise_source": "NV"}),
    "variation_seed": ("variation", {"variation_seed": 3, "variation_strength": 0.4}),
    "variation_strength": ("variation", {"variation_seed": 3, "variation_strength": 0.7}),
    "eta_noise_seed_delta": ("eta-noise-seed-delta", {"eta_noise_seed_delta": 31337}),
    "clip_skip": ("clip-skip", {"clip_skip": 2}),
}
"""Field → the slot of its effect, and a request that uses it."""
RECORDED_ELSEWHERE = {
    "prompt",
    "negative_prompt",
    "prompt_syntax",
    "model",
    "seed",
    "width",
    "height",
    "num_inference_steps",
    "guidance_scale",
    "sampler",
}
"""What every picture has; its digests, its file and the counted UNet calls show it."""


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> DiffusersEngine:
    return DiffusersEngine(detect("cpu"), tmp_path_factory.mktemp("pictures"))


@pytest.fixture(scope="module")
def plain(engine: DiffusersEngine, tiny_model_path: Path) -> Run:
    """Two pictures of one batch, by a sampler that adds noise."""
    asked = Request(
        prompt="a cat",
        negative_prompt="a dog",
        model=resolve(str(tiny_model_path), Path("unused")),
        width=64,
        height=64,
        num_inference_steps=3,
        sampler="Euler a",
    )
    requests = (asked, replace(asked, seed=9))
    job = Job(id="plain", requests=requests, configuration=configure({}, engine.platform))
    run = engine.run(job, Following())
    assert run.outcome == "ok", run.reason
    return run


def again(engine: DiffusersEngine, run: Run, **changes: Any) -> Run:
    requests = tuple(replace(request, **changes) for request in run.job.requests)
    return engine.run(replace(run.job, requests=requests), Following())


def test_every_field_stands_here() -> None:
    assert {field.name for field in fields(Request)} == {*ACTING, *RECORDED_ELSEWHERE}


@pytest.mark.parametrize("field", ACTING)
def test_a_field_acts_and_says_so_and_leaves_no_trace(
    engine: DiffusersEngine, plain: Run, field: str
) -> None:
    slot, changes = ACTING[field]
    run = again(engine, plain, **changes)
    assert run.outcome == "ok", run.reason
    effect = run.effective.slot(slot)
    assert effect is not None
    assert effect.effect == "applied", effect.reason
    assert effect.counts
    assert all(effect.counts.values())
    for made, other in zip(run.pictures, plain.pictures, strict=True):
        assert made.latents_sha256 != other.latents_sha256
    assert again(engine, plain).pictures == plain.pictures


def test_a_field_that_is_left_alone_is_not_recorded(plain: Run) -> None:
    assert {slot.slot for slot in plain.effective.slots} == {"attention", "precision"}


def test_one_seed_of_a_variation_is_another_picture(engine: DiffusersEngine, plain: Run) -> None:
    one, two = (
        again(engine, plain, variation_strength=0.4, variation_seed=seed) for seed in (0, 3)
    )
    assert one.pictures[0].noise_sha256 != two.pictures[0].noise_sha256
    whole = again(engine, plain, variation_strength=1.0, variation_seed=plain.job.requests[1].seed)
    assert whole.pictures[0].noise_sha256 == plain.pictures[1].noise_sha256
    assert whole.pictures[0].latents_sha256 != plain.pictures[1].latents_sha256, (
        "the noise that the sampler adds is the seed's own"
    )
    effect = again(engine, plain, variation_strength=0.5).effective.slot("variation")
    assert effect is not None
    assert effect.requested == "0.5"


def test_what_does_nothing_here_says_so(engine: DiffusersEngine, plain: Run) -> None:
    run = again(engine, plain, noise_source="device")
    effect = run.effective.slot("noise-source")
    assert effect is not None
    assert effect.effect == "none"
    assert "computed on cpu, where the noise is the CPU's" in effect.reason
    assert [picture.noise_sha256 for picture in run.pictures] == [
        picture.noise_sha256 for picture in plain.pictures
    ]
    seed = plain.job.requests[0].seed
    same = again(engine, plain, seed=seed, variation_seed=seed, variation_strength=0.3)
    effect = same.effective.slot("variation")
    assert effect is not None
    assert effect.effect == "none"
    assert same.pictures[0].noise_sha256 == plain.pictures[0].noise_sha256
    delta, none = (
        again(engine, plain, num_inference_steps=1, eta_noise_seed_delta=delta) for delta in (5, 0)
    )
    effect = delta.effective.slot("eta-noise-seed-delta")
    assert effect is not None
    assert effect.effect == "none"
    assert delta.pictures[0].latents_sha256 == none.pictures[0].latents_sha256


@pytest.mark.parametrize("field", ACTING)
def test_a_field_is_part_of_a_runs_identity_and_left_alone_it_is_none(field: str) -> None:
    """So that audits of before there were such fields go on with the runs they have."""
    older = {run.identity for run in expand(EVERYTHING, PLATFORM)}
    assert hashlib.sha256("".join(sorted(older)).encode()).hexdigest() == (
        "cfa41516fc417cc83810d532d2334b6a0a9789f627caffb8fc17d37175c1b1f5"
    )
    requests = tuple(replace(request, **ACTING[field][1]) for request in EVERYTHING.requests)
    others = expand(replace(EVERYTHING, requests=requests), PLATFORM)
    assert older.isdisjoint(run.identity for run in others)


# The noise that a sampler adds


def added(source: str, delta: int) -> tuple[torch.Tensor, Effective]:
    """What one step of Euler a adds, times its deviation: the rest follows from what was seen."""
    asked = {"noise_source": source, "eta_noise_seed_delta": delta}
    seen = Watched("Euler a", steps=2, asked=asked)
    start, end = (float(NOISE_LEVELS[t]) for t in (501, 1))
    up = (end**2 * (start**2 - end**2) / start**2) ** 0.5
    down = (end**2 - up**2) ** 0.5
    noisy = seen.start * (start**2 + 1) ** 0.5
    calm = noisy + (noisy - seen.estimates[0]) / start * (down - start)
    return (seen.unet.inputs[1][:1] * (end**2 + 1) ** 0.5 - calm) / up, seen.effective


@pytest.mark.parametrize("source", ["CPU", "NV"])
@pytest.mark.parametrize("delta", [0, 31337])
def test_a_delta_reseeds_the_noise_that_is_added(source: str, delta: int) -> None:
    """Without one the noise goes on where the initial noise ended, as in A1111."""
    (generator,) = noise.generators([1 + delta], source)  # type: ignore[arg-type]
    if not delta:
        noise.normal(generator, (4, 16, 16))
    expected = noise.normal(generator, (1, 4, 16, 16))
    found, effective = added(source, delta)
    assert torch.allclose(found, expected, atol=2e-3)
    drawn = effective.slot("noise-source")
    assert (drawn is None) == (source == "CPU")
    if drawn is not None:
        assert drawn.counts["numbers_drawn"] == 3 * 4 * 16 * 16


# Clip skip


@pytest.mark.parametrize("clip_skip", [1, 2])
def test_clip_skip_takes_an_earlier_layers_output_for_both_prompts(
    shared_pipeline: StableDiffusionPipeline, clip_skip: int
) -> None:
    encoder = shared_pipeline.text_encoder
    ids = shared_pipeline.tokenizer(
        ["a cat", "a dog"], padding="max_length", return_tensors="pt"
    ).input_ids
    outputs = []
    handles = [
        layer.register_forward_hook(lambda module, args, output: outputs.append(output))
        for layer in encoder.encoder.layers
    ]
    try:
        with torch.no_grad():
            encoder(ids)
    finally:
        for handle in handles:
            handle.remove()
    record = Record()
    before = list(encoder.encoder.layers)
    with torch.no_grad(), skipping(shared_pipeline, clip_skip, record):
        found, _ = shared_pipeline.encode_prompt(["a cat", "a dog"], encoder.device, 1, False)
    with torch.no_grad():
        expected = encoder.final_layer_norm(outputs[-clip_skip])
    assert torch.equal(found, expected)
    assert list(encoder.encoder.layers) == before
    assert not encoder.encoder._forward_pre_hooks
    effect = record.freeze().slot("clip-skip")
    assert (effect is None) == (clip_skip == 1)
    if effect is not None:
        assert effect.counts["layer_calls_skipped"] == clip_skip - 1


def test_an_exception_leaves_the_text_encoder_whole(
    shared_pipeline: StableDiffusionPipeline,
) -> None:
    layers = shared_pipeline.text_encoder.encoder.layers
    with pytest.raises(IndexError), skipping(shared_pipeline, 2, Record()):
        shared_pipeline.text_encoder(torch.full((1, 77), 10**6))
    assert shared_pipeline.text_encoder.encoder.layers is layers
    assert not any(layer._forward_pre_hooks for layer in layers)


def test_an_encoder_that_was_not_asked_is_found_out(
    shared_pipeline: StableDiffusionPipeline,
) -> None:
    record = Record()
    with skipping(shared_pipeline, 2, record):
        pass
    effect = record.freeze().slot("clip-skip")
    assert effect is not None
    assert effect.effect == "fell-back"


# What is refused


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"variation_strength": 1.5}, "variation_strength must be from 0 to 1, not 1.5"),
        ({"variation_strength": float("nan")}, "variation_strength must be from 0 to 1, not nan"),
        ({"variation_seed": 4}, "does nothing while variation_strength is 0"),
        ({"variation_seed": -1, "variation_strength": 0.5}, "variation_seed must be a whole"),
        ({"eta_noise_seed_delta": -1}, "eta_noise_seed_delta must be a whole number from 0"),
        (
            {"seed": 2**64 - 1, "eta_noise_seed_delta": 1},
            "eta_noise_seed_delta must be a whole number from 0 to 0",
        ),
        ({"sampler": "Euler", "eta_noise_seed_delta": 1}, "and Euler adds none: leave it at 0"),
        ({"clip_skip": 0}, "clip_skip must be from 1, which skips nothing, to 2 for this model"),
        ({"clip_skip": 3}, "to 2 for this model, not 3"),
        ({"sampler": "DDIM", "schedule": "Karras"}, "DDIM has noise levels of its own"),
    ],
)
def test_what_would_not_act_is_refused_in_one_sentence(
    plain: Run, changes: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(ValueError, match=r"^[^\n]+\.$") as refused:
        check(replace(plain.job.requests[0], **changes))
    assert sentence in str(refused.value)


def test_every_request_of_a_batch_is_checked(engine: DiffusersEngine, plain: Run) -> None:
    first, second = plain.job.requests
    job = replace(plain.job, requests=(first, replace(second, variation_strength=2.0)))
    run = engine.run(job, Following())
    assert run.outcome == "failed"
    assert "variation_strength must be" in run.reason
    job = replace(plain.job, requests=(first, replace(second, clip_skip=2)))
    assert "must share" in engine.run(job, Following()).reason
