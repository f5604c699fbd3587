"""The denoising loop: diffusers' bits, cancel, refusals, and no trace between jobs."""

import dataclasses
import hashlib
import io
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import StableDiffusionPipeline
from PIL import Image

from core import noise
from core.diffusion import DiffusersEngine
from core.models import resolve
from core.optimizations import configure
from core.picture_file import read
from core.platforms import detect
from core.receipt import load
from core.request import Conditions, Following, Job, Request, StepEvent
from core.run import Run

STEPS = 3


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> DiffusersEngine:
    return DiffusersEngine(detect("cpu"), tmp_path_factory.mktemp("pictures"))


@pytest.fixture
def request_(tiny_model_path: Path) -> Request:
    return Request(
        prompt="a cat",
        negative_prompt="a dog",
        model=resolve(str(tiny_model_path), Path("unused")),
        seed=7,
        width=64,
        height=96,
        num_inference_steps=STEPS,
        guidance_scale=5.0,
    )


def run(
    engine: DiffusersEngine,
    *requests: Request,
    conditions: Conditions | None = None,
    watch: Following | None = None,
    **settings: str,
) -> Run:
    configuration = configure(
        {slot.replace("_", "-"): value for slot, value in settings.items()}, engine.platform
    )
    job = Job(
        id="job",
        requests=requests,
        configuration=configuration,
        conditions=conditions or Conditions(),
    )
    return engine.run(job, watch or Following())


def reference(model_path: Path, requests: tuple[Request, ...], dtype: torch.dtype) -> list[str]:
    """Pixel digests of diffusers' own pipeline, with its default attention processors."""
    pipeline = StableDiffusionPipeline.from_pretrained(model_path, dtype=dtype)
    pipeline.set_progress_bar_config(disable=True)
    first = requests[0]
    seeds = [request.seed for request in requests]
    shape = (4, first.height // pipeline.vae_scale_factor, first.width // pipeline.vae_scale_factor)
    images = pipeline(
        [request.prompt for request in requests],
        negative_prompt=[request.negative_prompt for request in requests],
        width=first.width,
        height=first.height,
        num_inference_steps=first.num_inference_steps,
        guidance_scale=first.guidance_scale,
        latents=noise.initial_noise(noise.generators(seeds), shape).to(dtype),
    ).images
    return [hashlib.sha256(np.asarray(image).tobytes()).hexdigest() for image in images]


@pytest.mark.parametrize("guidance_scale", [5.0, 1.0])
@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
@pytest.mark.parametrize("count", [1, 2])
def test_the_loop_is_bit_equal_to_diffusers(
    engine: DiffusersEngine, request_: Request, guidance_scale: float, precision: str, count: int
) -> None:
    requests = tuple(
        dataclasses.replace(request_, seed=7 + i, guidance_scale=guidance_scale)
        for i in range(count)
    )
    dtype = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}[precision]
    result = run(engine, *requests, precision=precision)
    assert result.outcome == "ok", result.reason
    expected = reference(request_.model.path, requests, dtype)
    assert [picture.pixels_sha256 for picture in result.pictures] == expected


def test_noise_is_what_diffusers_draws_from_a_seeded_generator(
    engine: DiffusersEngine, request_: Request
) -> None:
    pipeline = StableDiffusionPipeline.from_pretrained(request_.model.path)
    pipeline.set_progress_bar_config(disable=True)
    image = pipeline(
        request_.prompt,
        negative_prompt=request_.negative_prompt,
        width=request_.width,
        height=request_.height,
        num_inference_steps=STEPS,
        guidance_scale=request_.guidance_scale,
        generator=torch.Generator().manual_seed(request_.seed),
    ).images[0]
    ours = run(engine, request_).pictures[0]
    assert ours.pixels_sha256 == hashlib.sha256(np.asarray(image).tobytes()).hexdigest()


