"""Settings of another program, put into the words of A1111's text, which are taken over here."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from pydantic_core import from_json

from core.infotext_parsing import Parameters
from core.infotext_reading import from_parameters
from core.request import Model
from core.takeover import Remark, Taken

MOST_CHARACTERS = 2**20
"""Of metadata that are read; a large ComfyUI graph has some ten thousand."""
_MOST_PAIRS = 60
"""Of what has no equal here; the rest is counted."""
_MOST_SHOWN = 80
"""Characters of a name or a value in a remark."""


def translated(
    prompt: str,
    negative: str,
    pairs: Mapping[str, Any],
    others: Mapping[str, Any],
    model: Model,
) -> Taken:
    """Settings that mean the same here, and others, whose names are the program's own or say why
    they have no equal. What is empty, zero or off is not said."""
    known, further = (
        {key[:_MOST_SHOWN]: str(v)[:_MOST_SHOWN] for key, v in some.items() if _says(key, v)}
        for some in (pairs, others)
    )
    listed = dict(list(further.items())[:_MOST_PAIRS])
    parameters = Parameters(prompt=prompt, negative_prompt=negative, pairs={**listed, **known})
    taken = from_parameters(parameters, model, exact=True)
    if not (rest := len(further) - len(listed)):
        return taken
    remark = Remark(key="Others", value=f"{rest} more", sentence="too many to be listed")
    return replace(taken, remarks=(*taken.remarks, remark))


def otherwise(key: str, value: str, sentence: str) -> Remark:
    """Something that was taken over with a difference."""
    return Remark(key=key, value=value, sentence=sentence, left=False)


def _says(key: str, value: Any) -> bool:
    if value == 0:
        return key in ("Seed", "CFG scale")
    return key == "Emphasis" or value not in (None, "", [], {}, "None")


def named(value: Any) -> Any:
    """Records of models by their names, several of them in a row; all else as it is."""
    if isinstance(value, Mapping):
        inner = value.get("name") or value.get("model_name") or value.get("model") or value
        return inner if inner is value else named(inner)
    if isinstance(value, list):
        return ", ".join(str(named(one)) for one in value[:8])
    return value


def json_object(text: str, program: str) -> dict[str, Any]:
    """A program's JSON. Raises ValueError with one sentence where it is none, or too long."""
    if len(text) > MOST_CHARACTERS:
        raise ValueError(
            f"The metadata of {program} have {len(text):,} characters; the most that is read is "
            f"{MOST_CHARACTERS:,}."
        )
    try:
        found = from_json(text)
    except ValueError as error:
        raise ValueError(f"The metadata of {program} are damaged: they are not JSON.") from error
    if not isinstance(found, dict):
        raise ValueError(f"The metadata of {program} are damaged: they are no JSON object.")
    return found
