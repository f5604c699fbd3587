"""What SD.Next, ComfyUI, InvokeAI and Fooocus wrote into a picture: taken over, listed, or refused
in one sentence. The pictures are written here as those programs write them, and read back by
sd-parsers as well."""

import contextlib
import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from sd_parsers import ParserManager

from core.foreign_metadata import LACKS, read_metadata, wrote
from core.models import check, resolve
from core.picture_file import PictureFile, Texts, opened
from core.picture_settings import take_over
from core.request import Model, Request
from core.takeover import Taken
from core.translation import MOST_CHARACTERS

MODEL = resolve("pocket", Path(__file__).parents[1] / "data" / "pocket")
Graph = dict[str, dict[str, Any]]


def png(chunks: Mapping[str, str]) -> bytes:
    texts, buffer = PngInfo(), io.BytesIO()
    for key, text in chunks.items():
        texts.add_text(key, text)
    Image.new("RGB", (64, 64)).save(buffer, format="PNG", pnginfo=texts)
    return buffer.getvalue()


def picture(chunks: Mapping[str, str]) -> PictureFile:
    return opened(png(chunks), "theirs.png")


def taken(chunks: Mapping[str, str], model: Model = MODEL) -> Taken:
    found = take_over(picture(chunks), "theirs.png", model)
    check(found.request)
    return found


def said(found: Taken) -> dict[str, str]:
    return {remark.key: remark.sentence for remark in found.remarks}


def theirs(chunks: Mapping[str, str], folder: Path) -> tuple[str, Any]:
    """The first sampler that sd-parsers sees, and its name for the program."""
    (folder / "theirs.png").write_bytes(png(chunks))
    info = ParserManager().parse(folder / "theirs.png")
    assert info is not None
    return info.generator.value, info.samplers[0]


# ComfyUI


def graph(**sampler: Any) -> Graph:
    """ComfyUI's default workflow, as it writes it."""
    return {
        "3": {
            "class_type": "KSampler",
            "inputs": {
                "seed": 42,
                "steps": 12,
                "cfg": 6.5,
                "sampler_name": "euler",
                "scheduler": "normal",
                "denoise": 1,
                "model": ["4", 0],
                "positive": ["6", 0],
                "negative": ["7", 0],
                "latent_image": ["5", 0],
                **sampler,
            },
        },
        "4": {"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": "v1-5.safetensors"}},
        "5": {
            "class_type": "EmptyLatentImage",
            "inputs": {"width": 160, "height": 128, "batch_size": 1},
        },
        "6": {"class_type": "CLIPTextEncode", "inputs": {"text": "a red apple", "clip": ["4", 1]}},
        "7": {"class_type": "CLIPTextEncode", "inputs": {"text": "text", "clip": ["4", 1]}},
        "8": {"class_type": "VAEDecode", "inputs": {"samples": ["3", 0], "vae": ["4", 2]}},
        "9": {"class_type": "SaveImage", "inputs": {"filename_prefix": "x", "images": ["8", 0]}},
    }


def comfyui(nodes: Graph) -> dict[str, str]:
    links = [
        [0, int(value[0]), value[1], int(name), 0, "X"]
        for name, node in nodes.items()
        for value in node["inputs"].values()
        if isinstance(value, list)
    ]
    return {"prompt": json.dumps(nodes), "workflow": json.dumps({"links": links})}


def test_comfyuis_default_workflow_is_a_request(tmp_path: Path) -> None:
    found = taken(comfyui(graph()))
    assert found.request == Request(
        prompt="a red apple",
        negative_prompt="text",
        model=MODEL,
        prompt_syntax="a1111",
        seed=42,
        width=160,
        height=128,
        num_inference_steps=12,
        guidance_scale=6.5,
        schedule="Uniform",
    )
    assert found.program == "ComfyUI"
    assert list(said(found)) == ["Model"], found.remarks
    program, sampler = theirs(comfyui(graph()), tmp_path)
    assert program == "ComfyUI"
    assert sampler.parameters["seed"] == found.request.seed
    assert sampler.parameters["steps"] == found.request.num_inference_steps
    assert sampler.parameters["cfg_scale"] == found.request.guidance_scale
    assert [prompt.value for prompt in sampler.prompts] == [found.request.prompt]
    assert [prompt.value for prompt in sampler.negative_prompts] == [found.request.negative_prompt]
    assert sampler.model.name == "v1-5.safetensors"


