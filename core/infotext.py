"""A picture's settings as AUTOMATIC1111 writes them, so that other programs read ours.

The layout of `processing.create_infotext` of v1.10.1: the prompt, the negative prompt, and one line
of `key: value` pairs; a value with a comma, a colon or a line end is quoted as JSON. What that
program has no key for (attention, precision, digests) is in our own receipt beside it.
"""

import json

from core import __version__
from core.optimization import Configuration
from core.optimizations.enlarging import UPSCALERS
from core.receipt import anonymous
from core.request import Request
from core.run import Effective
from core.samplers import SAMPLERS
from core.schedules import AUTOMATIC, KARRAS

KEY = "parameters"
"""What the text is called in a PNG."""
_UPSCALERS = {upscaler.name: upscaler.infotext for upscaler in UPSCALERS}


def infotext(request: Request, configuration: Configuration, effective: Effective) -> str:
    """The text for one picture.

    - `Model hash` is the beginning of our digest of the whole model, which is not the SHA-256 of
      a checkpoint file.
    - `Emphasis: None` says there that brackets are text, as in a plain prompt; `Pad conds` that the
      shorter of a prompt and its negative prompt was padded to the longer one's chunks.
    - `NGMS` stands only where a step really went without guidance, as there.
    - `Version` is not a number that could be taken for one of theirs, because their reader
      changes settings by it.
    """
    model = anonymous(request.model)
    pairs: dict[str, object] = {
        "Steps": request.num_inference_steps,
        **_sampler(request),
        "CFG scale": f"{request.guidance_scale:.10g}",
        "Seed": request.seed,
        "Size": f"{request.width}x{request.height}",
        **_two_passes(request, effective),
        "Model hash": model.digest[:10],
        "Model": model.name,
        **_prompts(request, effective),
        **_variation(request),
        "Clip skip": request.clip_skip if request.clip_skip > 1 else None,
        "ENSD": request.eta_noise_seed_delta or None,
        **_merging(configuration),
        "RNG": _source(request, effective),
        **_minimum_sigma(effective),
        "Version": f"Seedproof {__version__}",
    }
    last = ", ".join(f"{key}: {_quoted(v)}" for key, v in pairs.items() if v is not None)
    negative = f"\nNegative prompt: {request.negative_prompt}" if request.negative_prompt else ""
    return f"{request.prompt}{negative}\n{last}".strip()


def _prompts(request: Request, effective: Effective) -> dict[str, object]:
    literal = request.prompt_syntax == "plain" and any(
        bracket in request.prompt + request.negative_prompt for bracket in "(["
    )
    pairs = zip(effective.prompts, effective.negative_prompts, strict=False)
    padded = any(prompt.chunks != negative.chunks for prompt, negative in pairs)
    return {"Emphasis": "None" if literal else None, "Pad conds": padded or None}


def _sampler(request: Request) -> dict[str, object]:
    """Two keys since 1.9. A missing schedule is `Automatic` to every reader, ours included."""
    own = {sampler.name: sampler.own_schedule for sampler in SAMPLERS}
    schedule = request.schedule
    if schedule == AUTOMATIC:
        schedule = own.get(request.sampler, AUTOMATIC)
    return {
        "Sampler": request.sampler.removesuffix(f" {KARRAS}"),
        "Schedule type": None if schedule == AUTOMATIC else schedule,
    }


def _variation(request: Request) -> dict[str, object]:
    if not request.variation_strength:
        return {}
    return {
        "Variation seed": request.variation_seed,
        "Variation seed strength": f"{request.variation_strength:.10g}",
    }


def _source(request: Request, effective: Effective) -> str | None:
    """There, no key means the GPU's own random numbers."""
    if request.noise_source != "device":
        return request.noise_source
    slot = effective.slot("noise-source")
    return None if slot is not None and slot.effect == "applied" else "CPU"


def _merging(configuration: Configuration) -> dict[str, object]:
    _, _, ratio = configuration.get("token-merging").partition(":")
    return {"Token merging ratio": ratio or None}


def _two_passes(request: Request, effective: Effective) -> dict[str, object]:
    """Their keys of a hires fix, where `Size` is the first pass's. Their steps for a second pass
    are those really run, as ours are."""
    slot = effective.slot("two-pass")
    if slot is None or slot.effect != "applied":
        return {}
    name, _, strength = slot.requested.partition(":")
    counts = slot.counts
    return {
        "Size": f"{counts['first_pass_width']:.0f}x{counts['first_pass_height']:.0f}",
        "Denoising strength": strength,
        "Hires resize": f"{request.width}x{request.height}",
        "Hires steps": f"{counts['second_pass_steps']:.0f}",
        "Hires upscaler": _UPSCALERS.get(name, name),
    }


def _minimum_sigma(effective: Effective) -> dict[str, object]:
    slot = effective.slot("min-sigma")
    if slot is None or slot.effect != "applied":
        return {}
    name, _, sigma = slot.requested.partition(":")
    return {"NGMS": sigma, "NGMS all steps": True if name == "all" else None}


def _quoted(value: object) -> str:
    text = str(value)
    if any(mark in text for mark in ",:\n"):
        return json.dumps(text, ensure_ascii=False)
    return text