def test_the_file_holds_the_pixels_and_is_named_by_its_digest(
    engine: DiffusersEngine, request_: Request
) -> None:
    picture = run(engine, request_).pictures[0]
    assert picture.path is not None
    data = picture.path.read_bytes()
    assert picture.path.stem == hashlib.sha256(data).hexdigest()
    with Image.open(picture.path) as image:
        assert image.size == (64, 96)
        pixels = np.asarray(image)
    assert hashlib.sha256(pixels.tobytes()).hexdigest() == picture.pixels_sha256


def test_every_picture_carries_what_made_it(engine: DiffusersEngine, request_: Request) -> None:
    other = dataclasses.replace(request_, seed=8)
    made = run(engine, request_, other, token_merging="0.5")
    for position, picture in enumerate(made.pictures):
        assert picture.path is not None
        file = read(picture.path)
        receipt = load(file.texts.receipt)
        assert receipt.picture.pixels_sha256 == picture.pixels_sha256 == file.pixels_sha256
        assert receipt.step_sha256s == picture.step_sha256s
        assert receipt.noise_sha256 == picture.noise_sha256
        assert receipt.latents_sha256 == picture.latents_sha256
        assert [request.seed for request in receipt.requests] == [7, 8]
        assert receipt.position == position
        assert receipt.configuration == made.job.configuration
        assert receipt.effective == made.effective
        assert receipt.environment.threads == made.environment.threads
        assert receipt.environment.versions == made.environment.versions
        assert "Token merging ratio: 0.5" in file.texts.infotext
        assert str(request_.model.path.parent) not in file.texts.receipt + file.texts.infotext


def test_step_digests_end_in_the_final_latents(engine: DiffusersEngine, request_: Request) -> None:
    picture = run(engine, request_).pictures[0]
    assert len(picture.step_sha256s) == STEPS
    assert picture.step_sha256s[-1] == picture.latents_sha256
    assert len({picture.noise_sha256, *picture.step_sha256s}) == STEPS + 1


def test_another_seed_and_a_nudge_are_other_pictures(
    engine: DiffusersEngine, request_: Request
) -> None:
    base = run(engine, request_).pictures[0]
    other = run(engine, dataclasses.replace(request_, seed=8)).pictures[0]
    nudged = run(engine, request_, conditions=Conditions(nudge=3)).pictures[0]
    assert other.noise_sha256 != base.noise_sha256
    assert nudged.noise_sha256 == base.noise_sha256
    assert nudged.step_sha256s[0] != base.step_sha256s[0]


def test_steps_are_reported_and_timed(engine: DiffusersEngine, request_: Request) -> None:
    events: list[StepEvent] = []
    result = run(engine, request_, watch=Following(step=events.append))
    assert [event.step for event in events] == [1, 2, 3]
    assert {event.num_inference_steps for event in events} == {STEPS}
    assert events[0].sigma > events[1].sigma > events[2].sigma > 0
    assert len(result.timings.steps) == STEPS
    assert sum(result.timings.steps) <= result.timings.denoise
    assert result.timings.picture == result.timings.denoise + result.timings.decode
    assert result.memory.peak_bytes is not None
    assert result.memory.peak_bytes > 1e6


def test_previews_look_and_change_nothing(engine: DiffusersEngine, request_: Request) -> None:
    plain = run(engine, request_)
    events: list[StepEvent] = []
    job = dataclasses.replace(plain.job, preview=True)
    previewed = engine.run(job, Following(step=events.append))
    assert previewed.pictures == plain.pictures
    shown = [Image.open(io.BytesIO(event.preview_png or b"")) for event in events]
    assert [image.size for image in shown] == [(8, 12)] * STEPS


