"""Attention and token merging on a UNet of Stable Diffusion 1.5's shape, with random weights.

What a step costs does not depend on what the weights say: the order of the options in time and
memory can be seen where there is no checkpoint, on a CPU as well. By hand, within an hour:
`python -m tests.benchmarks.sd15_shape`. The UNet has 860 million parameters, 3.4 GB in float32.

Peak memory: every setting makes one step in a process of its own, under a limit, so that the one
that needs the most takes nothing from the machine. Time: one process, all settings in turn, in a
new order each round, as ratios to the baseline's step of the same round. Pictures are not made.

Prints one JSON document; progress goes to standard error. Exits 2 for bad input.
"""

import argparse
import json
import random
import resource
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import torch
from diffusers import UNet2DConditionModel

from audit.statistics import MIN_PAIRS, median, time_ratio
from core.measurement import PeakMemory
from core.optimization import Configuration
from core.optimizations import applied, availability, chosen, configure
from core.optimizations.attention import ATTENTION
from core.platforms import Platform, detect
from core.record import Record
from core.request import Job, Model, Request

SHAPE: Mapping[str, Any] = {
    "sample_size": 64,
    "block_out_channels": (320, 640, 1280, 1280),
    "layers_per_block": 2,
    "cross_attention_dim": 768,
    "attention_head_dim": 8,
}
"""Stable Diffusion 1.5's `unet/config.json`; everything else is diffusers' default."""
MERGING = ("0.5", "0.75")
FACTOR = 8
"""Pixels per latent."""
TOKENS = 77
TIMESTEP = 500
BASELINE = "attention=sdp"
SHARE = 0.7
"""Of the memory that is available: what one child may take by default."""
MODEL = Model(name="random weights", path=Path(), digest="")


def unet(shape: Mapping[str, Any] = SHAPE) -> UNet2DConditionModel:
    """Weights drawn with a fixed seed, small enough that no number runs away."""
    with torch.device("meta"):
        made = UNet2DConditionModel(**shape)
    made = made.to_empty(device="cpu").eval()
    generator = torch.Generator().manual_seed(0)
    for parameter in made.parameters():
        if parameter.ndim > 1:
            torch.nn.init.normal_(parameter, std=0.02, generator=generator)
        else:
            torch.nn.init.zeros_(parameter)
    for module in made.modules():
        if isinstance(module, (torch.nn.GroupNorm, torch.nn.LayerNorm)):
            torch.nn.init.ones_(module.weight)
    return made


def settings_here(platform: Platform) -> dict[str, Configuration]:
    """The baseline first, then one change each, of what this platform can do."""
    texts = [("attention", option.name) for option in ATTENTION.options if option.name != "auto"]
    texts += [("token-merging", f"fixed:{ratio}") for ratio in MERGING]
    found = {}
    for slot, value in texts:
        configuration = configure({slot: value}, platform)
        if all(availability(option, platform) is None for option, _ in chosen(configuration)):
            found[f"{slot}={value}"] = configuration
    return {BASELINE: found[BASELINE], **found}


def step(
    model: UNet2DConditionModel, configuration: Configuration, size: int
) -> tuple[float, Mapping[str, str]]:
    """Seconds of one UNet call on two rows, as guidance has it, and the effect of every setting."""
    generator = torch.Generator().manual_seed(size)
    side, width = size // FACTOR, model.config.cross_attention_dim
    latents = torch.randn(2, model.config.in_channels, side, side, generator=generator)
    words = torch.randn(2, TOKENS, width, generator=generator)
    request = Request(prompt="", model=MODEL, width=size, height=size)
    job = Job(id="step", requests=(request,), configuration=configuration)
    pipeline: Any = SimpleNamespace(unet=model, vae=torch.nn.Module())
    record = Record()
    with torch.no_grad(), applied(pipeline, job, record):
        began = time.perf_counter()
        out = model(latents, TIMESTEP, words, return_dict=False)[0]
        seconds = time.perf_counter() - began
    if not out.isfinite().all():
        raise RuntimeError(f"{configuration.key}: the UNet's output is not finite")
    return seconds, {slot.slot: slot.effect for slot in record.freeze().slots}


