"""A picture's receipt: all that is needed to make it again, and to see where another one parts.

It is JSON of the frozen records themselves, with nothing that names a person or a place: no paths,
no host, no user, no clock, no process number. Reading it is a boundary, because anybody may write
anything into a picture: sizes are limited before anything is made of it.
"""

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path, PureWindowsPath
from typing import TYPE_CHECKING, Any

from pydantic import TypeAdapter, ValidationError
from pydantic_core import from_json

from core import __version__
from core.optimization import Configuration
from core.request import MOST_DELTA, MOST_SEED, Conditions, Job, Model, Request
from core.run import Effective, Environment, Picture

if TYPE_CHECKING:
    from core.platforms import Platform

SCHEMA = 1
PROGRAM = f"Seedproof {__version__}"
MOST_CHARACTERS = 256 * 1024
"""Of a receipt's text; one of ours has a few thousand."""
MOST_PICTURES = 64
"""In one batch."""
MOST_STEPS = 1000
MOST_SIDE = 4096
"""Pixels."""
MOST_PIXELS = 2**25
"""In a batch together."""
MOST_THREADS = 1024
MOST_LAYERS = 1000
"""Of a text encoder."""

_ELSEWHERE = Path("elsewhere")
"""In place of a model's path: a receipt names the model by its digest."""
_NOT_WRITTEN = ("process_id", "started_at", "timing_caveat")
"""Fields of the environment that tell about somebody's machine and nothing about pixels."""

_adapter: Callable[[Any], TypeAdapter[Any]] = lru_cache(TypeAdapter)


@dataclass(frozen=True, kw_only=True)
class Receipt:
    """One picture of one batch. Digests are as in `core.run.Picture`."""

    schema: int = SCHEMA
    program: str = PROGRAM
    """What wrote it, with its version."""
    requests: tuple[Request, ...]
    """The whole batch in its order: neighbours can change a picture's last bits."""
    position: int
    """Which of the requests this picture is, from 0."""
    configuration: Configuration
    conditions: Conditions
    effective: Effective
    environment: Environment
    """Without `process_id`, `started_at` and `timing_caveat`: a receipt tells no times."""
    device_name: str
    system: str
    """Operating system and machine, for example `Linux x86_64`."""
    noise_sha256: str
    step_sha256s: tuple[str, ...]
    latents_sha256: str
    pixels_sha256: str
    """Of the lossless original, also where the file is a JPEG."""

    @property
    def request(self) -> Request:
        return self.requests[self.position]

    @property
    def picture(self) -> Picture:
        """As a run had it, without its file."""
        return Picture(
            request=self.request,
            noise_sha256=self.noise_sha256,
            latents_sha256=self.latents_sha256,
            pixels_sha256=self.pixels_sha256,
            step_sha256s=self.step_sha256s,
        )


def receipt_of(
    job: Job,
    position: int,
    picture: Picture,
    effective: Effective,
    environment: Environment,
    platform: "Platform",
) -> Receipt:
    """What one picture of a finished job is known by."""
    return Receipt(
        requests=tuple(replace(r, model=anonymous(r.model)) for r in job.requests),
        position=position,
        configuration=job.configuration,
        conditions=job.conditions,
        effective=effective,
        environment=replace(environment, process_id="", started_at="", timing_caveat=""),
        device_name=platform.device_name,
        system=platform.system,
        noise_sha256=picture.noise_sha256,
        step_sha256s=picture.step_sha256s,
        latents_sha256=picture.latents_sha256,
        pixels_sha256=picture.pixels_sha256,
    )


def anonymous(model: Model) -> Model:
    """The model by its last name: where it lies on somebody's disk is nobody's business."""
    name = PureWindowsPath(model.name).name or model.path.name
    return Model(name=name, path=_ELSEWHERE, digest=model.digest)


def dump(receipt: Receipt) -> str:
    """ASCII JSON. The model stands once, because a batch shares it."""
    plain: dict[str, Any] = _adapter(Receipt).dump_python(receipt, mode="json")
    model = receipt.request.model
    plain["model"] = {"name": model.name, "digest": model.digest}
    for request in plain["requests"]:
        del request["model"]
    plain["configuration"] = receipt.configuration.as_dict()
    for name in _NOT_WRITTEN:
        del plain["environment"][name]
    return json.dumps(plain, separators=(",", ":"))