@pytest.mark.parametrize("after", [0, 1, 2])
def test_cancel_stops_before_the_next_step_and_leaves_no_trace(
    engine: DiffusersEngine, request_: Request, after: int
) -> None:
    before = run(engine, request_)
    events: list[StepEvent] = []
    watch = Following(step=events.append, stop=lambda: len(events) >= after)
    cancelled = run(engine, request_, watch=watch, attention="none", token_merging="0.5")
    assert cancelled.outcome == "cancelled"
    assert cancelled.pictures == ()
    assert len(events) == after
    again = run(engine, request_)
    assert again.pictures == before.pictures


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"width": 50}, "width must be a multiple of 32 pixels"),
        ({"sampler": "Eulerr"}, "Unknown sampler 'Eulerr': choose one of Euler"),
        ({"num_inference_steps": 0}, "num_inference_steps must be at least 1"),
    ],
)
def test_what_cannot_be_done_fails_with_one_sentence(
    engine: DiffusersEngine, request_: Request, change: dict[str, object], sentence: str
) -> None:
    result = run(engine, dataclasses.replace(request_, **change))  # type: ignore[arg-type]
    assert result.outcome == "failed"
    assert sentence in result.reason
    assert "\n" not in result.reason


def test_a_batch_of_unlike_requests_is_refused(engine: DiffusersEngine, request_: Request) -> None:
    result = run(engine, request_, dataclasses.replace(request_, guidance_scale=2.0))
    assert result.outcome == "failed"
    assert "must share" in result.reason


def test_conditions_that_this_process_does_not_meet_are_refused(
    engine: DiffusersEngine, request_: Request
) -> None:
    wrong = torch.get_num_threads() + 1
    result = run(engine, request_, conditions=Conditions(threads=wrong))
    assert result.outcome == "failed"
    assert f"asks for {wrong} threads" in result.reason


def test_a_prompt_that_is_cut_says_so(engine: DiffusersEngine, request_: Request) -> None:
    result = run(engine, dataclasses.replace(request_, prompt="x" * 100))
    assert result.outcome == "ok"
    assert any("the last 25 did not reach the picture" in n for n in result.effective.notes)
    assert run(engine, request_).effective.notes == ()


def test_every_run_says_where_it_happened(engine: DiffusersEngine, request_: Request) -> None:
    one, two = run(engine, request_).environment, run(engine, request_).environment
    assert one.process_id == two.process_id
    assert two.calls_before == one.calls_before + 1
    assert one.fingerprint == engine.platform.fingerprint
    assert one.threads == torch.get_num_threads()


def test_weights_that_changed_since_they_were_chosen_are_refused(
    engine: DiffusersEngine, request_: Request
) -> None:
    stale = dataclasses.replace(request_.model, digest="0" * 64)
    result = run(engine, dataclasses.replace(request_, model=stale))
    assert result.outcome == "failed"
    assert "have changed since it was chosen" in result.reason


def test_pinned_threads_are_what_the_run_reports(
    engine: DiffusersEngine, request_: Request
) -> None:
    """So that an audit that varies the process's threads says that the configuration pins them."""
    before = torch.get_num_threads()
    reported = []
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            result = run(
                engine, request_, conditions=Conditions(threads=threads), threads="pinned:1"
            )
            assert result.outcome == "ok", result.reason
            reported.append(result.environment.threads)
            assert torch.get_num_threads() == threads
            assert run(engine, request_).environment.threads == threads
    finally:
        torch.set_num_threads(before)
    assert reported == [1, 1]


@pytest.mark.parametrize(
    ("part", "sentence"),
    [
        ("unet", "Step 1 of 3 has 384 of 384 numbers that are not finite"),
        ("vae", "The decoded picture has 18432 of 18432 numbers that are not finite"),
    ],
)
def test_a_picture_of_nans_is_a_failure_and_no_file(
    tiny_model_path: Path, request_: Request, tmp_path: Path, part: str, sentence: str
) -> None:
    engine = DiffusersEngine(detect("cpu"), tmp_path)
    settings = configure({}, engine.platform)
    pipeline = engine.pool.get(request_.model, settings)
    last = {"unet": pipeline.unet.conv_out, "vae": pipeline.vae.decoder.conv_out}[part]
    handle = last.register_forward_hook(lambda module, args, output: output * torch.inf * 0)
    try:
        result = run(engine, request_)
    finally:
        handle.remove()
    assert result.outcome == "failed"
    assert sentence in result.reason
    assert "choose a precision with a larger range" in result.reason
    assert result.pictures == ()
    assert list(tmp_path.iterdir()) == []
    assert run(engine, request_).outcome == "ok"
