"""Every sampler: diffusers' bits, true sigmas, honest steps, no trace of neighbours or of jobs."""

import dataclasses
import hashlib
import math
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import diffusers
import numpy as np
import pytest
import torch
from diffusers import StableDiffusionPipeline
from diffusers.utils.torch_utils import randn_tensor

from core import noise, samplers
from core.denoising import Cancelled, denoise
from core.diffusion import DiffusersEngine
from core.measurement import Stopwatch
from core.models import resolve
from core.optimizations import applied, configure
from core.platforms import detect
from core.record import Record
from core.request import Following, Job, Request, StepEvent
from core.run import Effective
from tests.tiny_run import tiny_job

POCKET = Path(__file__).parents[1] / "data" / "pocket"
NAMES = [sampler.name for sampler in samplers.SAMPLERS if sampler.name != "DPM++ 2M"]
"""`DPM++ 2M` is tested by its equality with `DPM++ 2M Karras`."""
BETAS = np.linspace(0.00085**0.5, 0.012**0.5, 1000) ** 2
KEPT = np.cumprod(1 - BETAS)
"""ᾱ by timestep, of Stable Diffusion's `scaled_linear` betas."""
NOISE_LEVELS = np.sqrt((1 - KEPT) / KEPT)
SD_CONFIG = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}

REFERENCES: dict[str, Callable[[Any], Any]] = {
    "Euler": diffusers.EulerDiscreteScheduler.from_config,
    "Euler a": diffusers.EulerAncestralDiscreteScheduler.from_config,
    "DPM++ 2M Karras": lambda config: diffusers.DPMSolverMultistepScheduler.from_config(
        config, use_karras_sigmas=True
    ),
    "DDIM": lambda config: diffusers.DDIMScheduler.from_config(
        config,
        clip_sample=False,
        set_alpha_to_one=False,
        steps_offset=1,
        timestep_spacing="leading",
    ),
    "Heun": diffusers.HeunDiscreteScheduler.from_config,
    "LMS": diffusers.LMSDiscreteScheduler.from_config,
    "UniPC": diffusers.UniPCMultistepScheduler.from_config,
}
"""What each name means, said a second time."""


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> DiffusersEngine:
    return DiffusersEngine(detect("cpu"), tmp_path_factory.mktemp("pictures"))


@pytest.fixture(scope="module", params=["tiny-fp32", "tiny-bf16", "pocket-fp32"])
def reference(request: pytest.FixtureRequest, tiny_model_path: Path) -> tuple[Any, Any, str]:
    """diffusers' own pipeline on the random model (epsilon) or the shipped one (v), its scheduler's
    config, and its precision."""
    model, _, precision = request.param.partition("-")
    pipeline = StableDiffusionPipeline.from_pretrained(
        tiny_model_path if model == "tiny" else POCKET,
        safety_checker=None,
        dtype={"fp32": torch.float32, "bf16": torch.bfloat16}[precision],
    )
    pipeline.set_progress_bar_config(disable=True)
    return pipeline, pipeline.scheduler.config, precision


@pytest.mark.parametrize("guidance_scale", [5.0, 1.0])
@pytest.mark.parametrize("name", NAMES)
def test_latents_and_pixels_are_those_of_diffusers(
    engine: DiffusersEngine, reference: tuple[Any, Any, str], name: str, guidance_scale: float
) -> None:
    pipeline, config, precision = reference
    base = Request(
        prompt="a red apple",
        negative_prompt="a dog",
        model=resolve(str(pipeline.name_or_path), POCKET),
        width=64,
        height=64,
        num_inference_steps=4,
        guidance_scale=guidance_scale,
        sampler=name,
    )
    requests = tuple(dataclasses.replace(base, seed=seed) for seed in (7, 8))
    configuration = configure({"precision": precision}, engine.platform)
    run = engine.run(Job(id="job", requests=requests, configuration=configuration), Following())
    assert run.outcome == "ok", run.reason

    pipeline.scheduler = REFERENCES[name](config)
    latents: list[list[str]] = []

    def keep(_: Any, call: int, timestep: Any, state: dict[str, Any]) -> dict[str, Any]:
        latents.append([noise.digest(row) for row in state["latents"]])
        return {}

    images = pipeline(
        [base.prompt] * 2,
        negative_prompt=[base.negative_prompt] * 2,
        width=64,
        height=64,
        num_inference_steps=4,
        guidance_scale=guidance_scale,
        generator=[torch.Generator().manual_seed(seed) for seed in (7, 8)],
        callback_on_step_end=keep,
    ).images
    after_steps = latents[1::2] + latents[-1:] if name == "Heun" else latents
    for i, picture in enumerate(run.pictures):
        assert picture.step_sha256s == tuple(step[i] for step in after_steps)
        assert picture.latents_sha256 == latents[-1][i]
        assert picture.pixels_sha256 == hashlib.sha256(np.asarray(images[i]).tobytes()).hexdigest()
    assert run.effective.unet_calls == len(latents)


