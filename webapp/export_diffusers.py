"""A picture as a script for diffusers alone, without anything of ours."""

import json
from pathlib import Path

from core import samplers
from core.models import POCKET
from core.optimization import Configuration
from core.request import Model, Request
from core.schedules import AUTOMATIC
from webapp.export import Export, Part

VERSION = "0.42.1"
DTYPES = {"fp32": "float32", "bf16": "bfloat16", "fp16": "float16"}

LOST = {
    "attention": "diffusers has no such attention: its own default stands in the script",
    "slice-budget": "only attention options that diffusers lacks are cut by it",
    "token-merging": "choosing what to merge from each picture's seed is Seedproof's own; "
    "as-shipped is what tomesd does by itself",
    "attention-slicing": "diffusers' sliced attention replaces the chosen attention by products "
    "of its own",
    "two-pass": "it takes a pipeline of its own (image to image), and Seedproof's own noise",
    "layerwise-casting": "pipe.unet.enable_layerwise_casting(...) comes near",
    "offload": "put pipe.enable_model_cpu_offload() in place of .to(...)",
    "guidance-batch": "diffusers' pipeline computes both halves of guidance in one batch",
    "compile": "here single blocks are compiled; torch.compile(pipe.unet) compiles the attention "
    "as well, which is another computation",
}
_MARKS = frozenset("()[]\\:<>#\n")
_SHORT = 75
"""Characters that fit one chunk of the text encoder, whatever their tokens are."""
_PIPELINE = "StableDiffusionPipeline"
_BOTH = "for part in (pipe.unet, pipe.vae):\n    "
_SDPA = "torch.nn.attention.sdpa_kernel([SDPBackend.FLASH_ATTENTION, SDPBackend.MATH])"


def script(requests: tuple[Request, ...], configuration: Configuration, device: str) -> Export:
    """Python that makes one batch's pictures. A test runs it, setting by setting, and compares
    the pixels with ours.

    `requests` share what a batch shares (`core.request.Job`); they are saved as `picture-0.png`,
    `picture-1.png` and so on, in the folder that the script is run in.
    """
    first = requests[0]
    guided = first.guidance_scale > 1
    carried, lost, before, after, imports = [], [], [], [], []
    dtype = DTYPES[configuration.get("precision").partition(":")[0]]
    for slot, text in configuration:
        name, _, number = text.partition(":")
        found = _said(slot, name, number, guided)
        if found is None:
            lost.append((f"{slot}={text}", LOST.get(slot, "diffusers has no such setting")))
            continue
        where, line, needed = found
        carried.append((f"{slot}={text}", line.replace("\n    ", " ") or f"dtype {dtype}"))
        imports += needed
        if line and where == "before":
            before.append(line)
        elif line and where == "after":
            after.append(line)
    skip = _skipping(configuration.get("min-sigma"), first) if guided else ""
    unmerged = configuration.get("attention") == "sdp-no-mem"
    text = _text(requests, device, dtype, imports, before, after, skip, unmerged)
    return Export(
        program="diffusers",
        checked=VERSION,
        parts=(Part(where="a file of its own, run by python", language="python", text=text),),
        carried=tuple(carried),
        lost=tuple(lost),
        remarks=_remarks(configuration, first, guided),
        same_pixels=not lost and not _unlike(configuration, first, guided),
    )