@pytest.mark.parametrize(
    ("name", "scheduler", "sampler", "schedule"),
    [
        ("euler_ancestral", "karras", "Euler a", "Karras"),
        ("dpmpp_2m", "karras", "DPM++ 2M", "Karras"),
        ("heun", "exponential", "Heun", "Exponential"),
        ("lms", "sgm_uniform", "LMS", "SGM Uniform"),
        ("ddim", "normal", "Euler", "Uniform"),
        ("uni_pc_bh2", "normal", "UniPC", "Uniform"),
    ],
)
def test_comfyuis_names_are_ours(name: str, scheduler: str, sampler: str, schedule: str) -> None:
    found = taken(comfyui(graph(sampler_name=name, scheduler=scheduler)))
    assert (found.request.sampler, found.request.schedule) == (sampler, schedule)
    assert list(said(found)) == ["Model"], found.remarks


def test_what_comfyui_has_and_we_have_not_is_listed() -> None:
    nodes = graph(
        sampler_name="dpmpp_3m_sde", scheduler="beta", denoise=0.6, model=["10", 0], seed=["12", 0]
    )
    lora = {"lora_name": "ink", "strength_model": 0.8, "model": ["11", 0], "clip": ["4", 1]}
    nodes["10"] = {"class_type": "LoraLoader", "inputs": lora}
    nodes["11"] = {"class_type": "TomePatchModel", "inputs": {"ratio": 0.3, "model": ["4", 0]}}
    nodes["12"] = {"class_type": "PrimitiveInt", "inputs": {"value": 77}}
    nodes["5"]["inputs"]["batch_size"] = 4
    nodes["6"]["inputs"] = {"text": "an (apple:1.2) [x] \\(b\\)", "clip": ["13", 0]}
    nodes["13"] = {
        "class_type": "CLIPSetLastLayer",
        "inputs": {"stop_at_clip_layer": -2, "clip": ["10", 1]},
    }
    found = taken(comfyui(nodes))
    sentences = said(found)
    assert found.request.seed == 77
    assert found.request.clip_skip == 2
    assert found.request.prompt == "an (apple:1.2) \\[x\\] \\(b\\)"
    assert found.request.sampler == "Euler"
    assert sentences["Sampler"] == "there is none of that name here: Euler is taken"
    assert sentences["Schedule type"].startswith("there is none of that name here")
    assert sentences["Denoising strength"] == "a picture is made from noise alone here"
    assert "the first one's noise is taken" in sentences["Batch"]
    assert "moves a token away from the empty prompt" in sentences["Prompt"]
    nodes_left = {remark.value for remark in found.remarks if "Node" in remark.key}
    assert nodes_left == {"TomePatchModel ratio 0.3"}
    (lora_left,) = (remark for remark in found.remarks if "Lora" in remark.key)
    assert lora_left.value == "LoraLoader lora_name ink, strength_model 0.8"


def test_of_two_samplers_the_one_that_began_counts() -> None:
    """A second pass over enlarged latents, with a text through a node for texts."""
    nodes = graph()
    nodes["20"] = {
        "class_type": "LatentUpscale",
        "inputs": {"upscale_method": "nearest-exact", "width": 320, "samples": ["3", 0]},
    }
    again = {**nodes["3"]["inputs"], "seed": 1, "denoise": 0.5, "latent_image": ["20", 0]}
    nodes["21"] = {"class_type": "KSampler", "inputs": again}
    nodes["8"]["inputs"]["samples"] = ["21", 0]
    nodes["22"] = {"class_type": "StringNode", "inputs": {"string": "a pear"}}
    nodes["6"]["inputs"]["text"] = ["22", 0]
    found = taken(comfyui(nodes))
    assert (found.request.seed, found.request.width) == (42, 160)
    assert found.request.prompt == "a pear"
    left = [remark.value for remark in found.remarks if remark.key.startswith("Node")]
    assert [value.split()[0] for value in left] == ["KSampler", "LatentUpscale"]


