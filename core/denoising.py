"""The denoising loop: the bits of diffusers' own pipeline, with guidance that may be skipped in any
step, and a stop between any two."""

from contextlib import nullcontext
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch

from core import noise, samplers, schedules
from core.finite import require_finite
from core.measurement import Stopwatch
from core.preview import Preview
from core.random_numbers import RandomNumbers
from core.record import Record
from core.request import Job, Request, StepEvent, Watch


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
    Where `hook.passes` says that the picture begins small, the noise is of that size, and steps
    and calls of the second pass are counted on from the first.

    `embeddings`: (rows, tokens, width), the unconditional rows first where there is guidance.
    """
    first, passes = job.requests[0], hook.passes
    device, dtype = embeddings.device, embeddings.dtype
    width, height = (first.width, first.height) if passes is None else passes.first_size
    factor = pipeline.vae_scale_factor
    shape = (pipeline.unet.config.in_channels, height // factor, width // factor)
    whole = _course(pipeline, first, device, first.num_inference_steps)
    rest = None if passes is None else _course(pipeline, first, device, passes.refining_steps)
    levels = schedules.ScheduleRecord(schedules.find(first.schedule), record)
    loop = _Loop(
        pipeline=pipeline,
        job=job,
        watch=watch,
        hook=hook,
        embeddings=embeddings,
        stopwatch=stopwatch,
        preview=preview,
        levels=levels,
        steps=whole.steps + (rest.steps if rest else 0),
    )
    numbers = RandomNumbers(job.requests, device, record)
    start = numbers.initial(shape)
    latents = start.to(device, dtype) * whole.scheduler.init_noise_sigma
    if job.conditions.nudge is not None:
        latents = noise.nudge(latents, job.conditions.nudge)
    latents = loop.descend(whole, latents, numbers, calls_before=0)
    if rest is not None:
        if watch.cancelled():
            raise Cancelled
        with stopwatch.part("upscaler"):
            larger = passes.enlarge(latents, rest.sigmas[0])
        added = numbers.second((shape[0], larger.shape[2], larger.shape[3]))
        level = rest.timesteps[:1].repeat(len(job.requests))
        latents = rest.scheduler.add_noise(larger, added.to(device, dtype), level)
        latents = loop.descend(rest, latents, numbers, calls_before=len(whole.sigmas))
    levels.conclude()
    numbers.conclude()
    return start, latents, loop.digests


@dataclass(frozen=True, kw_only=True)
class _Course:
    """A way down through the noise levels, with the scheduler that goes it."""

    scheduler: Any
    timesteps: torch.Tensor
    """Of every UNet call, like `sigmas`."""
    sigmas: list[float]
    begin: int
    """How many UNet calls the whole schedule has before."""

    @property
    def steps(self) -> int:
        return -(-len(self.sigmas) // int(self.scheduler.order))


def _course(pipeline: Any, request: Request, device: torch.device, steps: int) -> _Course:
    """The last `steps` steps of the request's schedule, found as diffusers' image-to-image does."""
    name, schedule = request.sampler, request.schedule
    scheduler = samplers.scheduler_for(name, pipeline.scheduler.config, schedule)
    samplers.set_timesteps(scheduler, name, schedule, request.num_inference_steps, device)
    begin = (request.num_inference_steps - steps) * scheduler.order
    if begin and hasattr(scheduler, "set_begin_index"):
        scheduler.set_begin_index(begin)
    return _Course(
        scheduler=scheduler,
        timesteps=scheduler.timesteps[begin:],
        sigmas=samplers.sigmas(scheduler)[begin:],
        begin=begin,
    )


@dataclass(frozen=True, kw_only=True)
class _Loop:
    """What the passes of one job share."""

    pipeline: Any
    job: Job
    watch: Watch
    hook: Any
    embeddings: torch.Tensor
    stopwatch: Stopwatch
    preview: Preview | None
    levels: schedules.ScheduleRecord
    steps: int
    """In all passes together."""
    digests: list[list[str]] = field(default_factory=list)

    def descend(
        self,
        course: _Course,
        latents: torch.Tensor,
        numbers: RandomNumbers,
        calls_before: int,
    ) -> torch.Tensor:
        """Latents at the course's first noise level to latents without noise."""
        job, watch, stopwatch = self.job, self.watch, self.stopwatch
        first, scheduler, sigmas = job.requests[0], course.scheduler, course.sigmas
        ancestral = samplers.find(first.sampler).ancestral
        began, began_call = stopwatch.now(), 0
        for call, timestep in enumerate(course.timesteps):
            if watch.cancelled():
                raise Cancelled
            guided = first.guidance_scale > 1 and self.hook.guided(
                calls_before + call, sigmas[call]
            )
            rows = self.embeddings if guided else self.embeddings[-len(job.requests) :]
            model_input = torch.cat([latents] * 2) if guided else latents
            model_input = scheduler.scale_model_input(model_input, timestep)
            predict = partial(self._predict, timestep)
            if guided and self.hook.halves is not None:
                prediction = self.hook.halves.predict(predict, model_input, rows)
            else:
                prediction = predict(model_input, rows)
            if guided:
                with stopwatch.part("guidance"):
                    negative, positive = prediction.chunk(2)
                    prediction = negative + first.guidance_scale * (positive - negative)
            with numbers.given() if ancestral else nullcontext():
                moved = scheduler.step(prediction, timestep, latents, return_dict=False)
            latents = moved[0]
            self.levels.see(scheduler, course.begin + call)
            if (call + 1) % scheduler.order and call + 1 < len(sigmas):
                continue
            step = len(stopwatch.steps) + 1
            require_finite(latents, f"Step {step} of {self.steps}")
            if job.capture_steps:
                self.digests.append([noise.digest(row) for row in latents])
            ended = stopwatch.now()
            stopwatch.step(ended - began)
            if self.hook.passes is not None:
                self.hook.passes.stepped()
            estimate = samplers.estimate(scheduler, moved)
            preview = None
            if self.preview is not None:
                with stopwatch.part("preview"):
                    preview = self.preview.png(self.pipeline.vae, estimate)
            watch.on_step(
                StepEvent(
                    step=step,
                    num_inference_steps=self.steps,
                    sigma=sigmas[began_call],
                    seconds=ended - began,
                    preview_png=preview,
                )
            )
            began, began_call = stopwatch.now(), call + 1
        return latents

    def _predict(
        self, timestep: torch.Tensor, model_input: torch.Tensor, rows: torch.Tensor
    ) -> torch.Tensor:
        with self.stopwatch.part("unet"):
            prediction: torch.Tensor = self.pipeline.unet(
                model_input,
                timestep,
                encoder_hidden_states=rows,
                timestep_cond=None,
                cross_attention_kwargs=None,
                added_cond_kwargs=None,
                return_dict=False,
            )[0]
        return prediction