class Denoiser(torch.nn.Module):
    """A UNet that knows the data exactly: every latent number is N(mean, deviation²).

    It works number by number, so that neighbours in a batch cannot matter by rounding.
    """

    def __init__(self, prediction: str, mean: float = 0.8, deviation: float = 0.5) -> None:
        super().__init__()
        self.config = SimpleNamespace(in_channels=4)
        self.prediction, self.mean, self.deviation = prediction, mean, deviation
        self.inputs: list[torch.Tensor] = []
        self.timesteps: list[float] = []

    @property
    def rows(self) -> list[int]:
        return [len(sample) for sample in self.inputs]

    def forward(self, sample: torch.Tensor, timestep: torch.Tensor, **_: Any) -> tuple[Any]:
        self.inputs.append(sample)
        self.timesteps.append(float(timestep))
        signal = np.interp(float(timestep), np.arange(1000), np.sqrt(KEPT))
        level = math.sqrt(1 - signal**2)
        variance = (signal * self.deviation) ** 2 + level**2
        clean = self.mean + signal * self.deviation**2 / variance * (sample - signal * self.mean)
        predicted = (sample - signal * clean) / level
        if self.prediction == "v_prediction":
            predicted = signal * predicted - level * clean
        return (predicted,)


class Watched:
    """One call of the denoising loop without a model, and everything that can be seen of it."""

    def __init__(
        self,
        name: str,
        seeds: tuple[int, ...] = (1,),
        steps: int = 20,
        prediction: str = "epsilon",
        spacing: str = "leading",
        stop: Callable[["Watched"], bool] = lambda watched: False,
        deviation: float = 0.5,
        asked: dict[str, Any] | None = None,
        **settings: str,
    ) -> None:
        job = tiny_job(seeds, **settings)
        changes: dict[str, Any] = {"sampler": name, "num_inference_steps": steps, **(asked or {})}
        requests = tuple(
            dataclasses.replace(r, **changes, width=64, height=64) for r in job.requests
        )
        self.job = dataclasses.replace(job, requests=requests)
        self.unet = Denoiser(prediction, deviation=deviation)
        scheduler = diffusers.EulerDiscreteScheduler(
            **SD_CONFIG, prediction_type=prediction, timestep_spacing=spacing, steps_offset=1
        )
        pipeline = SimpleNamespace(
            unet=self.unet,
            vae=None,
            device=torch.device("cpu"),
            scheduler=scheduler,
            vae_scale_factor=4,
        )
        self.events: list[StepEvent] = []
        self.estimates: list[torch.Tensor] = []
        self.stopwatch = Stopwatch(pipeline.device)
        self.effective: Effective
        record = Record()
        embeddings = torch.zeros(2 * len(seeds), 1, 1)
        watch = Following(step=self.events.append, stop=lambda: stop(self))
        try:
            with applied(pipeline, self.job, record) as hook:
                self.start, self.latents, self.digests = denoise(
                    pipeline, self.job, watch, hook, embeddings, self.stopwatch, self, record
                )
        finally:
            self.effective = record.freeze()

    def png(self, vae: None, estimate: torch.Tensor) -> bytes:
        self.estimates.append(estimate)
        return b""


@pytest.mark.parametrize("name", NAMES)
def test_a_picture_has_the_same_noise_in_every_step_alone_and_among_others(name: str) -> None:
    together = Watched(name, seeds=(3, 7, 11), steps=5)
    for place, seed in enumerate((3, 7, 11)):
        alone = Watched(name, seeds=(seed,), steps=5)
        assert torch.equal(alone.start[0], together.start[place])
        assert torch.equal(alone.latents[0], together.latents[place])
        assert [step[0] for step in alone.digests] == [step[place] for step in together.digests]