def test_an_advanced_sampler_that_leaves_steps_out_says_so() -> None:
    nodes = graph(noise_seed=9, add_noise="enable", start_at_step=0, end_at_step=10000)
    del nodes["3"]["inputs"]["seed"]
    nodes["3"]["class_type"] = "KSamplerAdvanced"
    found = taken(comfyui(nodes))
    assert found.request.seed == 9
    assert list(said(found)) == ["Model"]
    nodes["3"]["inputs"] |= {"start_at_step": 3, "end_at_step": 10, "add_noise": "disable"}
    assert {"start_at_step", "end_at_step", "add_noise"} <= said(taken(comfyui(nodes))).keys()


# InvokeAI

INVOKEAI = {
    "app_version": "4.2.9",
    "generation_mode": "txt2img",
    "positive_prompt": "a [cat], small",
    "negative_prompt": "dog",
    "width": 128,
    "height": 192,
    "seed": 5,
    "rand_device": "cpu",
    "cfg_scale": 7.5,
    "cfg_rescale_multiplier": 0,
    "steps": 30,
    "scheduler": "euler_k",
    "seamless_x": False,
    "clip_skip": 1,
    "model": {"key": "k", "hash": "blake3:0", "name": "stable-diffusion-v1-5", "base": "sd-1"},
}


def invokeai(**changes: Any) -> dict[str, str]:
    return {"invokeai_metadata": json.dumps({**INVOKEAI, **changes})}


def test_invokeais_metadata_are_a_request(tmp_path: Path) -> None:
    found = taken(invokeai())
    assert found.request == Request(
        prompt="a [cat], small",
        negative_prompt="dog",
        model=MODEL,
        seed=5,
        width=128,
        height=192,
        num_inference_steps=30,
        guidance_scale=7.5,
        schedule="Karras",
        clip_skip=2,
    )
    assert found.program == "InvokeAI 4.2.9"
    assert [(remark.key, remark.value) for remark in found.remarks] == [
        ("Model", "stable-diffusion-v1-5"),
        ("Noise", "drawn on cpu"),
    ]
    program, sampler = theirs(invokeai(), tmp_path)
    assert program == "InvokeAI"
    assert int(sampler.parameters["seed"]) == 5
    assert [prompt.value for prompt in sampler.prompts] == [found.request.prompt]


def test_what_invokeai_has_and_we_have_not_is_listed() -> None:
    lora = {"model": {"name": "ink"}, "weight": 0.7}
    found = taken(
        invokeai(
            positive_prompt="a cat++ and (a dog)1.3",
            rand_device="cuda",
            scheduler="dpmpp_sde_k",
            generation_mode="sdxl_txt2img",
            loras=[lora],
            vae={"name": "other"},
            hrf_enabled=True,
        )
    )
    sentences = said(found)
    assert found.request.prompt_syntax == "plain"
    assert "Compel's weights" in sentences["Prompt"]
    assert "another maker's draws others" in sentences["RNG"]
    assert found.request.noise_source == "NV"
    values = {remark.key: remark.value for remark in found.remarks if remark.left}
    assert values["Sampler"] == "dpmpp_sde_k"
    assert (values["Lora"], values["VAE"]) == ("ink", "other")
    assert values["Generation mode"] == "sdxl_txt2img"
    assert values["hrf_enabled"] == "True"


# SD.Next and Fooocus

SDNEXT = (
    "a cat\nNegative prompt: dog\nSteps: 20, Size: 128x128, Sampler: Euler a, Seed: 7, "
    "CFG scale: 6, Clip skip: 2, App: SD.Next, Version: 0c7038e, "
    "Pipeline: StableDiffusionPipeline, Operations: txt2img, "
    "Model: v1-5, Model hash: 6ce0161689, ToMe: 0.3, Sampler sigma: karras, "
    "Variation seed: 3, Variation strength: 0.25"
)