def _said(slot: str, name: str, number: str, guided: bool) -> tuple[str, str, list[str]] | None:
    """Where a line stands (before or after the pipeline is loaded, or elsewhere), the line, and
    what it imports; None for what diffusers cannot be told."""
    switches = "torch.backends"
    match slot, name:
        case "attention", "sdp":
            imports = ["from diffusers.models.attention_processor import AttnProcessor2_0"]
            return "after", f"{_BOTH}part.set_attn_processor(AttnProcessor2_0())", imports
        case "attention", "none":
            imports = ["from diffusers.models.attention_processor import AttnProcessor"]
            return "after", f"{_BOTH}part.set_attn_processor(AttnProcessor())", imports
        case "attention", "sdp-no-mem":
            imports = [
                "from diffusers.models.attention_processor import AttnProcessor2_0",
                "from torch.nn.attention import SDPBackend",
            ]
            return "after", f"{_BOTH}part.set_attn_processor(AttnProcessor2_0())", imports
        case "attention", "xformers":
            return "after", "pipe.enable_xformers_memory_efficient_attention()", []
        case "token-merging", "as-shipped":
            return "after", f"tomesd.apply_patch(pipe, ratio={number})", ["import tomesd"]
        case "token-merging", "fixed":
            line = f"tomesd.apply_patch(pipe, ratio={number}, use_rand=False)"
            return "after", line, ["import tomesd"]
        case "min-sigma", _:
            return "elsewhere", "callback_on_step_end" if guided else "", []
        case "precision", _:
            return "elsewhere", "", []
        case "tf32", _:
            allowed = name == "on"
            lines = (
                f"{switches}.{part}.allow_tf32 = {allowed}" for part in ("cuda.matmul", "cudnn")
            )
            return "before", "\n".join(lines), []
        case "cudnn-benchmark", _:
            return "before", f"{switches}.cudnn.benchmark = True", []
        case "cudnn-deterministic", _:
            return "before", f"{switches}.cudnn.deterministic = True", []
        case "deterministic-algorithms", _:
            warn = ", warn_only=True" if name == "warn" else ""
            return "before", f"torch.use_deterministic_algorithms(True{warn})", []
        case "threads", _:
            return "before", f"torch.set_num_threads({number})", []
        case "vae-slicing", _:
            return "after", "pipe.vae.enable_slicing()", []
        case "vae-tiling", "auto":
            return "after", "pipe.vae.enable_tiling()", []
        case "vae-tiling", "tiles":
            tiled = (
                "pipe.vae.enable_tiling()",
                f"pipe.vae.tile_sample_min_size = {number}",
                f"pipe.vae.tile_latent_min_size = {number} // pipe.vae_scale_factor",
            )
            return "after", "\n".join(tiled), []
        case "memory-format", "channels-last":
            return "after", f"{_BOTH}part.to(memory_format=torch.channels_last)", []
    return None


def _skipping(value: str, request: Request) -> str:
    """The function that decides, after a UNet call, how the next one is guided."""
    if value == "off":
        return ""
    name, _, number = value.partition(":")
    odd = " and call % 2" if name == "alternate" else ""
    if samplers.find(request.sampler).scheduler == "DDIMScheduler":
        level = (
            "kept_part = pipe.scheduler.alphas_cumprod[pipe.scheduler.timesteps[call].cpu()]\n"
            "        sigma = float(((1 - kept_part) / kept_part) ** 0.5)"
        )
    else:
        level = "sigma = float(pipe.scheduler.sigmas[call])"
    return f'''
kept = {{}}


def skip_guidance(pipe, step, timestep, tensors):
    """Negative guidance minimum sigma: below it, UNet calls go without the unconditional rows."""
    both = kept.setdefault("both", tensors["prompt_embeds"])
    call, skip = step + 1, False
    if call < len(pipe.scheduler.timesteps):
        {level}
        skip = bool(sigma < {number}{odd})
    pipe._guidance_scale = 1.0 if skip else {request.guidance_scale!r}
    return {{"prompt_embeds": both.chunk(2)[1] if skip else both}}


'''


