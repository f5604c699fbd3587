"""Where weights come from, and which weights they are."""

import hashlib
import json
import math
from pathlib import Path
from typing import Any

from core import samplers
from core.prompt_syntax import check_prompts
from core.request import MOST_DELTA, MOST_SEED, Model, Request

PICKLES = (".ckpt", ".pt", ".pth", ".bin", ".pkl")
"""Ends of names of weights that are Python pickles."""
PICKLED = "weights that are a Python pickle are never read, because reading one can run code;"
_MOST_SHOWN = 200
POCKET = "pocket"
"""The name of the model that lies in the repository."""


def resolve(name: str, shipped: Path) -> Model:
    """Find a model by name: `pocket`, or a folder in diffusers' layout.

    `shipped` is the folder of the shipped model. Raises ValueError with one sentence that says
    what is accepted.
    """
    path = shipped if name == POCKET else _folder(name)
    if path is None:
        refused = f"{PICKLED} " if name.lower().endswith(PICKLES) else ""
        shown = name if len(name) <= _MOST_SHOWN else f"{name[:_MOST_SHOWN]}…"
        raise ValueError(
            f"No model at {shown!r}: {refused}give {POCKET!r}, or a folder that holds a "
            "model_index.json (a Stable Diffusion pipeline as diffusers saves it)."
        )
    for file in _component_files(path):
        if file.name.endswith(PICKLES) and not any(file.parent.glob("*.safetensors")):
            raise ValueError(
                f"The model {path.name!r} has {file.name} and no .safetensors beside it: "
                f"{PICKLED} save it again with safe_serialization=True."
            )
    return Model(name=name, path=path.resolve(), digest=digest(path))


def digest(path: Path) -> str:
    """SHA-256 over names and contents of the pipeline's files: its index and its parts' folders.

    What else lies in the folder (a card, pictures, training scripts) does not count.
    """
    whole = hashlib.sha256()
    for file in [path / "model_index.json", *_component_files(path)]:
        with file.open("rb") as stream:
            part = hashlib.file_digest(stream, "sha256").hexdigest()
        whole.update(f"{file.relative_to(path).as_posix()} {part}\n".encode())
    return whole.hexdigest()


def native_size(model: Model) -> int:
    """The side in pixels that the model was trained at."""
    side: int = _config(model, "unet")["sample_size"]
    return side * scale_factor(model)


def scale_factor(model: Model) -> int:
    """Pixels per latent, in each direction."""
    levels = len(_config(model, "vae")["block_out_channels"])
    return 1 << (levels - 1)


def size_step(model: Model) -> int:
    """Width and height are multiples of this: the VAE's factor times the UNet's halvings."""
    levels = len(_config(model, "unet")["block_out_channels"])
    return scale_factor(model) << (levels - 1)


def text_layers(model: Model) -> int:
    """Layers of the text encoder: the largest clip skip."""
    layers: int = _config(model, "text_encoder")["num_hidden_layers"]
    return layers


def tokenizer(model: Model) -> Any:
    """The model's own tokenizer, without its weights; not to be used by two threads at once."""
    from transformers import CLIPTokenizer

    return CLIPTokenizer.from_pretrained(model.path / "tokenizer", local_files_only=True)


def check(request: Request) -> None:
    """Refuse what the model cannot do, what would do nothing, and prompts that cannot be read.
    Raises ValueError with one sentence."""
    samplers.check_schedule(request.sampler, request.schedule)
    check_prompts(request)
    step = size_step(request.model)
    for name, value in (("width", request.width), ("height", request.height)):
        if value < step or value % step:
            below = max(step, value - value % step)
            raise ValueError(
                f"{name} must be a multiple of {step} pixels for this model: "
                f"{below} or {below + step} instead of {value}."
            )
    if request.num_inference_steps < 1:
        raise ValueError("num_inference_steps must be at least 1.")
    if request.num_inference_steps > samplers.MOST_STEPS:
        raise ValueError(f"num_inference_steps must be at most {samplers.MOST_STEPS}.")
    _check_noise(request)
    if not math.isfinite(request.guidance_scale):
        raise ValueError(f"guidance_scale must be a number, not {request.guidance_scale}.")
    if request.clip_skip != 1:
        layers = text_layers(request.model)
        if not 1 <= request.clip_skip <= layers:
            raise ValueError(
                f"clip_skip must be from 1, which skips nothing, to {layers} for this model, not "
                f"{request.clip_skip}."
            )


def _check_noise(request: Request) -> None:
    if not 0 <= request.variation_strength <= 1:
        raise ValueError(
            f"variation_strength must be from 0 to 1, not {request.variation_strength:g}."
        )
    if request.variation_seed and not request.variation_strength:
        raise ValueError(
            "A variation seed does nothing while variation_strength is 0: choose a strength, or "
            "leave the variation seed out."
        )
    for name, value, most in (
        ("variation_seed", request.variation_seed, MOST_SEED),
        (
            "eta_noise_seed_delta",
            request.eta_noise_seed_delta,
            min(MOST_DELTA, MOST_SEED - request.seed),
        ),
    ):
        if not 0 <= value <= most:
            raise ValueError(f"{name} must be a whole number from 0 to {most}, not {value}.")
    if request.eta_noise_seed_delta and not samplers.find(request.sampler).ancestral:
        others = ", ".join(sampler.name for sampler in samplers.SAMPLERS if sampler.ancestral)
        raise ValueError(
            f"eta_noise_seed_delta acts on noise that a sampler adds, and {request.sampler} adds "
            f"none: leave it at 0, or choose {others}."
        )


def _folder(name: str) -> Path | None:
    """The folder of that name where it holds a pipeline; None for every other text there is."""
    try:
        path = Path(name).expanduser()
        return path if (path / "model_index.json").is_file() else None
    except (OSError, RuntimeError):
        # Too long for a name, not to be entered, or the home of nobody.
        return None


def _component_files(path: Path) -> list[Path]:
    """Raises ValueError where the index is none, or names a part outside of its folder."""
    try:
        index = json.loads((path / "model_index.json").read_text(encoding="utf-8"))
        parts = [part for part, value in index.items() if isinstance(value, list) and value[0]]
    except (ValueError, AttributeError, IndexError) as error:
        raise ValueError(
            f"{path / 'model_index.json'} is damaged: give a folder that diffusers saved."
        ) from error
    if strange := [part for part in parts if not part.isidentifier()]:
        raise ValueError(
            f"{path / 'model_index.json'} names a part {strange[0][:80]!r}, which is no folder "
            "of a pipeline: give a folder that diffusers saved."
        )
    files = (file for part in sorted(parts) for file in (path / part).rglob("*"))
    return sorted(file for file in files if file.is_file())


def _config(model: Model, part: str) -> dict[str, Any]:
    config: dict[str, Any] = json.loads((model.path / part / "config.json").read_text())
    return config
