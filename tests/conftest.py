"""Fixtures shared by the tests: a tiny random model shaped like Stable Diffusion 1.x."""

import copy
import importlib
import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

# As `webapp.waiting` has it. Read when torch loads its OpenMP, hence before the imports.
os.environ.setdefault("GOMP_SPINCOUNT", "2000")

import pytest
import torch
from diffusers import (
    AutoencoderKL,
    EulerDiscreteScheduler,
    StableDiffusionPipeline,
    UNet2DConditionModel,
)
from safetensors.torch import save
from tokenizers import pre_tokenizers
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from core.optimizations import compilation
from core.optimizations.enlarging import FOREIGN, SHIPPED
from core.upscaler import Upscaler
from tests import tiny_run


def _tiny_tokenizer() -> CLIPTokenizer:
    """Every byte is a token, inside a word and at its end; nothing is merged."""
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokens = letters + [f"{letter}</w>" for letter in letters]
    tokens += ["<|startoftext|>", "<|endoftext|>"]
    return CLIPTokenizer(
        vocab={token: index for index, token in enumerate(tokens)}, merges=[], model_max_length=77
    )


def _tiny_pipeline() -> StableDiffusionPipeline:
    """16x16 latents of 4 channels for 128 px, three UNet levels, mid attention in the VAE.

    The weights are random from a fixed seed, and the global generator is left as it was.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(20)
        unet = UNet2DConditionModel(
            sample_size=16,
            block_out_channels=(32, 64, 64),
            down_block_types=("CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"),
            up_block_types=("UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D"),
            layers_per_block=1,
            attention_head_dim=2,
            cross_attention_dim=32,
            norm_num_groups=8,
        )
        vae = AutoencoderKL(
            block_out_channels=(8, 8, 16, 16),
            down_block_types=("DownEncoderBlock2D",) * 4,
            up_block_types=("UpDecoderBlock2D",) * 4,
            layers_per_block=1,
            latent_channels=4,
            norm_num_groups=4,
            sample_size=128,
        )
        text_encoder = CLIPTextModel(
            CLIPTextConfig(
                vocab_size=514,
                hidden_size=32,
                intermediate_size=64,
                num_hidden_layers=2,
                num_attention_heads=2,
                max_position_embeddings=77,
                bos_token_id=512,
                eos_token_id=513,
            )
        )
        # A trained text encoder's numbers have a mean; those of a fresh norm have none.
        torch.nn.init.normal_(
            getattr(text_encoder, "text_model", text_encoder).final_layer_norm.bias, mean=0.5
        )
    pipeline = StableDiffusionPipeline(
        unet=unet.eval(),
        vae=vae.eval(),
        text_encoder=text_encoder.eval(),
        tokenizer=_tiny_tokenizer(),
        scheduler=EulerDiscreteScheduler(
            beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", steps_offset=1
        ),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


@torch.library.custom_op("xformers_fake::attention", mutates_args=())
def _fake_attention(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, scale: float
) -> torch.Tensor:
    scores = torch.einsum("bqhd,bkhd->bhqk", query, key) * scale
    return torch.einsum("bhqk,bkhd->bqhd", scores.softmax(-1), value)


@pytest.fixture
def fake_xformers(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, ...]]:
    """An xFormers with one plain operator, which notes the queries' shapes it was given."""
    shapes = []

    def memory_efficient_attention(query, key, value, scale):
        shapes.append(tuple(query.shape))
        return torch.ops.xformers_fake.attention(query, key, value, scale)

    operators = ModuleType("xformers.ops")
    operators.memory_efficient_attention = memory_efficient_attention
    monkeypatch.setitem(sys.modules, "xformers", ModuleType("xformers"))
    monkeypatch.setitem(sys.modules, "xformers.ops", operators)
    return shapes


@pytest.fixture
def fake_spandrel(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, ...]]:
    """A spandrel that knows one architecture: every pixel becomes four by four, times the one
    weight. It notes the shapes of the pictures it was given."""
    shapes = []

    class Descriptor(torch.nn.Module):
        scale, input_channels, output_channels = 4, 3, 3

        def __init__(self, gain: torch.Tensor) -> None:
            super().__init__()
            self.gain = torch.nn.Parameter(gain)

        def forward(self, image: torch.Tensor) -> torch.Tensor:
            shapes.append(tuple(image.shape))
            return torch.nn.functional.interpolate(image * self.gain, scale_factor=4)

    class ModelLoader:
        def __init__(self, device: torch.device) -> None:
            self.device = device

        def load_from_state_dict(self, weights: dict[str, torch.Tensor]) -> Descriptor:
            return Descriptor(weights["gain"]).to(self.device)

    package: Any = ModuleType("spandrel")
    package.ModelLoader = ModelLoader
    monkeypatch.setitem(sys.modules, "spandrel", package)
    return shapes


@pytest.fixture(scope="session")
def upscaler_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a model's folder has where it ships upscalers: ours, with random weights, and one for
    `fake_spandrel`."""
    folder = tmp_path_factory.mktemp("with-upscalers")
    (folder / SHIPPED).parent.mkdir()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(21)
        network = Upscaler()
        torch.nn.init.normal_(network.leave.weight, std=0.02)
    halved = {name: part.half().contiguous() for name, part in network.state_dict().items()}
    (folder / SHIPPED).write_bytes(save(halved))
    (folder / FOREIGN).write_bytes(save({"gain": torch.tensor(0.9)}))
    return folder


@pytest.fixture
def tiny_upscalers(
    monkeypatch: pytest.MonkeyPatch, upscaler_folder: Path, fake_spandrel: list[tuple[int, ...]]
) -> None:
    """The model of `tests.tiny_run` ships them."""
    monkeypatch.setattr(tiny_run, "MODEL", replace(tiny_run.MODEL, path=upscaler_folder))


@pytest.fixture(scope="session")
def shared_pipeline() -> StableDiffusionPipeline:
    """In float32 on the CPU, for tests that leave it as it was: copying takes longer than a run."""
    return _tiny_pipeline()


@pytest.fixture(scope="session")
def tiny_model_path(
    shared_pipeline: StableDiffusionPipeline, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """The tiny model as a folder that `StableDiffusionPipeline.from_pretrained` loads."""
    folder = tmp_path_factory.mktemp("tiny-model")
    shared_pipeline.save_pretrained(folder, safe_serialization=True)
    return folder


@pytest.fixture
def tiny_pipeline(shared_pipeline: StableDiffusionPipeline) -> StableDiffusionPipeline:
    """A pipeline of the test's own, to change at will."""
    return copy.deepcopy(shared_pipeline)


Script = Callable[[str], ModuleType]


@pytest.fixture(scope="module")
def script() -> Iterator[Script]:
    """Imports a script of the shipped model by name. The scripts import each other by their plain
    names, so that they leave no trace here."""
    folder = Path(__file__).parents[1] / "data" / "pocket" / "training"
    before, path = set(sys.modules), list(sys.path)
    sys.path.insert(0, str(folder))
    yield importlib.import_module
    sys.path[:] = path
    for name in set(sys.modules) - before:
        file = getattr(sys.modules[name], "__file__", None) or ""
        if Path(file).parent == folder:
            del sys.modules[name]


@pytest.fixture
def few_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """torch.compile is given one block of each kind: each takes seconds."""
    whole = compilation.blocks_of

    def first_of_each(unet: torch.nn.Module) -> list[torch.nn.Module]:
        return list({type(block): block for block in reversed(whole(unet))}.values())

    monkeypatch.setattr(compilation, "blocks_of", first_of_each)
