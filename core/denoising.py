"""The denoising loop: the bits of diffusers' own pipeline, with guidance that may be skipped in any
step, and a stop between any two."""

from typing import Any

import torch

from core import noise
from core.finite import require_finite
from core.measurement import Stopwatch
from core.preview import Preview
from core.request import Job, StepEvent, Watch
from core.samplers import scheduler_for


class Cancelled(Exception):
    """Unwinds the loop and every patch when the watch says stop."""


def denoise(
    pipeline: Any,
    job: Job,
    watch: Watch,
    hook: Any,
    embeddings: torch.Tensor,
    stopwatch: Stopwatch,
    preview: Preview | None,
) -> tuple[torch.Tensor, torch.Tensor, list[list[str]]]:
    """Initial noise (float32, on the CPU) and final latents, both (pictures, channels, height/f,
    width/f), and digests by step and picture. Raises Cancelled when the watch says stop.

    `embeddings`: (rows, tokens, width), the unconditional rows first where there is guidance.
    """
    first = job.requests[0]
    count = len(job.requests)
    device, dtype = pipeline.device, embeddings.dtype
    scheduler = scheduler_for(first.sampler, pipeline.scheduler.config)
    scheduler.set_timesteps(first.num_inference_steps, device=device)
    factor = pipeline.vae_scale_factor
    shape = (
        pipeline.unet.config.in_channels,
        first.height // factor,
        first.width // factor,
    )
    start = noise.initial_noise([request.seed for request in job.requests], shape)
    latents = start.to(device, dtype) * scheduler.init_noise_sigma
    if job.conditions.nudge is not None:
        latents = noise.nudge(latents, job.conditions.nudge)
    steps: list[list[str]] = []
    began = stopwatch.now()
    for i, timestep in enumerate(scheduler.timesteps):
        if watch.cancelled():
            raise Cancelled
        sigma = float(scheduler.sigmas[i])
        guided = first.guidance_scale > 1 and hook.guided(i, sigma)
        rows = embeddings if guided else embeddings[-count:]
        model_input = torch.cat([latents] * 2) if guided else latents
        prediction = pipeline.unet(
            scheduler.scale_model_input(model_input, timestep),
            timestep,
            encoder_hidden_states=rows,
            timestep_cond=None,
            cross_attention_kwargs=None,
            added_cond_kwargs=None,
            return_dict=False,
        )[0]
        if guided:
            negative, positive = prediction.chunk(2)
            prediction = negative + first.guidance_scale * (positive - negative)
        moved = scheduler.step(prediction, timestep, latents, return_dict=False)
        latents, estimate = moved[0], moved[-1]
        require_finite(latents, f"Step {i + 1} of {len(scheduler.timesteps)}")
        if job.capture_steps:
            steps.append([noise.digest(row) for row in latents])
        ended = stopwatch.now()
        stopwatch.steps.append(ended - began)
        watch.on_step(
            StepEvent(
                step=i + 1,
                num_inference_steps=len(scheduler.timesteps),
                sigma=sigma,
                seconds=ended - began,
                preview_png=preview.png(pipeline.vae, estimate) if preview else None,
            )
        )
        began = stopwatch.now()
    return start, latents, steps
