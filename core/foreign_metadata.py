"""What other programs wrote into a picture, read into a request, with what could not come along.

Each program's words are put into those of A1111's text, which `core.infotext_reading` takes over;
what has no equal here stands among the remarks. Read from the programs' code: SD.Next's
`modules/processing_info.py`, InvokeAI's `invocations/metadata.py`, `noise.py` and `schedulers.py`,
Fooocus' `modules/meta_parser.py`; ComfyUI's is read in `core.comfyui_reading`. Forge writes
A1111's text, and diffusers writes nothing.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import replace

from core.comfyui_reading import COMFYUI, SAMPLERS, SCHEDULES, from_graph
from core.infotext_parsing import parse
from core.infotext_reading import from_infotext, from_parameters
from core.picture_file import Texts
from core.request import Model
from core.takeover import Remark, Taken
from core.translation import json_object, named, otherwise, translated

A1111, SDNEXT, INVOKEAI, FOOOCUS = "AUTOMATIC1111's web UI", "SD.Next", "InvokeAI", "Fooocus"
LACKS: Mapping[str, str] = {
    A1111: "the text names no weights by their whole digest, no attention and no digests of pixels",
    SDNEXT: "the text names no weights by their whole digest, no attention, not whose random "
    "numbers the noise had, and no digests of pixels",
    COMFYUI: "the graph names weights by the name of their file, no attention, no precision and no "
    "digests of pixels; and one generator draws the noise of a whole batch, so that only its first "
    "picture begins from the seed's own",
    INVOKEAI: "the metadata name no attention and no digests of pixels, and the noise was drawn in "
    "the precision of that machine, which they do not name",
    FOOOCUS: "the metadata name no attention, no precision, not whose random numbers the noise "
    "had, and no digests of pixels",
}
"""What each program's metadata do not say and a picture follows from."""
_INVOKEAI_SCHEDULERS = {
    "euler": ("Euler", ""),
    "euler_k": ("Euler", "Karras"),
    "euler_a": ("Euler a", ""),
    "heun": ("Heun", ""),
    "heun_k": ("Heun", "Karras"),
    "lms": ("LMS", ""),
    "lms_k": ("LMS", "Karras"),
    "dpmpp_2m": ("DPM++ 2M", "Uniform"),
    "dpmpp_2m_k": ("DPM++ 2M Karras", ""),
    "ddim": ("DDIM", ""),
    "unipc": ("UniPC", ""),
    "unipc_k": ("UniPC", "Karras"),
}
_SDNEXT_KEYS = {
    "ToMe": "Token merging ratio",
    "Variation strength": "Variation seed strength",
    "Sampler eta delta": "ENSD",
    "Sampler sigma": "Schedule type",
    "Hires scale": "Hires upscale",
    "Hires size": "Hires resize",
    "Hires strength": "Denoising strength",
}
_INVOKEAI_KEYS = {
    "strength": "Denoising strength",
    "init_image": "Init image",
    "controlnets": "ControlNet",
    "loras": "Lora",
    "vae": "VAE",
    "refiner_model": "Refiner",
}
_COMPEL = re.compile(r"\)[\d.+-]|\w[+-]+(?:\s|,|$)|\)\.(?:and|blend)\(|\.swap\(")
"""Signs of the syntax that InvokeAI reads prompts by."""


def wrote(texts: Texts) -> str:
    """Which program's metadata a picture has, one of `LACKS`; empty where there are none."""
    return next(iter(_programs(texts)), "")


def _programs(texts: Texts) -> list[str]:
    """All whose metadata are there: some of ComfyUI's nodes write A1111's text too."""
    found = []
    if {"invokeai_metadata", "sd-metadata", "Dream"} & texts.foreign.keys():
        found.append(INVOKEAI)
    if {"prompt", "workflow"} & texts.foreign.keys():
        found.append(COMFYUI)
    if texts.infotext.lstrip().startswith("{"):
        found.append(FOOOCUS)
    elif "App: SD.Next" in texts.infotext.rpartition("\n")[2]:
        found.append(SDNEXT)
    elif texts.infotext:
        found.append(A1111)
    return found


def read_metadata(texts: Texts, model: Model) -> Taken:
    """What another program's metadata say that has an equal here.

    Raises ValueError with one sentence where there are none, or none that can be read.
    """
    readers: dict[str, Callable[[Texts, Model], Taken]] = {
        INVOKEAI: _invokeai,
        COMFYUI: lambda texts, model: from_graph(texts.foreign, model),
        FOOOCUS: _fooocus,
        SDNEXT: _sdnext,
        A1111: lambda texts, model: from_infotext(texts.infotext, model),
    }
    problems = []
    for program in _programs(texts):
        try:
            return readers[program](texts, model)
        except ValueError as problem:
            problems.append(problem)
    if problems:
        raise problems[0]
    raise ValueError("The picture has no metadata of a program that is known here.")