def _text(
    requests: tuple[Request, ...],
    device: str,
    dtype: str,
    imports: list[str],
    before: list[str],
    after: list[str],
    skip: str,
    sdpa: bool,
) -> str:
    first, sampler = requests[0], samplers.find(requests[0].sampler)
    needed = {"import torch", *imports}
    needed.add(f"from diffusers import {', '.join(sorted((sampler.scheduler, _PIPELINE)))}")
    head = sorted(needed, key=lambda line: (line.startswith("from"), line.lower()))
    settings = "".join(f"    {key}={_python(value)},\n" for key, value in sampler.settings.items())
    callback = (
        "    callback_on_step_end=skip_guidance,\n"
        '    callback_on_step_end_tensor_inputs=["prompt_embeds"],\n'
        if skip
        else ""
    )
    call = f"""images = pipe(
    {json.dumps([request.prompt for request in requests])},
    negative_prompt={json.dumps([request.negative_prompt for request in requests])},
    width={first.width},
    height={first.height},
    num_inference_steps={first.num_inference_steps},
    guidance_scale={first.guidance_scale!r},
    latents=noise.to(pipe.unet.dtype),
    generator=generators,
{callback}).images
"""
    if sdpa:
        call = f"with {_SDPA}:\n    " + call.rstrip().replace("\n", "\n    ") + "\n"
    lines = [
        *head,
        "",
        f"model = {json.dumps(_folder(first.model))}  # the folder that holds its model_index.json",
        *before,
        f"pipe = {_PIPELINE}.from_pretrained(",
        "    model,",
        f"    dtype=torch.{dtype},",
        "    use_safetensors=True,",
        "    safety_checker=None,",
        "    requires_safety_checker=False,",
        f").to({json.dumps(device)})",
        f"pipe.scheduler = {sampler.scheduler}.from_config(",
        f"    pipe.scheduler.config,\n{settings})",
        *after,
        "",
        "# float32 noise from one CPU generator per picture, so that neighbours don't matter",
        f"seeds = {[request.seed for request in requests]!r}",
        "generators = [torch.Generator().manual_seed(seed) for seed in seeds]",
        f"height, width = {first.height} // pipe.vae_scale_factor, "
        f"{first.width} // pipe.vae_scale_factor",
        "shape = (1, pipe.unet.config.in_channels, height, width)",
        "noise = torch.cat([torch.randn(shape, generator=one) for one in generators])",
        skip.rstrip("\n") + "\n\n" if skip else "",
        call + "for i, image in enumerate(images):",
        '    image.save(f"picture-{i}.png")',
    ]
    return "\n".join(lines).replace("\n\n\n\n", "\n\n\n") + "\n"


def _python(value: object) -> str:
    return json.dumps(value) if isinstance(value, str) else repr(value)


def _folder(model: Model) -> str:
    """Where the model lies for whoever has it too; where it lies here is nobody's business."""
    return "data/pocket" if model.name == POCKET else Path(model.name).name


def _unlike(configuration: Configuration, request: Request, guided: bool) -> str:
    """Why the script's pixels need not be ours, although every setting is in it."""
    if configuration.get("token-merging").startswith("as-shipped"):
        return (
            "tomesd's choice of tokens follows from every picture made before in the process and "
            "from torch's global random numbers: no two runs need agree."
        )
    if request.schedule != AUTOMATIC or request.clip_skip > 1 or request.noise_source != "CPU":
        return "Its schedule, its clip skip or its random numbers are not in the script."
    if request.variation_strength or request.eta_noise_seed_delta:
        return "Its variation, or its noise of later steps, is not in the script."
    if request.prompt_syntax == "a1111" and not _plain_words(request):
        return (
            "Its prompt has marks of AUTOMATIC1111's syntax, or is long: diffusers takes what it "
            "reads as it stands, and leaves out the rest."
        )
    if configuration.get("attention") == "xformers":
        return "Where xFormers runs, nobody has compared the pixels yet."
    name, _, number = configuration.get("min-sigma").partition(":")
    if name == "all" and guided and not _first_sigma(request) >= float(number):
        return (
            "The first UNet call lies below the minimum sigma already, and diffusers has no way "
            "to leave out the guidance of the first."
        )
    return ""


def _plain_words(request: Request) -> bool:
    """Whether both syntaxes read these prompts alike. Every token has a character at least."""
    texts = (request.prompt, request.negative_prompt)
    marked = any(set(text) & _MARKS or "BREAK" in text for text in texts)
    return not marked and all(len(text) <= _SHORT for text in texts)


def _first_sigma(request: Request) -> float:
    """The noise level of the first UNet call; not a number where the model is not here."""
    file = request.model.path / "scheduler" / "scheduler_config.json"
    if not file.is_file():
        return float("nan")
    scheduler = samplers.scheduler_for(request.sampler, json.loads(file.read_text()))
    scheduler.set_timesteps(request.num_inference_steps)
    return samplers.sigmas(scheduler)[0]


def _remarks(configuration: Configuration, request: Request, guided: bool) -> tuple[str, ...]:
    found = [_unlike(configuration, request, guided)]
    if configuration.get("threads") != "off":
        found.append("Another number of threads than the default may change the last bits.")
    return tuple(remark for remark in found if remark)
