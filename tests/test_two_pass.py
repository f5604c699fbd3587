"""Two passes: the bits of diffusers' own two pipelines, both passes counted, reasons where not."""

import dataclasses
import io
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from diffusers import StableDiffusionImg2ImgPipeline, StableDiffusionPipeline
from PIL import Image
from torch.nn import functional as F

from core import noise, samplers
from core.diffusion import DiffusersEngine
from core.models import resolve
from core.optimizations import configure
from core.optimizations.enlarging import UPSCALERS
from core.optimizations.resolution import first_size, latent_sizes, refining_steps
from core.picture_file import read
from core.platforms import detect
from core.receipt import load
from core.request import Following, Job, Request, StepEvent
from core.run import Run
from tests.tiny_run import tiny_job

STEPS = 4
REFINING = 2


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> DiffusersEngine:
    return DiffusersEngine(detect("cpu"), tmp_path_factory.mktemp("pictures"))


@pytest.fixture
def asked(tiny_model_path: Path) -> Request:
    """160 px; the tiny model's own size is 128."""
    return Request(
        prompt="a cat",
        negative_prompt="a dog",
        model=resolve(str(tiny_model_path), Path("unused")),
        seed=7,
        width=160,
        height=160,
        num_inference_steps=STEPS,
        guidance_scale=5.0,
    )


def run(
    engine: DiffusersEngine, *requests: Request, watch: Following | None = None, **job: Any
) -> Run:
    settings = {"two-pass": job.pop("two_pass", "latent:0.5")}
    configuration = configure(settings, engine.platform)
    asked = Job(id="job", requests=requests, configuration=configuration, **job)
    return engine.run(asked, watch or Following())


def theirs(pipeline: StableDiffusionPipeline, asked: Request) -> torch.Tensor:
    """Final latents of diffusers' text-to-image, enlarged, and its image-to-image."""
    words = {"negative_prompt": asked.negative_prompt, "guidance_scale": 5.0}
    text = {**words, "num_inference_steps": STEPS, "output_type": "latent"}
    parts = {
        **pipeline.components,
        "scheduler": samplers.scheduler_for(asked.sampler, pipeline.scheduler.config),
    }
    bare: dict[str, Any] = {"requires_safety_checker": False}
    first = StableDiffusionPipeline(**parts, **bare)
    second = StableDiffusionImg2ImgPipeline(**parts, **bare)
    for either in (first, second):
        either.set_progress_bar_config(disable=True)
    seeded = noise.generators([asked.seed])
    small = first(asked.prompt, width=128, height=128, generator=seeded, **text).images
    large = F.interpolate(small, size=(20, 20), mode="bilinear")
    seeded = noise.generators([noise.second_seed(asked.seed)])
    return second(asked.prompt, image=large, strength=0.5, generator=seeded, **text).images


@pytest.mark.parametrize("sampler", ["Euler", "Euler a", "DPM++ 2M Karras", "DDIM", "Heun"])
def test_both_passes_have_the_bits_of_diffusers(
    engine: DiffusersEngine,
    asked: Request,
    shared_pipeline: StableDiffusionPipeline,
    sampler: str,
) -> None:
    asked = dataclasses.replace(asked, sampler=sampler)
    made = run(engine, asked)
    assert made.outcome == "ok", made.reason
    expected = theirs(shared_pipeline, asked)
    assert made.pictures[0].latents_sha256 == noise.digest(expected[0])


def test_the_record_has_sizes_steps_and_the_noise_level(
    engine: DiffusersEngine, asked: Request
) -> None:
    events: list[StepEvent] = []
    made = run(engine, asked, watch=Following(step=events.append))
    effect = made.effective.slot("two-pass")
    assert effect is not None
    assert effect.effect == "applied", effect.reason
    assert effect.counts == {
        "first_pass_width": 128,
        "first_pass_height": 128,
        "second_pass_width": 160,
        "second_pass_height": 160,
        "first_pass_steps": STEPS,
        "second_pass_steps": REFINING,
        "first_pass_unet_calls": STEPS,
        "second_pass_unet_calls": REFINING,
        "refining_began_at_sigma": events[STEPS].sigma,
    }
    assert events[STEPS].sigma == events[STEPS - REFINING].sigma
    assert made.effective.unet_calls == STEPS + REFINING
    assert [event.step for event in events] == list(range(1, STEPS + REFINING + 1))
    assert {event.num_inference_steps for event in events} == {STEPS + REFINING}
    assert len(made.timings.steps) == STEPS + REFINING


def test_digests_receipt_and_infotext_know_both_passes(
    engine: DiffusersEngine, asked: Request
) -> None:
    picture = run(engine, asked).pictures[0]
    assert len(set(picture.step_sha256s)) == STEPS + REFINING
    assert picture.step_sha256s[-1] == picture.latents_sha256
    assert run(engine, asked).pictures[0] == picture
    small = dataclasses.replace(asked, width=128, height=128)
    alone = run(engine, small, two_pass="off").pictures[0]
    assert picture.noise_sha256 == alone.noise_sha256
    assert picture.step_sha256s[:STEPS] == alone.step_sha256s
    assert picture.path is not None
    file = read(picture.path)
    receipt = load(file.texts.receipt)
    assert receipt.configuration.get("two-pass") == "latent:0.5"
    assert receipt.step_sha256s == picture.step_sha256s
    with Image.open(picture.path) as image:
        assert image.size == (160, 160)
    assert (
        "Size: 128x128, Denoising strength: 0.5, Hires resize: 160x160, Hires steps: 2, "
        "Hires upscaler: Latent, Model hash"
    ) in file.texts.infotext


