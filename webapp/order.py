"""What a program asks for, and the job it becomes: the fields of `seedproof generate`."""

import uuid
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from core.models import check, native_size, size_step
from core.noise import SOURCES
from core.optimization import Configuration
from core.optimizations import availability, chosen, configure
from core.platforms import Platform
from core.request import MOST_DELTA, MOST_SEED, Job
from core.samplers import MOST_STEPS, SAMPLERS
from core.schedules import SCHEDULES
from webapp.cli_request import asked, pictures
from webapp.doctor import settings
from webapp.services import Services

MOST_PICTURES = 8
"""In one batch."""
MOST_TIMES_NATIVE = 2
"""Sides may be this much longer than the model's own, as on the page."""
MOST_CHARACTERS = 100_000
"""Of a text, before anything reads it."""

Text = Annotated[str, Field(max_length=MOST_CHARACTERS)]


class OrderError(ValueError):
    """What is wrong with an order, one sentence each, and the status that HTTP has for it."""

    def __init__(self, status: int, *sentences: str) -> None:
        super().__init__(" ".join(sentences))
        self.status = status
        self.sentences = sentences


class Order(BaseModel):
    """One batch of pictures. What is left out is as in the terminal."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)

    prompt: Annotated[Text, Field(description="What the picture shows.")]
    negative_prompt: Annotated[Text, Field(description="What it should not show.")] = ""
    prompt_syntax: Annotated[
        Text, Field(description="a1111: weights, BREAK, any length; or plain.")
    ] = "a1111"
    seed: Annotated[int, Field(ge=0, le=MOST_SEED, description="Picture i has seed + i.")] = 0
    width: Annotated[
        int | None, Field(ge=1, description="Pixels; the model's own if left out.")
    ] = None
    height: Annotated[
        int | None, Field(ge=1, description="Pixels; the model's own if left out.")
    ] = None
    num_inference_steps: Annotated[
        int, Field(ge=1, le=MOST_STEPS, description="Denoising steps.")
    ] = 20
    guidance_scale: Annotated[float, Field(ge=0, le=100, description="1 or less: no guidance.")] = (
        7.0
    )
    sampler: Annotated[
        Text, Field(description=f"{', '.join(sampler.name for sampler in SAMPLERS)}.")
    ] = "Euler"
    schedule: Annotated[
        Text, Field(description=f"{', '.join(schedule.name for schedule in SCHEDULES)}.")
    ] = "Automatic"
    noise_source: Annotated[Text, Field(description=f"{', '.join(SOURCES)}.")] = "CPU"
    variation_strength: Annotated[
        float, Field(ge=0, le=1, description="How far towards another noise.")
    ] = 0.0
    variation_seed: Annotated[
        int, Field(ge=0, le=MOST_SEED, description="That noise's seed; picture i has this + i.")
    ] = 0
    eta_noise_seed_delta: Annotated[
        int, Field(ge=0, le=MOST_DELTA, description="ENSD: for the noise that Euler a adds.")
    ] = 0
    clip_skip: Annotated[
        int, Field(ge=1, description="Layer of the text encoder, counted from the last, 1.")
    ] = 1
    configuration: Annotated[
        dict[str, str], Field(description="Setting to value, as in /options.")
    ] = {}
    batch_size: Annotated[
        int, Field(ge=1, le=MOST_PICTURES, description="Pictures computed together.")
    ] = 1


def read_json(text: bytes) -> Order:
    """An order from JSON. Raises OrderError."""
    try:
        return Order.model_validate_json(text)
    except ValidationError as error:
        raise _refused(error) from None


def read_fields(fields: dict[str, Any]) -> Order:
    """An order from its fields. Raises OrderError."""
    try:
        return Order.model_validate(fields)
    except ValidationError as error:
        raise _refused(error) from None


def job_of(order: Order, services: Services) -> Job:
    """A checked job. Tries options on the device. Raises ValueError with one sentence."""
    if not order.prompt.strip():
        raise ValueError("prompt is empty: write what the picture shows.")
    configuration = runnable(order.configuration, services.platform, services.model.path)
    said = order.model_dump(exclude={"configuration", "batch_size"})
    requests = pictures(asked(None, services.model, said).request, order.batch_size)
    if requests[-1].seed > MOST_SEED or requests[-1].variation_seed > MOST_SEED:
        raise ValueError(f"The last picture's seed must be at most {MOST_SEED}: begin lower.")
    most = MOST_TIMES_NATIVE * native_size(services.model)
    if max(requests[0].width, requests[0].height) > most:
        raise ValueError(f"width and height must be at most {most} pixels for this model.")
    check(requests[0])
    return Job(id=uuid.uuid4().hex, requests=tuple(requests), configuration=configuration)


def runnable(choices: dict[str, str], platform: Platform, model: Path) -> Configuration:
    """What can run here, with what this model's folder has. Raises ValueError with one sentence."""
    configuration = configure(choices, platform)
    for option, _ in chosen(configuration):
        if why_not := availability(option, platform, model):
            raise ValueError(
                f"{option.slot} {option.name} cannot run here: {why_not}. Choose another."
            )
    return configuration


def options(services: Services, tried: list[dict[str, Any]]) -> dict[str, Any]:
    """What may stand in the fields of an order; `tried` is of `webapp.doctor.document`."""
    model = services.model
    return {
        "model": model.name,
        "size": {
            "native": native_size(model),
            "step": size_step(model),
            "most": MOST_TIMES_NATIVE * native_size(model),
        },
        "most_steps": MOST_STEPS,
        "most_pictures": MOST_PICTURES,
        "samplers": [sampler.name for sampler in SAMPLERS],
        "schedules": [schedule.name for schedule in SCHEDULES],
        "noise_sources": list(SOURCES),
        "configuration": settings(services.platform, tried),
    }


def _refused(error: ValidationError) -> OrderError:
    """One sentence for each thing that is wrong, in the order of the fields."""
    found = error.errors(include_url=False)
    malformed = any(one["type"] in ("json_invalid", "model_type") for one in found)
    return OrderError(400 if malformed else 422, *(_sentence(one) for one in found))


def _sentence(one: Any) -> str:
    """Of one error as pydantic describes it."""
    name = ".".join(str(part) for part in one["loc"])
    match one["type"]:
        case "json_invalid" | "model_type":
            return 'The body must be one JSON object, for example {"prompt": "a red apple"}.'
        case "missing":
            return f"{name} is missing: write what the picture shows."
        case "extra_forbidden":
            return f"There is no field {name!r}: choose from {', '.join(Order.model_fields)}."
    what = one["msg"].replace("Input should", "should").replace("String should", "should")
    given = repr(one["input"])
    return f"{name} {what}, not {given if len(given) <= 40 else given[:37] + '…'}."
