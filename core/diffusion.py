"""The real engine: runs a job in this process, with a denoising loop of our own."""

import hashlib
import os
from contextlib import ExitStack
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
import psutil
import torch
from PIL import Image

from core import noise
from core.clip_skip import skipping
from core.denoising import Cancelled, denoise
from core.finite import require_finite
from core.infotext import infotext
from core.instruction_sets import current
from core.measurement import Stopwatch
from core.models import check
from core.optimizations import applied, draws
from core.optimizations.unet_calls import watching_unet
from core.picture_file import Texts, save
from core.platforms import Platform, one_sentence
from core.pool import Pool
from core.preview import Preview
from core.prompts import encode
from core.receipt import dump, receipt_of
from core.record import Record
from core.request import Job, ProcessKind, Watch
from core.run import Effective, Environment, Outcome, Picture, Run
from core.shortage import ran_out


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
        pictures: tuple[Picture, ...] = ()
        outcome: Outcome = "ok"
        reason = shortage = ""
        for note in job.notes:
            record.note(note)
        try:
            if job.conditions.generator_seed is not None:
                torch.manual_seed(job.conditions.generator_seed)
            if draws(job.configuration):
                environment = replace(environment, generator_seed=torch.initial_seed())
            _check(job, environment)
            with torch.no_grad():
                pictures = self._pictures(job, watch, record, stopwatch, environment)
        except Cancelled:
            outcome, reason = "cancelled", "Cancelled by the user."
        except Exception as error:
            outcome, reason = "failed", one_sentence(error)
            if ran_out(error):
                shortage = stopwatch.broken_in
                reason = (
                    f"{self.platform.device} ran out of memory: make the picture or the batch "
                    "smaller, or choose settings that need less."
                )
        if shortage:
            self.pool.clear()
        elif outcome != "ok":
            self.pool.collect()
        self._calls += 1
        return Run(
            job=job,
            outcome=outcome,
            environment=replace(environment, threads=record.threads or environment.threads),
            pictures=pictures,
            effective=record.freeze(),
            timings=stopwatch.timings(),
            memory=stopwatch.memory.read(),
            usage=stopwatch.usage(),
            reason=reason,
            shortage=shortage,
        )

    def _pictures(
        self,
        job: Job,
        watch: Watch,
        record: Record,
        stopwatch: Stopwatch,
        environment: Environment,
    ) -> tuple[Picture, ...]:
        first = job.requests[0]
        with ExitStack() as stack:
            with stopwatch.stage("load"):
                pipeline = self.pool.get(first.model, job.configuration)
                hook = stack.enter_context(applied(pipeline, job, record))
            stopwatch.loaded_bytes = stopwatch.memory.in_use()
            record.threads = torch.get_num_threads()
            environment = replace(environment, threads=record.threads)
            with (
                stopwatch.stage("encode"),
                stopwatch.part("text-encoder"),
                skipping(pipeline, first.clip_skip, record),
            ):
                embeddings = encode(pipeline, job.requests, record)
            with stopwatch.stage("denoise"), watching_unet(pipeline, record.see_unet_call):
                start, latents, steps = denoise(
                    pipeline,
                    job,
                    watch,
                    hook,
                    embeddings,
                    stopwatch,
                    self._preview(pipeline, job),
                    record,
                )
            if watch.cancelled():
                raise Cancelled
            with stopwatch.stage("decode"), stopwatch.part("vae"):
                images = _decode(pipeline, latents)
        with stopwatch.stage("save"):
            environment = replace(environment, threads=record.threads or environment.threads)
            made = []
            for i, request in enumerate(job.requests):
                picture = Picture(
                    request=request,
                    noise_sha256=noise.digest(start[i]),
                    latents_sha256=noise.digest(latents[i]),
                    pixels_sha256=hashlib.sha256(np.asarray(images[i]).tobytes()).hexdigest(),
                    step_sha256s=tuple(step[i] for step in steps),
                )
                texts = self._texts(job, i, picture, record.freeze(), environment)
                made.append(replace(picture, path=save(images[i], self.pictures, texts)))
            return tuple(made)

    def _texts(
        self,
        job: Job,
        position: int,
        picture: Picture,
        effective: Effective,
        environment: Environment,
    ) -> Texts:
        receipt = receipt_of(job, position, picture, effective, environment, self.platform)
        return Texts(
            infotext=infotext(picture.request, job.configuration, effective),
            receipt=dump(receipt),
        )

    def _preview(self, pipeline: Any, job: Job) -> Preview | None:
        """The pipeline's own; it goes when the pool lets the pipeline go."""
        return self._previews.setdefault(pipeline, Preview()) if job.preview else None

    def held_bytes(self) -> int:
        """Resident bytes of this process beside the weights it keeps: what its work left behind."""
        return int(psutil.Process().memory_info().rss) - self.pool.weight_bytes()

    def environment(self) -> Environment:
        """This process as it is now."""
        process = psutil.Process()
        return Environment(
            fingerprint=self.platform.fingerprint,
            device=self.platform.device,
            threads=torch.get_num_threads(),
            instruction_set=current(),
            process=self.process,
            process_id=f"{int(psutil.boot_time())}-{os.getpid()}-{process.create_time():.2f}",
            calls_before=self._calls,
            versions=dict(self.platform.versions),
            started_at=datetime.now(UTC).isoformat(timespec="milliseconds"),
        )


def _check(job: Job, environment: Environment) -> None:
    """Refuse what would be recorded as something it is not, with one sentence each."""
    shared = {
        (
            r.model.digest,
            r.width,
            r.height,
            r.num_inference_steps,
            r.sampler,
            r.schedule,
            r.guidance_scale,
            r.noise_source,
            r.eta_noise_seed_delta,
            r.clip_skip,
        )
        for r in job.requests
    }
    if len(shared) > 1:
        raise ValueError(
            "The requests of one batch must share everything but prompts, seeds and variations: "
            "make a job of each."
        )
    for request in job.requests:
        check(request)
    threads = job.conditions.threads
    if threads is not None and threads != environment.threads:
        raise ValueError(
            f"The job asks for {threads} threads and this process computes with "
            f"{environment.threads}: open a worker with that many."
        )
    kernels = job.conditions.instruction_set
    if kernels is not None and kernels != environment.instruction_set:
        raise ValueError(
            f"The job asks for {kernels} kernels and this process computes with "
            f"{environment.instruction_set} ones: open a worker that is limited to them."
        )
    if job.conditions.process == "exec" and environment.process != "exec":
        raise ValueError("The job asks for an exec'd process and this one was forked.")


def _decode(pipeline: Any, latents: torch.Tensor) -> list[Image.Image]:
    decoded = pipeline.vae.decode(latents / pipeline.vae.config.scaling_factor, return_dict=False)
    require_finite(decoded[0], "The decoded picture")
    images: list[Image.Image] = pipeline.image_processor.postprocess(decoded[0], output_type="pil")
    return images