def test_sdnexts_own_keys_are_understood(tmp_path: Path) -> None:
    chunks = {"parameters": SDNEXT}
    found = taken(chunks)
    asked = found.request
    assert (asked.sampler, asked.schedule, asked.clip_skip) == ("Euler a", "Karras", 2)
    assert (asked.variation_seed, asked.variation_strength) == (3, 0.25)
    assert found.settings == {"token-merging": "fixed:0.3"}
    assert found.program == "SD.Next 0c7038e"
    assert said(found).keys() == {"RNG", "Model"}
    assert wrote(picture(chunks).texts) == "SD.Next"
    _, sampler = theirs(chunks, tmp_path)
    assert (sampler.name, int(sampler.parameters["seed"])) == (asked.sampler, asked.seed)


def test_a_prompt_that_names_sdnext_is_still_another_programs() -> None:
    text = "App: SD.Next\nSteps: 20, Sampler: Euler, CFG scale: 6, Seed: 7, Size: 128x128, RNG: CPU"
    assert wrote(Texts(infotext=text)) == "AUTOMATIC1111's web UI"
    assert taken({"parameters": text}).request.prompt == "App: SD.Next"


def test_forge_writes_what_a1111_writes() -> None:
    text = (
        "a cat\nSteps: 20, Sampler: Euler, Schedule type: Simple, CFG scale: 6, Seed: 7, "
        "Size: 128x128, Model: v1-5, RNG: CPU, Version: f2.0.1v1.10.1-previous-1"
    )
    found = taken({"parameters": text})
    assert found.program.startswith("f2.0.1")
    assert said(found).keys() == {"Schedule type", "Model"}


FOOOCUS = {
    "adm_guidance": "(1.5, 0.8, 0.3)",
    "base_model": "juggernautXL",
    "base_model_hash": "aeb7e9e689",
    "guidance_scale": 4,
    "loras": [],
    "metadata_scheme": "fooocus",
    "negative_prompt": "",
    "performance": "Speed",
    "prompt": "a cat",
    "resolution": "(128, 192)",
    "sampler": "dpmpp_2m",
    "scheduler": "karras",
    "seed": "123",
    "sharpness": 2,
    "steps": 30,
    "styles": "['Fooocus V2']",
    "vae": "Default (model)",
    "version": "Fooocus v2.5.5",
}


def test_fooocus_is_a_request(tmp_path: Path) -> None:
    chunks = {"parameters": json.dumps(FOOOCUS), "fooocus_scheme": "fooocus"}
    found = taken(chunks)
    asked = found.request
    assert (asked.prompt, asked.seed, asked.num_inference_steps) == ("a cat", 123, 30)
    assert (asked.width, asked.height, asked.guidance_scale) == (128, 192, 4)
    assert (asked.sampler, asked.schedule) == ("DPM++ 2M", "Karras")
    assert found.program == "Fooocus v2.5.5"
    listed = {"adm_guidance", "performance", "sharpness", "styles", "VAE", "Model", "RNG"}
    assert said(found).keys() == listed
    program, sampler = theirs(chunks, tmp_path)
    assert program == "Fooocus"
    assert sampler.parameters["cfg_scale"] == asked.guidance_scale


# What cannot be read

EMPTY: dict[str, str] = {}


@pytest.mark.parametrize(
    ("chunks", "sentence"),
    [
        (EMPTY, r"^theirs.png carries no settings: .* ComfyUI, .* diffusers writes nothing\.$"),
        ({"prompt": "{"}, "^The metadata of ComfyUI are damaged: they are not JSON.$"),
        ({"prompt": "[]"}, "^The metadata of ComfyUI are damaged: they are no JSON object.$"),
        ({"prompt": "{}"}, "^The picture's ComfyUI graph is damaged: it holds no nodes.$"),
        ({"prompt": '{"1": 2}'}, "it holds no nodes"),
        ({"prompt": "[" * 5000}, "not JSON"),
        ({"workflow": "{}"}, "not the graph that was run: open it there"),
        ({"prompt": '{"1": {"class_type": "Flux", "inputs": {}}}'}, r"\(it has Flux\)"),
        ({"invokeai_metadata": "x"}, "^The metadata of InvokeAI are damaged"),
        ({"sd-metadata": "{}"}, "^The metadata are those of InvokeAI before version 3"),
        ({"parameters": "{"}, "^The metadata of Fooocus are damaged"),
        ({"prompt": f'{{"1": "{"x" * MOST_CHARACTERS}"}}'}, "the most that is read is 1,048,576"),
    ],
    ids=lambda value: str(value)[:30],
)
def test_what_cannot_be_read_is_one_sentence(chunks: dict[str, str], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence) as refused:
        taken(chunks)
    assert "\n" not in str(refused.value)


