"""A job on the tiny pipeline: a few denoiser calls without a scheduler, and a decode."""

from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from diffusers import StableDiffusionPipeline

from core.optimization import Configuration
from core.optimizations import applied
from core.record import Record
from core.request import Job, Model, Request
from core.run import Effective

MODEL = Model(name="tiny", path=Path("tiny"), digest="0" * 64)
SIGMAS = (1.5, 0.5)
"""Two steps, of which minimum sigma 0.7 skips the second."""


@dataclass(frozen=True)
class TinyResult:
    latents: torch.Tensor
    """(pictures, 4, 16, 16), or what a larger picture has."""
    pixels: torch.Tensor
    """(pictures, 3, 64, 64): a corner, decoding takes longer than the UNet; all of a picture that
    is larger than the model's own size."""
    effective: Effective


def tiny_job(
    seeds: tuple[int, ...] = (1,), guidance_scale: float = 5.0, side: int = 128, **settings: str
) -> Job:
    """Slots are keywords, with underscores: `token_merging="seeded:0.5"`."""
    pairs = sorted((slot.replace("_", "-"), value) for slot, value in settings.items())
    requests = tuple(
        Request(
            prompt="x",
            model=MODEL,
            seed=seed,
            width=side,
            height=side,
            guidance_scale=guidance_scale,
        )
        for seed in seeds
    )
    return Job(id="tiny", requests=requests, configuration=Configuration(tuple(pairs)))


def tiny_run(
    pipeline: StableDiffusionPipeline, job: Job, sigmas: tuple[float, ...] = SIGMAS
) -> TinyResult:
    """Each picture's noise and embeddings follow from its seed alone. Of two passes, the first
    has one step."""
    record, dtype, pictures = Record(), pipeline.unet.dtype, len(job.requests)
    generators = [torch.Generator().manual_seed(request.seed) for request in job.requests]
    side = job.requests[0].width // 8
    with torch.no_grad(), applied(pipeline, job, record) as hook:
        start = side if hook.passes is None else hook.passes.first_size[0] // 8
        noise = [torch.randn(4, start, start, generator=g) for g in generators]
        latents = torch.stack(noise).to(dtype)
        words = torch.stack([torch.randn(2, 77, 32, generator=g) for g in generators]).to(dtype)
        embeddings = words.transpose(0, 1).flatten(0, 1)
        for step, sigma in enumerate(sigmas):
            if step == 1 and hook.passes is not None:
                latents = hook.passes.enlarge(latents, sigma)
            guided = job.requests[0].guidance_scale > 1 and hook.guided(step, sigma)
            rows = torch.cat([latents] * 2) if guided else latents
            words = embeddings[-len(rows) :]
            if guided and hook.halves is not None:
                prediction = hook.halves.predict(partial(_predict, pipeline), rows, words)
            else:
                prediction = _predict(pipeline, rows, words)
            latents = latents - 0.1 * prediction[-pictures:]
        shown = latents if side > 16 else latents[..., :8, :8]
        pixels = pipeline.vae.decode(shown, return_dict=False)[0]
    return TinyResult(latents, pixels, record.freeze())


def _predict(
    pipeline: StableDiffusionPipeline, rows: torch.Tensor, words: torch.Tensor
) -> torch.Tensor:
    return pipeline.unet(rows, 500, words, return_dict=False)[0]