@pytest.mark.parametrize("after", [1, STEPS, STEPS + 1])
def test_cancel_stops_in_either_pass(engine: DiffusersEngine, asked: Request, after: int) -> None:
    events: list[StepEvent] = []
    watch = Following(step=events.append, stop=lambda: len(events) >= after)
    made = run(engine, asked, watch=watch)
    assert (made.outcome, made.pictures, len(events)) == ("cancelled", (), after)
    effect = made.effective.slot("two-pass")
    assert effect is not None
    assert effect.effect == ("none" if after <= STEPS else "applied")


def test_previews_have_each_passs_size(engine: DiffusersEngine, asked: Request) -> None:
    events: list[StepEvent] = []
    made = run(engine, asked, watch=Following(step=events.append), preview=True)
    shown = [Image.open(io.BytesIO(event.preview_png or b"")).size for event in events]
    assert shown == [(16, 16)] * STEPS + [(20, 20)] * REFINING
    assert made.pictures == run(engine, asked).pictures


def test_a_picture_no_larger_than_the_models_own_says_why(
    engine: DiffusersEngine, asked: Request
) -> None:
    small = dataclasses.replace(asked, width=128, height=96)
    made, plain = run(engine, small), run(engine, small, two_pass="off")
    effect = made.effective.slot("two-pass")
    assert effect is not None
    assert effect.effect == "none"
    assert effect.reason.startswith("the picture (128x96) is not larger on both sides")
    assert made.pictures[0].pixels_sha256 == plain.pictures[0].pixels_sha256


def test_the_second_noise_follows_from_the_seed_alone() -> None:
    def drawn(*seeds: int) -> torch.Tensor:
        generators = noise.generators([noise.second_seed(seed) for seed in seeds])
        return noise.initial_noise(generators, (4, 8, 8))

    assert torch.equal(drawn(3, 7)[1], drawn(7)[0])
    assert not torch.equal(drawn(3)[0], drawn(7)[0])
    assert not torch.equal(drawn(7), noise.initial_noise(noise.generators([7]), (4, 8, 8)))


def test_lanczos_goes_through_pixels(
    engine: DiffusersEngine, asked: Request, monkeypatch: pytest.MonkeyPatch
) -> None:
    pipeline = engine.pool.get(asked.model, configure({}, engine.platform))
    encoded = []
    encode = pipeline.vae.encode
    monkeypatch.setattr(
        pipeline.vae, "encode", lambda x, **more: encoded.append(x.shape) or encode(x, **more)
    )
    other = dataclasses.replace(asked, seed=8)
    made = run(engine, asked, other, two_pass="lanczos:0.5")
    assert made.outcome == "ok", made.reason
    assert encoded == [(2, 3, 160, 160)]
    effect = made.effective.slot("two-pass")
    assert effect is not None
    assert effect.effect == "applied"


def test_latents_are_enlarged_alike_on_both_sides_and_cropped_in_the_middle() -> None:
    pipeline: Any = SimpleNamespace(vae_scale_factor=8)
    latents = torch.arange(16 * 24.0).view(1, 1, 16, 24)
    nearest = next(u for u in UPSCALERS if u.name == "latent-nearest")
    larger = nearest.enlarge(pipeline, latents, (320, 160), None)
    rows = [int((row + 3) * 16 / 27) for row in range(20)]
    columns = [int(column * 24 / 40) for column in range(40)]
    assert torch.equal(larger[0, 0], latents[0, 0][rows][:, columns])


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        ((256, 256), (128, 128)),
        ((192, 192), (128, 128)),
        ((256, 128), (192, 96)),
        ((128, 128), None),
        ((160, 128), None),
        ((64, 64), None),
        ((512, 64), None),
    ],
)
def test_the_first_pass_has_the_models_own_number_of_pixels(
    size: tuple[int, int], expected: tuple[int, int] | None
) -> None:
    assert first_size(size, native=128, step=32) == expected


def test_refining_steps_are_those_of_diffusers() -> None:
    assert [refining_steps(20, s) for s in (0.05, 0.5, 0.75, 1)] == [1, 10, 15, 20]
    assert refining_steps(4, 0.05) == 1


def test_the_sizes_of_all_passes_are_known_before(shared_pipeline: StableDiffusionPipeline) -> None:
    """So that blocks are compiled for both while loading."""
    two, one = tiny_job(side=160, two_pass="lanczos:0.5"), tiny_job(side=160)
    assert latent_sizes(shared_pipeline, two) == [(16, 16), (20, 20)]
    assert latent_sizes(shared_pipeline, one) == [(20, 20)]
    assert latent_sizes(shared_pipeline, tiny_job(two_pass="lanczos:0.5")) == [(16, 16)]