def load(text: str) -> Receipt:
    """What `dump` was given. Raises ValueError with one sentence for anything else."""
    if len(text) > MOST_CHARACTERS:
        raise ValueError(
            f"The receipt has {len(text):,} characters; the most that is read is "
            f"{MOST_CHARACTERS:,}."
        )
    try:
        plain = from_json(text, allow_inf_nan=False)
    except ValueError as error:
        raise ValueError("The receipt is damaged: it is not JSON.") from error
    if not isinstance(plain, dict) or plain.get("schema") != SCHEMA:
        written = plain.get("schema") if isinstance(plain, dict) else None
        raise ValueError(
            f"The receipt's schema is {str(written)[:20]!r} and this version of Seedproof reads "
            f"{SCHEMA}: use the version that wrote it."
        )
    try:
        receipt: Receipt = _adapter(Receipt).validate_python(_completed(plain))
    except (ValidationError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(
            "The receipt is damaged: fields are missing or of another kind."
        ) from error
    _check(receipt, plain)
    return receipt


def _completed(plain: Mapping[str, Any]) -> dict[str, Any]:
    """The records' own shape, with what is not written put back."""
    model = {**plain["model"], "path": _ELSEWHERE}
    settings = plain["configuration"].items()
    return {
        **plain,
        "requests": [{**request, "model": model} for request in plain["requests"]],
        "configuration": {"settings": sorted(settings)},
        "environment": {**plain["environment"], **dict.fromkeys(_NOT_WRITTEN, "")},
    }


def _check(receipt: Receipt, plain: Mapping[str, Any]) -> None:
    """Refuse what would cost too much, or would be made other than it says."""
    if not 0 < len(receipt.requests) <= MOST_PICTURES:
        raise ValueError(
            f"The receipt names {len(receipt.requests)} pictures in one batch: 1 to "
            f"{MOST_PICTURES} are read."
        )
    if not 0 <= receipt.position < len(receipt.requests):
        raise ValueError("The receipt is damaged: its picture is not in its batch.")
    for request in receipt.requests:
        for name, value, least, most in (
            ("width", request.width, 1, MOST_SIDE),
            ("height", request.height, 1, MOST_SIDE),
            ("num_inference_steps", request.num_inference_steps, 1, MOST_STEPS),
            ("seed", request.seed, 0, MOST_SEED),
            ("variation_seed", request.variation_seed, 0, MOST_SEED),
            ("eta_noise_seed_delta", request.eta_noise_seed_delta, 0, MOST_DELTA),
            ("clip_skip", request.clip_skip, 1, MOST_LAYERS),
        ):
            if not least <= value <= most:
                raise ValueError(f"The receipt's {name} is not from {least} to {most}.")
        for name, number in (
            ("guidance_scale", request.guidance_scale),
            ("variation_strength", request.variation_strength),
        ):
            if not math.isfinite(number):
                raise ValueError(f"The receipt's {name} is not a finite number.")
    pixels = sum(request.width * request.height for request in receipt.requests)
    if pixels > MOST_PIXELS:
        raise ValueError(
            f"The receipt's batch has {pixels:,} pixels; the most that is read is {MOST_PIXELS:,}."
        )
    if not 0 <= (receipt.environment.generator_seed or 0) < 2**64:
        raise ValueError("The receipt's generator_seed is not from 0 to 2^64 - 1.")
    if not 0 <= receipt.environment.threads <= MOST_THREADS:
        raise ValueError(f"The receipt's threads are not from 0 to {MOST_THREADS}.")
    again = _adapter(Receipt).dump_python(receipt, mode="json")
    for part in ("requests", "conditions"):
        known, written = again[part], plain[part]
        pairs = zip(known, written, strict=True) if part == "requests" else [(known, written)]
        if unknown := {name for one, other in pairs for name in set(other) - set(one)}:
            raise ValueError(
                f"The receipt asks for {sorted(unknown)[0][:40]!r}, which this version of "
                "Seedproof does not know: use the version that wrote it."
            )
