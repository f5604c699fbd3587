"""A picture's settings as AUTOMATIC1111 writes them, so that other programs read ours.

The layout of `processing.create_infotext` of v1.10.1: the prompt, the negative prompt, and one line
of `key: value` pairs; a value with a comma, a colon or a line end is quoted as JSON. What that
program has no key for (attention, precision, digests) is in our own receipt beside it.
"""

import json

from core import __version__
from core.optimization import Configuration
from core.receipt import anonymous
from core.request import Request
from core.run import Effective

KEY = "parameters"
"""What the text is called in a PNG."""
_UPSCALERS = {"latent": "Latent", "latent-nearest": "Latent (nearest)", "lanczos": "Lanczos"}
"""Their names for the ways in which a first pass is enlarged."""
_KARRAS = " Karras"
"""Since 1.9 a sampler's name and its schedule are two keys."""


def infotext(request: Request, configuration: Configuration, effective: Effective) -> str:
    """The text for one picture.

    - `Model hash` is the beginning of our digest of the whole model, which is not the SHA-256 of
      a checkpoint file.
    - `NGMS` stands only where a step really went without guidance, as there.
    - `Version` is not a number that could be taken for one of theirs, because their reader
      changes settings by it.
    """
    sampler = request.sampler
    model = anonymous(request.model)
    pairs: dict[str, object] = {
        "Steps": request.num_inference_steps,
        "Sampler": sampler.removesuffix(_KARRAS),
        "Schedule type": "Karras" if sampler.endswith(_KARRAS) else None,
        "CFG scale": f"{request.guidance_scale:.10g}",
        "Seed": request.seed,
        "Size": f"{request.width}x{request.height}",
        **_two_passes(request, effective),
        "Model hash": model.digest[:10],
        "Model": model.name,
        **_merging(configuration),
        "RNG": "CPU",
        **_minimum_sigma(effective),
        "Version": f"Seedproof {__version__}",
    }
    last = ", ".join(f"{key}: {_quoted(v)}" for key, v in pairs.items() if v is not None)
    negative = f"\nNegative prompt: {request.negative_prompt}" if request.negative_prompt else ""
    return f"{request.prompt}{negative}\n{last}".strip()


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
