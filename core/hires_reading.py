"""A1111's hires fix in a picture's text, as our two passes."""

import re
from dataclasses import dataclass, field, replace

from core.models import native_size, size_step
from core.optimizations.enlarging import UPSCALERS
from core.optimizations.resolution import STRENGTH, first_size, refining_steps
from core.receipt import MOST_SIDE
from core.request import Request
from core.takeover import Remark

_UPSCALERS = {upscaler.infotext: upscaler.name for upscaler in UPSCALERS}
_KEYS = ("Hires upscaler", "Hires upscale", "Hires resize", "Hires steps", "Denoising strength")
_SIZE = re.compile(r"(\d{1,5})x(\d{1,5})")


@dataclass(frozen=True, kw_only=True)
class TwoPasses:
    """What a hires fix becomes here; the request as it was where it can be nothing."""

    request: Request
    settings: dict[str, str] = field(default_factory=dict)
    remarks: tuple[Remark, ...] = ()


def two_passes(pairs: dict[str, str], request: Request, ours: bool) -> TwoPasses:
    """Takes the keys of a hires fix out of `pairs`; the request's size is its first pass's.

    Here the first pass has the model's own number of pixels: a fix that began at another size is
    left, and the picture is made at the size it began at. `ours`: the text is Seedproof's own.
    """
    found = {key: pairs.pop(key) for key in _KEYS if key in pairs}
    if "Hires upscaler" not in found:
        # A picture made from another one has a strength too.
        pairs.update(found)
        return TwoPasses(request=request)
    written = ", ".join(f"{key.removeprefix('Hires ')} {text}" for key, text in found.items())
    upscaler = _UPSCALERS.get(found["Hires upscaler"])
    strength = _number(found.get("Denoising strength", ""))
    size = _enlarged(found, request)
    if upscaler is None:
        return _left(request, written, f"there are {', '.join(_UPSCALERS)} to enlarge with here")
    if strength is None or not STRENGTH.minimum <= strength <= STRENGTH.maximum:
        limits = f"{STRENGTH.minimum:g} to {STRENGTH.maximum:g}"
        return _left(request, written, f"its strength is from {limits} here")
    first = (request.width, request.height)
    step = size_step(request.model)
    fits = size is not None and all(side % step == 0 and side <= MOST_SIDE for side in size)
    if size is None or not fits or first_size(size, native_size(request.model), step) != first:
        return _left(request, written, "a first pass has the model's own number of pixels here")
    return TwoPasses(
        request=replace(request, width=size[0], height=size[1]),
        settings={"two-pass": f"{upscaler}:{strength:g}"},
        remarks=() if ours else (_otherwise(found, written, request, strength),),
    )


def _otherwise(found: dict[str, str], written: str, request: Request, strength: float) -> Remark:
    """As A1111 has it: image-to-image from the same seeds, and of N steps int(N x strength) + 1."""
    here, there = refining_steps(request.num_inference_steps, strength), found.get("Hires steps")
    if there in (None, "0"):
        there = str(int(min(strength, 0.999) * request.num_inference_steps) + 1)
    steps = "" if there == str(here) else f", and it takes {there} steps and not {here}"
    sentence = f"there the second noise repeats the first{steps}"
    return Remark(key="Hires fix", value=written, sentence=sentence, left=False)


def _enlarged(found: dict[str, str], request: Request) -> tuple[int, int] | None:
    """The size at the end: said, or as many times the first one."""
    if size := _SIZE.fullmatch(found.get("Hires resize", "")):
        return int(size[1]), int(size[2])
    times = _number(found.get("Hires upscale", ""))
    if times is None or not 1 < times <= MOST_SIDE:
        return None
    return int(request.width * times), int(request.height * times)


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def _left(request: Request, written: str, why: str) -> TwoPasses:
    remark = Remark(key="Hires fix", value=written, sentence=f"{why}: one pass is taken")
    return TwoPasses(request=request, remarks=(remark,))
