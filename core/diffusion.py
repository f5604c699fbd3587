"""The real engine: a denoising loop of its own around diffusers' parts."""

import hashlib
import io
import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
import psutil
import torch
from PIL import Image

from core import noise
from core.measurement import PeakMemory, Stopwatch
from core.models import check
from core.optimizations import applied
from core.platforms import Platform, one_sentence
from core.pool import Pool
from core.preview import Preview
from core.prompts import encode
from core.record import Record
from core.request import Job, ProcessKind, StepEvent, Watch
from core.run import Environment, Outcome, Picture, Run
from core.samplers import scheduler_for


class _Cancelled(Exception):
    """Unwinds the loop and every patch when the watch says stop."""


class DiffusersEngine:
    """Makes pictures in this process, on one device, one job at a time.

    The loop gives the same bits as `diffusers.StableDiffusionPipeline` at equal settings. It is
    our own because guidance can then be skipped in any step, the first included, and because a
    cancelled job stops between two steps without decoding.
    """

    def __init__(
        self,
        platform: Platform,
        pictures: Path,
        process: ProcessKind = "exec",
        capacity: int = 2,
    ) -> None:
        self.platform = platform
        self.pictures = pictures
        self.process = process
        self.pool = Pool(torch.device(platform.device), capacity)
        self._calls = 0
        self._previews: WeakKeyDictionary[Any, Preview] = WeakKeyDictionary()

    def run(self, job: Job, watch: Watch) -> Run:
        """Never raises for a job that cannot be done: the outcome and its reason say so."""
        environment = self.environment()
        record = Record()
        stopwatch = Stopwatch(self.pool.device)
        memory = PeakMemory(self.pool.device)
        pictures: tuple[Picture, ...] = ()
        outcome: Outcome = "ok"
        reason = ""
        try:
            _check(job, environment)
            with torch.no_grad():
                pictures = self._pictures(job, watch, record, stopwatch)
        except _Cancelled:
            outcome, reason = "cancelled", "Cancelled by the user."
        except torch.OutOfMemoryError:
            outcome = "failed"
            reason = (
                f"{self.platform.device} ran out of memory: make the picture or the batch smaller, "
                "or choose an attention option that needs less."
            )
        except Exception as error:
            outcome, reason = "failed", one_sentence(error)
        if outcome != "ok":
            self.pool.collect()
        self._calls += 1
        return Run(
            job=job,
            outcome=outcome,
            environment=environment,
            pictures=pictures,
            effective=record.freeze(),
            timings=stopwatch.timings(),
            memory=memory.read(),
            reason=reason,
        )

    def _pictures(
        self, job: Job, watch: Watch, record: Record, stopwatch: Stopwatch
    ) -> tuple[Picture, ...]:
        first = job.requests[0]
        guided = first.guidance_scale > 1
        with stopwatch.stage("load"):
            pipeline = self.pool.get(first.model, job.configuration)
        with applied(pipeline, job, record) as hook:
            with stopwatch.stage("encode"):
                embeddings = encode(pipeline, job.requests, guided, record)
            with stopwatch.stage("denoise"):
                start, latents, steps = self._denoise(
                    pipeline, job, watch, hook, embeddings, stopwatch
                )
            if watch.cancelled():
                raise _Cancelled
            with stopwatch.stage("decode"):
                images = _decode(pipeline, latents)
        with stopwatch.stage("save"):
            return tuple(
                Picture(
                    request=request,
                    noise_sha256=noise.digest(start[i]),
                    latents_sha256=noise.digest(latents[i]),
                    pixels_sha256=hashlib.sha256(np.asarray(images[i]).tobytes()).hexdigest(),
                    step_sha256s=tuple(step[i] for step in steps),
                    path=_save(images[i], self.pictures),
                )
                for i, request in enumerate(job.requests)
            )

    def _denoise(
        self,
        pipeline: Any,
        job: Job,
        watch: Watch,
        hook: Any,
        embeddings: torch.Tensor,
        stopwatch: Stopwatch,
    ) -> tuple[torch.Tensor, torch.Tensor, list[list[str]]]:
        """Noise, final latents, and digests by step and picture."""
        first = job.requests[0]
        count = len(job.requests)
        device, dtype = self.pool.device, embeddings.dtype
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
        preview = self._preview(pipeline) if job.preview else None
        steps: list[list[str]] = []
        began = stopwatch.now()
        for i, timestep in enumerate(scheduler.timesteps):
            if watch.cancelled():
                raise _Cancelled
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

    def _preview(self, pipeline: Any) -> Preview:
        """The pipeline's own; it goes when the pool lets the pipeline go."""
        return self._previews.setdefault(pipeline, Preview())

    def environment(self) -> Environment:
        """This process as it is now."""
        process = psutil.Process()
        return Environment(
            fingerprint=self.platform.fingerprint,
            device=self.platform.device,
            threads=torch.get_num_threads(),
            instruction_set=self.platform.instruction_set,
            process=self.process,
            process_id=f"{int(psutil.boot_time())}-{os.getpid()}-{process.create_time():.2f}",
            calls_before=self._calls,
            versions=dict(self.platform.versions),
            started_at=datetime.now(UTC).isoformat(timespec="milliseconds"),
        )


def _check(job: Job, environment: Environment) -> None:
    """Refuse what would be recorded as something it is not, with one sentence each."""
    first = job.requests[0]
    shared = {
        (r.model.digest, r.width, r.height, r.num_inference_steps, r.sampler, r.guidance_scale)
        for r in job.requests
    }
    if len(shared) > 1:
        raise ValueError(
            "The requests of one batch must share model, size, steps, sampler and guidance: "
            "make a job of each."
        )
    check(first)
    threads = job.conditions.threads
    if threads is not None and threads != environment.threads:
        raise ValueError(
            f"The job asks for {threads} threads and this process computes with "
            f"{environment.threads}: open a worker with that many."
        )
    if job.conditions.process == "exec" and environment.process != "exec":
        raise ValueError("The job asks for an exec'd process and this one was forked.")


def _decode(pipeline: Any, latents: torch.Tensor) -> list[Image.Image]:
    decoded = pipeline.vae.decode(latents / pipeline.vae.config.scaling_factor, return_dict=False)
    images: list[Image.Image] = pipeline.image_processor.postprocess(decoded[0], output_type="pil")
    return images


def _save(image: Image.Image, folder: Path) -> Path:
    """Write a PNG named by its own SHA-256; a file is whole or not there."""
    buffer = io.BytesIO()
    image.save(buffer, format="PNG")
    data = buffer.getvalue()
    path = folder / f"{hashlib.sha256(data).hexdigest()}.png"
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        partial = path.with_suffix(f".{os.getpid()}.part")
        partial.write_bytes(data)
        partial.replace(path)
    return path
