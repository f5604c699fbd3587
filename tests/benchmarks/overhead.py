"""What Seedproof's own path costs beside diffusers' pipeline, where both give the same pixels.

Ours is `DiffusersEngine` as the product uses it: settings recorded as they act, digests of every
step, a PNG with its receipt on the disk. Theirs is `StableDiffusionPipeline`, loaded and called as
its documentation says, without a progress bar, and without a file at the end. Both live in one
process and take turns, in random order within each pair, so that what slows the machine slows both.

Prints one JSON document; progress goes to standard error. Exits 0 where the goal is met, 1 where it
is not or where a pixel differs, 2 for bad input.
"""

import argparse
import gc
import hashlib
import json
import os
import random
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import torch
from diffusers import StableDiffusionPipeline

from audit.statistics import median, spread, time_ratio
from core.diffusion import DiffusersEngine
from core.measurement import PeakMemory
from core.models import native_size, resolve
from core.optimizations import availability, configure
from core.optimizations.attention import ATTENTION
from core.platforms import Platform, detect
from core.request import Following, Job, Request
from core.run import Run
from core.samplers import SAMPLERS

SHIPPED = Path(__file__).resolve().parents[2] / "data" / "pocket"
PROMPT, NEGATIVE = "a red apple, cartoon style", "blurry"
GOAL = 1.05
"""The upper end of the 95 % interval of the ratio, ours ÷ theirs, may be this."""
FEWEST_PAIRS = 15
WARM_UP = 2
INFORMATIVE_STEPS = 8
SHOWN = ("width", "height", "num_inference_steps", "guidance_scale", "sampler")
_DEFAULTS: Mapping[str, str] = {}


class UnequalPixels(Exception):
    """The two paths made different pictures, so that their times say nothing."""


@dataclass(frozen=True, kw_only=True)
class Call:
    """One picture, and what it took."""

    seconds: float
    cpu_seconds: float
    """Of all threads of this process: other programs do not count, waiting for them does not."""
    peak_bytes: int | None
    grown_bytes: int | None
    """From the resident size before the call to its peak."""
    pixels_sha256: str


Make = Callable[[int], tuple[str, int | None]]
"""From a seed to the SHA-256 of the pixels, and to the peak bytes of who resets the process's mark
while it works; everything that is timed happens in it."""


def call(make: Make, seed: int, device: torch.device) -> Call:
    gc.collect()
    memory = PeakMemory(device)
    resident = psutil.Process().memory_info().rss
    cpu, start = time.process_time(), time.perf_counter()
    digest, own_peak = make(seed)
    seconds, cpu_seconds = time.perf_counter() - start, time.process_time() - cpu
    peaks = [known for known in (memory.read().peak_bytes, own_peak) if known is not None]
    peak = max(peaks, default=None)
    grown = max(0, peak - resident) if peak is not None and device.type == "cpu" else None
    return Call(
        seconds=seconds,
        cpu_seconds=cpu_seconds,
        peak_bytes=peak,
        grown_bytes=grown,
        pixels_sha256=digest,
    )


def paired(
    ours: Make, theirs: Make, seeds: Sequence[int], device: torch.device
) -> list[tuple[Call, Call]]:
    """(ours, theirs) for every seed, in an order that is drawn anew. Raises UnequalPixels."""
    pairs = []
    for number, seed in enumerate(seeds):
        sides = [(0, ours), (1, theirs)]
        random.shuffle(sides)
        made = {side: call(make, seed, device) for side, make in sides}
        if made[0].pixels_sha256 != made[1].pixels_sha256:
            raise UnequalPixels(
                f"Seed {seed}: our pixels are {made[0].pixels_sha256[:12]}, diffusers' are "
                f"{made[1].pixels_sha256[:12]}. No ratio is given."
            )
        pairs.append((made[0], made[1]))
        ratio = made[0].seconds / made[1].seconds
        print(f"pair {number + 1} of {len(seeds)}: {ratio:.3f}", file=sys.stderr, flush=True)
    return pairs


def compared(pairs: Sequence[tuple[Call, Call]]) -> dict[str, Any]:
    """The figures of the comparison, ours ÷ theirs."""
    ratio = time_ratio([[(a.seconds, b.seconds) for a, b in pairs]])
    work = time_ratio([[(a.cpu_seconds, b.cpu_seconds) for a, b in pairs]])
    assert ratio is not None
    assert work is not None
    ours, theirs = ([pair[side] for pair in pairs] for side in (0, 1))
    return {
        "met": ratio.ci95[1] <= GOAL,
        "goal": f"upper bound of the 95 % interval of the ratio <= {GOAL}",
        "ratio": {
            "paired_log_ratio_median": ratio.median,
            "ci95": ratio.ci95,
            "upper": ratio.ci95[1],
            "of_medians": _middle(ours, "seconds") / _middle(theirs, "seconds"),
        },
        "cpu_time_ratio": {"paired_log_ratio_median": work.median, "ci95": work.ci95},
        "pairs": len(pairs),
        "pixels": f"SHA-256 equal in {len(pairs)} of {len(pairs)} pairs",
        "ours": _side(ours),
        "diffusers": _side(theirs),
    }


def _side(calls: Sequence[Call]) -> dict[str, Any]:
    seconds = [made.seconds for made in calls]
    return {
        "seconds_median": median(seconds),
        "seconds_quartiles": [float(q) for q in np.quantile(seconds, (0.25, 0.75))],
        "quartile_spread": spread(seconds),
        "peak_memory_bytes": max((made.peak_bytes or 0 for made in calls), default=0) or None,
        "peak_memory_growth_bytes": max((made.grown_bytes or 0 for made in calls), default=0),
    }