def test_a_graph_that_cannot_be_read_leaves_the_text_beside_it() -> None:
    chunks = {"prompt": '{"1": {"class_type": "Flux", "inputs": {}}}', "parameters": SDNEXT}
    assert taken(chunks).program == "SD.Next 0c7038e"


@pytest.mark.parametrize(
    "sampler",
    [
        {"seed": "x", "steps": -4, "cfg": float("nan"), "latent_image": ["3", 0]},
        {"seed": 2**70, "steps": 10**9, "cfg": 1e300, "positive": ["3", 0], "model": [["4"], 0]},
        {"seed": None, "steps": [], "cfg": {}, "sampler_name": 5, "scheduler": ["9", 0]},
    ],
)
def test_nonsense_in_a_graph_leaves_what_is_usual(sampler: dict[str, Any]) -> None:
    """Circles among them. Numbers that no picture can have are listed, and the usual ones stand."""
    found = taken(comfyui_without_links(graph(**sampler)))
    usual = Request(prompt="", model=MODEL)
    assert found.request.seed == usual.seed
    assert found.request.num_inference_steps == usual.num_inference_steps
    assert found.request.guidance_scale == usual.guidance_scale


def comfyui_without_links(nodes: Graph) -> dict[str, str]:
    return {"prompt": json.dumps(nodes)}


def test_a_flood_of_entries_is_counted_and_not_listed() -> None:
    found = taken(invokeai(**{f"key {n}": "x" * 500 for n in range(500)}))
    assert len(found.remarks) < 70
    assert max(len(remark.value) for remark in found.remarks) <= 80
    assert any(remark.value.endswith("more") for remark in found.remarks)


def test_no_foreign_entry_stands_for_one_of_ours() -> None:
    """InvokeAI writes no such keys: somebody else may."""
    found = taken(invokeai(Steps=3, Emphasis="Original", Version="Seedproof 9"))
    assert found.request.num_inference_steps == 30
    assert found.request.prompt_syntax == "plain"
    assert found.program == "InvokeAI 4.2.9"


words = st.text(max_size=12)
scalars = st.none() | st.booleans() | st.integers() | st.floats() | words
values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(words, inner, max_size=3)
)
inputs = st.dictionaries(
    st.sampled_from(
        ["seed", "steps", "cfg", "text", "positive", "latent_image", "model", "images"]
    ),
    values | st.tuples(st.sampled_from("123"), st.just(0)).map(list),
)
kinds = st.sampled_from(["KSampler", "SaveImage", "CLIPTextEncode", "EmptyLatentImage", "Other"])


@settings(max_examples=40, deadline=None)
@given(
    st.dictionaries(
        st.sampled_from("123"), st.fixed_dictionaries({"class_type": kinds, "inputs": inputs})
    ),
    st.dictionaries(st.sampled_from([*INVOKEAI, "loras", "x"]), values),
)
def test_whatever_somebody_writes_is_a_request_or_a_sentence(
    nodes: dict[str, Any], entries: dict[str, Any]
) -> None:
    for texts in (
        Texts(foreign={"prompt": json.dumps(nodes)}),
        Texts(foreign={"invokeai_metadata": json.dumps(entries)}),
        Texts(infotext=json.dumps(entries)),
    ):
        found = None
        with contextlib.suppress(ValueError):
            found = read_metadata(texts, MODEL)
        if found is not None:
            check(found.request)


def test_every_program_says_what_its_metadata_lack() -> None:
    for program, sentence in LACKS.items():
        assert "no attention" in sentence, program
        assert "digests of pixels" in sentence, program