def in_turn(
    model: UNet2DConditionModel, settings: Mapping[str, Configuration], size: int, rounds: int
) -> dict[str, dict[str, Any]]:
    """Ratios to the baseline's time, after one warm-up of each."""
    pairs: dict[str, list[tuple[float, float]]] = {name: [] for name in settings}
    effects: dict[str, Mapping[str, str]] = {}
    for turn in range(rounds + 1):
        seconds = {}
        for name in random.sample(list(settings), len(settings)):
            seconds[name], effects[name] = step(model, settings[name], size)
        if turn:
            for name, taken in seconds.items():
                pairs[name].append((taken, seconds[BASELINE]))
        print(f"{size} px: round {turn} of {rounds}", file=sys.stderr, flush=True)
    return {
        name: {
            "effects": effects[name],
            "time_ratio": time_ratio([measured]),
            "seconds_median": median([ours for ours, _ in measured]),
        }
        for name, measured in pairs.items()
    }


def memory_of(name: str, size: int, limit: int) -> dict[str, Any]:
    """One step of one setting in a process that may take so many bytes."""
    command = [sys.executable, "-m", __spec__.name, "--child", name]
    command += ["--sizes", str(size), "--memory-limit", str(limit)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    try:
        answer: dict[str, Any] = json.loads(done.stdout)
    except ValueError:
        lines = done.stderr.strip().splitlines() or [f"it ended with {done.returncode}"]
        answer = {"outcome": "failed", "reason": lines[-1]}
    print(f"{size} px: {name}: {answer['outcome']}", file=sys.stderr, flush=True)
    return answer


def child(name: str, size: int, limit: int) -> dict[str, Any]:
    """Peak bytes of one step, the weights included; what does not fit into the limit says so."""
    configuration = settings_here(detect("cpu"))[name]
    resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
    try:
        model = unet()
        memory = PeakMemory(torch.device("cpu"))
        resident = psutil.Process().memory_info().rss
        _, effects = step(model, configuration, size)
    except (MemoryError, RuntimeError) as error:
        if not isinstance(error, MemoryError) and "allocate memory" not in str(error):
            raise
        return {"outcome": "out of memory", "limit_bytes": limit}
    peak = memory.read()
    return {
        "outcome": "ok",
        "limit_bytes": limit,
        "peak_memory_bytes": peak.peak_bytes,
        "memory_kind": peak.kind,
        "above_the_weights_bytes": (peak.peak_bytes or resident) - resident,
        "effects": effects,
    }


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Single steps of a UNet shaped as in SD 1.5.")
    parser.add_argument("--sizes", type=int, nargs="+", default=[256, 512], help="pixels")
    parser.add_argument("--rounds", type=int, default=MIN_PAIRS, help="timed, after a warm-up")
    parser.add_argument("--memory-limit", type=int, help="bytes that one child may take")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    asked = parser.parse_args(arguments)
    if any(size < 64 or size % 64 for size in asked.sizes):
        parser.error("--sizes are multiples of 64 pixels.")
    if asked.rounds < 1:
        parser.error("--rounds must be at least 1.")
    limit = asked.memory_limit or int(SHARE * psutil.virtual_memory().available)
    if asked.child:
        print(json.dumps(child(asked.child, asked.sizes[0], limit)))
        return 0
    platform = detect("cpu")
    settings = settings_here(platform)
    memory = {
        size: {name: memory_of(name, size, limit) for name in settings} for size in asked.sizes
    }
    model = unet()
    document = {
        "platform": asdict(platform),
        "unet_parameters": sum(parameter.numel() for parameter in model.parameters()),
        "baseline": BASELINE,
        "rows_per_call": 2,
        "rounds": asked.rounds,
        "sizes": [],
    }
    for size in asked.sizes:
        fitting = {name: c for name, c in settings.items() if memory[size][name]["outcome"] == "ok"}
        timed = in_turn(model, fitting, size, asked.rounds) if BASELINE in fitting else {}
        document["sizes"].append(
            {
                "pixels": size,
                "latent_tokens": (size // FACTOR) ** 2,
                "rows": {
                    name: {**memory[size][name], **_plain(timed.get(name, {}))} for name in settings
                },
            }
        )
    print(json.dumps(document, indent=2, default=str))
    return 0


def _plain(figures: Mapping[str, Any]) -> dict[str, Any]:
    ratio = figures.get("time_ratio")
    return {**figures, "time_ratio": asdict(ratio) if ratio else None}


if __name__ == "__main__":
    sys.exit(main())