def _middle(calls: Sequence[Call], what: str) -> float:
    return float(np.median([getattr(made, what) for made in calls]))


def candidates(request: Request, platform: Platform) -> dict[str, Job]:
    """What else is timed, beside the defaults: one change each."""
    plain = job_for(request, platform)
    jobs = {"preview=on": replace(plain, preview=True)}
    for option in ATTENTION.options:
        if availability(option, platform) is None:
            settings = {"attention": option.name}
            jobs[f"attention={option.name}"] = job_for(request, platform, settings)
    for sampler in SAMPLERS:
        jobs[f"sampler={sampler.name}"] = job_for(replace(request, sampler=sampler.name), platform)
    return {name: job for name, job in jobs.items() if job != plain}


def informative(engine: DiffusersEngine, request: Request, rounds: int) -> dict[str, Any]:
    """Seconds per picture ÷ the defaults', after a warm-up: too few pairs for intervals."""
    request = replace(request, num_inference_steps=INFORMATIVE_STEPS)
    plain, jobs = job_for(request, engine.platform), candidates(request, engine.platform)
    pairs: dict[str, list[tuple[float, float]]] = {name: [] for name in jobs}
    for turn in range(rounds + 1):
        for name, job in random.sample(list(jobs.items()), len(jobs)):
            runs = [_run(engine, asked) for asked in random.sample([job, plain], 2)]
            if turn:
                seconds = {run.job: run.timings.picture for run in runs}
                pairs[name].append((seconds[job], seconds[plain]))
        print(f"informative round {turn} of {rounds}", file=sys.stderr, flush=True)
    ratios = {name: time_ratio([measured]) for name, measured in pairs.items()}
    return {
        "num_inference_steps": INFORMATIVE_STEPS,
        "pairs_each": rounds,
        "median_ratio_to_defaults": {name: r.median for name, r in ratios.items() if r},
    }


def job_for(request: Request, platform: Platform, settings: Mapping[str, str] = _DEFAULTS) -> Job:
    return Job(id="bench", requests=(request,), configuration=configure(settings, platform))


def _run(engine: DiffusersEngine, job: Job) -> Run:
    run = engine.run(job, Following())
    if run.outcome != "ok":
        raise RuntimeError(f"{job.configuration.key}: {run.reason}")
    return run


def sides(engine: DiffusersEngine, request: Request) -> tuple[Make, Make]:
    """Ours and theirs for the same request, seed by seed."""
    pipeline = StableDiffusionPipeline.from_pretrained(request.model.path)
    pipeline.to(engine.platform.device)
    pipeline.set_progress_bar_config(disable=True)

    def ours(seed: int) -> tuple[str, int | None]:
        run = _run(engine, job_for(replace(request, seed=seed), engine.platform))
        return run.pictures[0].pixels_sha256, run.memory.peak_bytes

    def theirs(seed: int) -> tuple[str, int | None]:
        image = pipeline(
            request.prompt,
            negative_prompt=request.negative_prompt,
            width=request.width,
            height=request.height,
            num_inference_steps=request.num_inference_steps,
            guidance_scale=request.guidance_scale,
            generator=torch.Generator().manual_seed(seed),
        ).images[0]
        return hashlib.sha256(np.asarray(image).tobytes()).hexdigest(), None

    return ours, theirs


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Our path beside diffusers' pipeline, as a ratio.")
    parser.add_argument("--pairs", type=int, default=20)
    parser.add_argument("--num-inference-steps", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=3, help="of the informative ratios; 0: none")
    asked = parser.parse_args(arguments)
    if asked.pairs < FEWEST_PAIRS:
        parser.error(f"--pairs must be at least {FEWEST_PAIRS}: fewer say too little.")
    load = [os.getloadavg()]
    platform = detect()
    model = resolve("pocket", SHIPPED)
    size = native_size(model)
    request = Request(
        prompt=PROMPT,
        negative_prompt=NEGATIVE,
        model=model,
        width=size,
        height=size,
        num_inference_steps=asked.num_inference_steps,
        guidance_scale=5.0,
    )
    with tempfile.TemporaryDirectory() as folder:
        engine = DiffusersEngine(platform, Path(folder))
        ours, theirs = sides(engine, request)
        device = torch.device(platform.device)
        try:
            paired(ours, theirs, range(WARM_UP), device)
            pairs = paired(ours, theirs, range(WARM_UP, WARM_UP + asked.pairs), device)
        except UnequalPixels as error:
            print(error, file=sys.stderr)
            return 1
        load.append(os.getloadavg())
        more = informative(engine, request, asked.rounds) if asked.rounds else None
    document = {
        **compared(pairs),
        "settings": {
            "model": model.name,
            "configuration": configure({}, platform).as_dict(),
            **{name: getattr(request, name) for name in SHOWN},
            "batch_size": 1,
            "seeds": f"{WARM_UP} to {WARM_UP + asked.pairs - 1}, after {WARM_UP} pairs to warm up",
        },
        "platform": {**asdict(platform), "load_average_before_and_after": load},
        "informative": more,
    }
    print(json.dumps(document, indent=2, default=str))
    return 0 if document["met"] else 1


if __name__ == "__main__":
    sys.exit(main())
