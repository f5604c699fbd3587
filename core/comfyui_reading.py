"""What ComfyUI's graph means here: a request, and what is left.

Names as in its `comfy/samplers.py`. One generator on the CPU draws the noise of a whole batch
(`comfy/sample.py`); weights move a token's embedding along the line from the empty prompt's
(`comfy/sd1_clip.py`).
"""

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from core.comfyui_graph import Sampling, nodes_of, sampling
from core.request import Model
from core.takeover import Remark, Taken
from core.translation import json_object, otherwise, translated

COMFYUI = "ComfyUI"
SAMPLERS = {
    "euler": "Euler",
    "euler_ancestral": "Euler a",
    "heun": "Heun",
    "lms": "LMS",
    "dpmpp_2m": "DPM++ 2M",
    # Its DDIM is Euler from the same noise; only inpainting tells them apart.
    "ddim": "Euler",
    "uni_pc": "UniPC",
    "uni_pc_bh2": "UniPC",
}
SCHEDULES = {
    "normal": "Uniform",
    "karras": "Karras",
    "exponential": "Exponential",
    "sgm_uniform": "SGM Uniform",
}


def from_graph(texts: Mapping[str, str], model: Model) -> Taken:
    """What the graph in a picture's texts says that has an equal here. Raises ValueError with one
    sentence where there is none that can be read."""
    if "prompt" not in texts:
        raise ValueError(
            "The picture has ComfyUI's drawing of a workflow and not the graph that was run: open "
            "it there."
        )
    found = sampling(nodes_of(json_object(texts["prompt"], COMFYUI)))
    values = dict(found.values)
    name, schedule = (str(values.get(key) or "") for key in ("sampler_name", "scheduler"))
    layer = found.last_layer
    pairs = {
        "Steps": values.get("steps", ""),
        "Sampler": SAMPLERS.get(name, name),
        "Schedule type": SCHEDULES.get(schedule, schedule),
        "CFG scale": values.get("cfg", ""),
        "Seed": values.get("seed", ""),
        "Size": f"{found.width}x{found.height}" if found.width and found.height else "",
        "Clip skip": -layer if isinstance(layer, int) and layer < -1 else "",
        "RNG": "CPU",
        "Model": found.checkpoint,
        "Denoising strength": "" if values.get("denoise") in (None, 1) else values["denoise"],
    }
    others = {
        **_steps_left_out(values),
        **{
            f"{_known(kind)} {number}": f"{kind} {said}".strip()
            for number, (kind, said) in enumerate(found.others, 1)
        },
    }
    prompts = (_weighted(found.prompt), _weighted(found.negative_prompt))
    taken = translated(*prompts, pairs, others, model)
    return replace(taken, remarks=(*taken.remarks, *_remarks(found, name)), program=COMFYUI)


def _known(kind: str) -> str:
    if kind.startswith("LoraLoader"):
        return "Lora"
    return "ControlNet" if "ControlNet" in kind else "Node"


def _remarks(found: Sampling, sampler: str) -> list[Remark]:
    remarks = []
    if isinstance(found.pictures, int) and found.pictures > 1:
        sentence = "which of them this is the graph does not say: the first one's noise is taken"
        remarks.append(otherwise("Batch", f"{found.pictures} pictures", sentence))
    if re.search(r"(?<!\\)\(", found.prompt + found.negative_prompt):
        sentence = "there a weight moves a token away from the empty prompt, here it multiplies"
        remarks.append(otherwise("Prompt", "weights", sentence))
    if sampler == "uni_pc":
        remarks.append(otherwise("Sampler", sampler, "there it is bh1, here bh2"))
    return remarks


def _steps_left_out(values: Mapping[str, Any]) -> dict[str, Any]:
    """KSamplerAdvanced may run a part of the steps, or begin without noise."""
    usual: dict[str, tuple[Any, ...]] = {
        "start_at_step": (0,),
        "add_noise": ("enable",),
        "return_with_leftover_noise": ("disable",),
    }
    found = {key: values[key] for key, v in usual.items() if key in values and values[key] not in v}
    end, steps = values.get("end_at_step"), values.get("steps")
    if isinstance(end, int) and isinstance(steps, int) and end < steps:
        found["end_at_step"] = end
    return found


def _weighted(prompt: str) -> str:
    """ComfyUI knows round brackets only: square ones and BREAK are text there."""
    return re.sub(r"(?<!\\)([\[\]])", r"\\\1", prompt)