def test_fresh_noise_continues_the_generator_that_drew_the_initial_noise() -> None:
    """One step from sigma to sigma: what was added is the generator's next draw, times sigma_up."""
    seen = Watched("Euler a", steps=2)
    generator = torch.Generator().manual_seed(1)
    initial, fresh = (torch.randn(1, 4, 16, 16, generator=generator) for _ in range(2))
    assert torch.equal(seen.start, initial)
    start, end = (float(NOISE_LEVELS[t]) for t in (501, 1))
    up = math.sqrt(end**2 * (start**2 - end**2) / start**2)
    down = math.sqrt(end**2 - up**2)
    noisy = initial * math.sqrt(start**2 + 1)
    expected = noisy + (noisy - seen.estimates[0]) / start * (down - start) + up * fresh
    assert torch.allclose(seen.unet.inputs[1][:1] * math.sqrt(end**2 + 1), expected, atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_noise_in_16_bits_is_the_same_noise_rounded(dtype: torch.dtype) -> None:
    """Else the same seed would be another picture there, and its drift not the format's."""
    rounded = randn_tensor((2, 4, 8, 8), noise.generators([1, 2]), torch.device("cpu"), dtype)
    exact = noise.initial_noise(noise.generators([1, 2]), (4, 8, 8))
    assert torch.equal(rounded, exact.to(dtype))


@pytest.mark.parametrize("spacing", ["leading", "linspace", "trailing"])
@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
@pytest.mark.parametrize("name", NAMES)
def test_pictures_come_out_as_the_data_are(name: str, prediction: str, spacing: str) -> None:
    """A sampler that left the schedule would leave noise behind, or take detail away."""
    seen = Watched(name, steps=60, prediction=prediction, spacing=spacing, guidance_scale=1.0)
    assert abs(seen.latents.mean().item() - 0.8) < 0.06
    assert abs(seen.latents.std().item() - 0.5) < 0.06


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
@pytest.mark.parametrize("name", NAMES)
def test_previews_show_the_estimate_and_not_the_noise(name: str, prediction: str) -> None:
    """Where every picture is 0.8 everywhere, that is the estimate after any step (Karras' sigmas
    lie between the timesteps, which makes it a little wrong)."""
    seen = Watched(name, steps=6, prediction=prediction, deviation=0.0)
    assert len(seen.estimates) == 6
    for estimate in seen.estimates:
        assert torch.allclose(estimate, torch.full_like(estimate, 0.8), atol=0.01)


@pytest.mark.parametrize("name", NAMES)
def test_a_job_leaves_nothing_to_the_next(name: str, engine: DiffusersEngine) -> None:
    scheduler = diffusers.EulerDiscreteScheduler(**SD_CONFIG)
    first = samplers.scheduler_for(name, scheduler.config)
    second = samplers.scheduler_for(name, scheduler.config)
    for number in range(2):
        first.set_timesteps(5)
        timestep, sample = first.timesteps[number], torch.ones(1, 4, 2, 2)
        first.scale_model_input(sample, timestep)
        first.step(sample, timestep, sample)
    fresh = samplers.scheduler_for(name, scheduler.config)
    assert vars(second).keys() == vars(fresh).keys()
    assert getattr(second, "model_outputs", None) == getattr(fresh, "model_outputs", None)
    assert getattr(second, "step_index", None) is None
    before = Watched(name, steps=5)
    Watched("UniPC", steps=4, seeds=(9,))
    assert Watched(name, steps=5).digests == before.digests


def unet_calls(name: str, steps: int, spacing: str) -> list[float]:
    """The noise level of every UNet call, from the definitions."""
    if name == "DPM++ 2M Karras":
        low, high = NOISE_LEVELS[0] ** (1 / 7), NOISE_LEVELS[-1] ** (1 / 7)
        return [(high + i / (steps - 1) * (low - high)) ** 7 for i in range(steps)]
    if spacing == "linspace" and name not in ("DDIM", "UniPC"):
        timesteps = [999 * i / (steps - 1) for i in range(steps)]
    elif spacing == "linspace" and name == "UniPC":
        timesteps = [round(999 * (i + 1) / steps) for i in range(steps)]
    elif name == "UniPC":
        timesteps = [1000 // (steps + 1) * (i + 1) + 1 for i in range(steps)]
    else:
        timesteps = [1000 // steps * i + 1 for i in range(steps)]
    levels = [float(np.interp(t, np.arange(1000), NOISE_LEVELS)) for t in reversed(timesteps)]
    if name == "Heun":  # a first try at this level, and for all but the last a second at the next
        return [levels[0], *(level for level in levels[1:] for _ in range(2))]
    return levels


@pytest.mark.parametrize("spacing", ["leading", "linspace"])
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("value", ["all", "alternate"])
def test_minimum_sigma_skips_by_the_true_sigma(name: str, value: str, spacing: str) -> None:
    levels = unet_calls(name, 20, spacing)
    expected = {
        call: level
        for call, level in enumerate(levels)
        if level < 0.7 and (value == "all" or call % 2)
    }
    assert expected
    seen = Watched(name, seeds=(1, 2), spacing=spacing, min_sigma=f"{value}:0.7")
    assert [call for call, rows in enumerate(seen.unet.rows) if rows == 2] == list(expected)
    assert set(seen.unet.rows) == {2, 4}
    effect = seen.effective.slot("min-sigma")
    assert effect is not None
    assert effect.effect == "applied"
    assert effect.counts["calls"] == len(levels)
    for call, level in expected.items():
        recorded = effect.counts[f"sigma_of_skipped_call_{call:03d}"]
        assert recorded == pytest.approx(level, rel=1e-4)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("steps", [1, 2, 7])
def test_steps_are_what_was_asked_for(name: str, steps: int) -> None:
    seen = Watched(name, steps=steps)
    assert [event.step for event in seen.events] == list(range(1, steps + 1))
    assert {event.num_inference_steps for event in seen.events} == {steps}
    assert len(seen.stopwatch.steps) == len(seen.digests) == steps
    expected_calls = samplers.find(name).calls_per_step * (steps - 1) + 1
    assert len(seen.unet.rows) == expected_calls
    assert seen.digests[-1] == [noise.digest(seen.latents[0])]
    levels = unet_calls(name, steps, "leading") if steps > 1 else [seen.events[0].sigma]
    first_calls = [levels[0], *levels[2::2]] if name == "Heun" else levels
    assert [event.sigma for event in seen.events] == pytest.approx(first_calls, rel=1e-4)


def test_cancel_stops_between_the_two_calls_of_a_step() -> None:
    calls = []

    def stop(seen: Watched) -> bool:
        calls.append(len(seen.unet.rows))
        return len(seen.unet.rows) == 4

    with pytest.raises(Cancelled):
        Watched("Heun", stop=stop)
    assert calls == [0, 1, 2, 3, 4]


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("euler", "Euler"),
        ("euler a", "Euler a"),
        ("Euler  Ancestral", "Euler a"),
        ("k_euler_a", "Euler a"),
        ("dpm++ 2m karras", "DPM++ 2M Karras"),
        ("DPM++ 2M", "DPM++ 2M"),
        ("unipc", "UniPC"),
        ("k_lms", "LMS"),
    ],
)
def test_names_are_taken_as_people_write_them(written: str, meant: str) -> None:
    assert samplers.find(written).name == meant


@pytest.mark.parametrize("name", ["LMS Karras", "", "Euler a a"])
def test_a_name_that_could_mean_something_else_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match=r"Unknown sampler .* choose one of Euler, Euler a, DPM"):
        samplers.find(name)


def test_no_spelling_means_two_samplers() -> None:
    spellings = [s.lower() for m in samplers.SAMPLERS for s in (m.name, *m.aliases)]
    assert len(set(spellings)) == len(spellings)
    assert all(samplers.find(sampler.name) is sampler for sampler in samplers.SAMPLERS)


@pytest.mark.parametrize("spacing", ["leading", "linspace", "trailing"])
@pytest.mark.parametrize("name", [name for name in NAMES if name != "LMS"])
def test_the_most_steps_work_with_every_sampler(name: str, spacing: str) -> None:
    seen = Watched(name, steps=samplers.MOST_STEPS, spacing=spacing, guidance_scale=1.0)
    assert seen.latents.isfinite().all()