def _sdnext(texts: Texts, model: Model) -> Taken:
    """Its schedulers are diffusers' own, and so is what they do where nothing is said."""
    parameters = parse(texts.infotext)
    pairs = {_SDNEXT_KEYS.get(key, key): text for key, text in parameters.pairs.items()}
    version, _ = pairs.pop("Version", ""), pairs.pop("App", "")
    for key in ("Pipeline", "Operations", "Batch", "Index"):
        if pairs.get(key) in ("StableDiffusionPipeline", "txt2img", "none"):
            del pairs[key]
    if pairs.get("Sampler") == "DPM++ 2M":
        pairs.setdefault("Schedule type", "Uniform")
    # Its default; another choice is not written.
    pairs["RNG"] = "GPU"
    taken = from_parameters(replace(parameters, pairs=pairs), model, exact=True)
    # It draws nothing when it merges, as A1111.
    merging = taken.settings.get("token-merging", "").replace("seeded", "fixed")
    return replace(
        taken,
        settings={**taken.settings, "token-merging": merging} if merging else taken.settings,
        remarks=tuple(r for r in taken.remarks if not r.sentence.endswith("seeded is taken")),
        program=f"{SDNEXT} {version}".strip(),
    )


def _invokeai(texts: Texts, model: Model) -> Taken:
    if "invokeai_metadata" not in texts.foreign:
        raise ValueError("The metadata are those of InvokeAI before version 3, which are not read.")
    found = json_object(texts.foreign["invokeai_metadata"], INVOKEAI)
    name = str(found.pop("scheduler", "") or "")
    sampler, schedule = _INVOKEAI_SCHEDULERS.get(name, (name, ""))
    device = str(found.pop("rand_device", "cpu") or "cpu")
    skipped, mode = found.pop("clip_skip", 0), found.pop("generation_mode", "txt2img")
    pairs = {
        "Steps": found.pop("steps", ""),
        "Sampler": sampler,
        "Schedule type": schedule,
        "CFG scale": found.pop("cfg_scale", ""),
        "Seed": found.pop("seed", ""),
        "Size": "x".join(str(found.pop(key, "")) for key in ("width", "height")),
        "Clip skip": skipped + 1 if isinstance(skipped, int) and skipped else "",
        "RNG": "CPU" if device == "cpu" else "GPU",
        "Model": named(found.pop("model", "")),
        "Emphasis": "None",
        "Generation mode": "" if mode == "txt2img" else mode,
    }
    prompts = [str(found.pop(key, "") or "") for key in ("positive_prompt", "negative_prompt")]
    version = found.pop("app_version", "")
    others = {_INVOKEAI_KEYS.get(key, key): named(value) for key, value in found.items()}
    taken = translated(prompts[0], prompts[1], pairs, others, model)
    noise = "there in the precision that it computes in, here in float32"
    remarks = [otherwise("Noise", f"drawn on {device[:20]}", noise)]
    if any(_COMPEL.search(prompt) for prompt in prompts):
        sentence = "they are taken as plain text: Compel's weights and joins are not read here"
        remarks.append(Remark(key="Prompt", value="weights", sentence=sentence))
    return replace(
        taken, remarks=(*taken.remarks, *remarks), program=f"{INVOKEAI} {version}".strip()
    )


def _fooocus(texts: Texts, model: Model) -> Taken:
    found = json_object(texts.infotext, FOOOCUS)
    size = re.findall(r"\d+", str(found.pop("resolution", "")))
    name, schedule = (str(found.pop(key, "") or "") for key in ("sampler", "scheduler"))
    version, prompt = str(found.pop("version", "")), str(found.pop("prompt", "") or "")
    negative = str(found.pop("negative_prompt", "") or "")
    pairs = {
        "Steps": found.pop("steps", ""),
        "Sampler": SAMPLERS.get(name, name),
        "Schedule type": SCHEDULES.get(schedule, schedule),
        "CFG scale": found.pop("guidance_scale", ""),
        "Seed": found.pop("seed", ""),
        "Size": "x".join(size[:2]),
        "RNG": "CPU",
        "Model": found.pop("base_model", ""),
    }
    for key in ("base_model_hash", "metadata_scheme", "full_prompt", "full_negative_prompt"):
        found.pop(key, None)
    others = {("VAE" if key == "vae" else key): named(value) for key, value in found.items()}
    taken = translated(prompt, negative, pairs, others, model)
    remark = otherwise("RNG", "not said", "the CPU's random numbers are taken")
    return replace(taken, remarks=(*taken.remarks, remark), program=version or FOOOCUS)
