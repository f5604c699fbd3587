"""The denoising loop: the bits of diffusers' own pipeline, with guidance that may be skipped in any
step, and a stop between any two."""

from contextlib import nullcontext
from typing import Any

import torch

from core import noise, samplers, schedules
from core.finite import require_finite
from core.measurement import Stopwatch
from core.preview import Preview
from core.random_numbers import RandomNumbers
from core.record import Record
from core.request import Job, StepEvent, Watch


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
    record: Record,
) -> tuple[torch.Tensor, torch.Tensor, list[list[str]]]:
    """Initial noise (float32, on the CPU) and final latents, both (pictures, channels, height/f,
    width/f), and digests by step and picture. Raises Cancelled when the watch says stop.

    A step is one of `num_inference_steps`; Heun calls the UNet twice in each but the last. Hooks
    and the watch are asked before every call; events, seconds and digests come after every step.

    `embeddings`: (rows, tokens, width), the unconditional rows first where there is guidance.
    """
    first = job.requests[0]
    count = len(job.requests)
    device, dtype = embeddings.device, embeddings.dtype
    scheduler = samplers.scheduler_for(first.sampler, pipeline.scheduler.config, first.schedule)
    samplers.set_timesteps(
        scheduler, first.sampler, first.schedule, first.num_inference_steps, device
    )
    levels = schedules.ScheduleRecord(schedules.find(first.schedule), record)
    sigmas = samplers.sigmas(scheduler)
    factor = pipeline.vae_scale_factor
    shape = (
        pipeline.unet.config.in_channels,
        first.height // factor,
        first.width // factor,
    )
    numbers = RandomNumbers(job.requests, device, record)
    ancestral = samplers.find(first.sampler).ancestral
    start = numbers.initial(shape)
    latents = start.to(device, dtype) * scheduler.init_noise_sigma
    if job.conditions.nudge is not None:
        latents = noise.nudge(latents, job.conditions.nudge)
    steps: list[list[str]] = []
    began, began_call = stopwatch.now(), 0
    for call, timestep in enumerate(scheduler.timesteps):
        if watch.cancelled():
            raise Cancelled
        guided = first.guidance_scale > 1 and hook.guided(call, sigmas[call])
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
        with numbers.given() if ancestral else nullcontext():
            moved = scheduler.step(prediction, timestep, latents, return_dict=False)
        latents = moved[0]
        levels.see(scheduler, call)
        if (call + 1) % scheduler.order and call + 1 < len(sigmas):
            continue
        step, of = len(stopwatch.steps) + 1, -(-len(sigmas) // scheduler.order)
        require_finite(latents, f"Step {step} of {of}")
        if job.capture_steps:
            steps.append([noise.digest(row) for row in latents])
        ended = stopwatch.now()
        stopwatch.steps.append(ended - began)
        estimate = samplers.estimate(scheduler, moved)
        watch.on_step(
            StepEvent(
                step=step,
                num_inference_steps=of,
                sigma=sigmas[began_call],
                seconds=ended - began,
                preview_png=preview.png(pipeline.vae, estimate) if preview else None,
            )
        )
        began, began_call = stopwatch.now(), call + 1
    levels.conclude()
    numbers.conclude()
    return start, latents, steps
