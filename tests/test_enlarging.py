"""Upscalers between two passes: that they ran, what they compute, and where there is none."""

import copy
import dataclasses
import json
import shutil
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import StableDiffusionPipeline
from PIL import Image, ImageOps
from safetensors.torch import save

from audit.pictures import load_picture
from audit.rerun import rerun_job
from audit.verification import Verification, verification
from core import spandrel_models
from core.diffusion import DiffusersEngine
from core.infotext_reading import from_infotext
from core.models import resolve
from core.optimization import Optimization
from core.optimizations import OPTIMIZATIONS, SLOTS, availability, configure
from core.optimizations.enlarging import FOREIGN, SHIPPED, UPSCALERS, Network, Upscaler, fitted
from core.picture_file import read
from core.platforms import detect
from core.receipt import load
from core.request import Following, Job, Model, Request
from core.run import Run, SlotEffect
from core.upscaler import load_upscaler, upscale
from webapp import settings_form

CPU = torch.device("cpu")
HERE = detect("cpu")


@pytest.fixture(scope="module")
def model(
    tiny_model_path: Path, upscaler_folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> Model:
    """The tiny model, with upscalers in its folder."""
    folder = tmp_path_factory.mktemp("models") / "tiny"
    shutil.copytree(tiny_model_path, folder)
    shutil.copytree(upscaler_folder, folder, dirs_exist_ok=True)
    return resolve(str(folder), Path("unused"))


def asked(model: Model, **changes: Any) -> Request:
    """160 px; the tiny model's own size is 128."""
    request = Request(
        prompt="a cat", model=model, seed=7, width=160, height=160, num_inference_steps=2
    )
    return dataclasses.replace(request, **changes)


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> DiffusersEngine:
    return DiffusersEngine(HERE, tmp_path_factory.mktemp("pictures"))


def run(engine: DiffusersEngine, two_pass: str, *requests: Request) -> Run:
    configuration = configure({"two-pass": two_pass}, HERE)
    return engine.run(Job(id="job", requests=requests, configuration=configuration), Following())


def effect(made: Run) -> SlotEffect:
    found = made.effective.slot("two-pass")
    assert found is not None
    return found


def option(name: str) -> Optimization:
    return next(o for o in OPTIMIZATIONS if (o.slot, o.name) == ("two-pass", name))


def picture(side: int = 32) -> Image.Image:
    generator = np.random.default_rng(3)
    return Image.fromarray(generator.integers(0, 256, (side, side, 3), dtype=np.uint8))


@pytest.mark.parametrize(
    ("name", "file", "factor", "hires"),
    [("shipped-2x", SHIPPED, 2, "Seedproof 2x"), ("spandrel", FOREIGN, 4, "spandrel")],
)
def test_the_network_ran_for_every_picture_and_the_record_names_its_weights(
    model: Model,
    fake_spandrel: list[tuple[int, ...]],
    engine: DiffusersEngine,
    name: str,
    file: Path,
    factor: int,
    hires: str,
) -> None:
    made = run(engine, f"{name}:0.5", asked(model), asked(model, seed=8))
    assert made.outcome == "ok", made.reason
    found = effect(made)
    assert found.effect == "applied", found.reason
    assert found.counts["upscaler_calls"] == 2
    assert found.counts["upscaler_factor"] == factor
    assert found.weights_sha256 == sha256((model.path / file).read_bytes()).hexdigest()
    assert fake_spandrel == [(1, 3, 128, 128)] * (2 if name == "spandrel" else 0)
    path = made.pictures[1].path or Path()
    texts = read(path).texts
    assert read(path).pixels.shape == (160, 160, 3)
    assert effect_in(texts.receipt) == found
    assert f"Hires upscaler: {hires}," in texts.infotext
    taken = from_infotext(texts.infotext, model)
    assert taken.settings == {"two-pass": f"{name}:0.5"}
    assert taken.remarks == ()
    assert (taken.request.width, taken.request.height) == (160, 160)


def effect_in(receipt: str) -> SlotEffect | None:
    return load(receipt).effective.slot("two-pass")


def test_every_upscaler_makes_another_picture_of_the_same_first_pass(
    model: Model, fake_spandrel: list[tuple[int, ...]], engine: DiffusersEngine
) -> None:
    """Of one request, so that each is comparable with the large picture made directly."""
    pictures = [run(engine, f"{u.name}:0.5", asked(model)).pictures[0] for u in UPSCALERS]
    directly = run(engine, "off", asked(model)).pictures[0]
    assert {one.request for one in pictures} == {directly.request}
    assert len({one.step_sha256s[:2] for one in pictures}) == 1
    assert len({one.pixels_sha256 for one in (*pictures, directly)}) == len(UPSCALERS) + 1


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("shipped-2x", "this model ships no upscaler"),
        ("spandrel", "there is no upscaler/spandrel.safetensors in this model's folder"),
    ],
)
def test_a_model_without_an_upscaler_says_so_everywhere(
    tiny_model_path: Path,
    model: Model,
    fake_spandrel: list[tuple[int, ...]],
    engine: DiffusersEngine,
    name: str,
    reason: str,
) -> None:
    bare = resolve(str(tiny_model_path), Path("unused"))
    assert availability(option(name), HERE, bare.path) == reason
    assert availability(option(name), HERE, model.path) is None
    made = run(engine, name, asked(bare))
    assert (made.outcome, made.pictures) == ("failed", ())
    assert made.reason == f"Not available: {reason}. Choose another way to enlarge."
    slots = [slot for slot in SLOTS if slot.name == "two-pass"]
    form = settings_form.markup(
        slots, HERE, lambda option, platform: availability(option, platform, bare.path)
    )
    assert f"Not here: {settings_form.escape(reason)}" in form
    receipt = load(read(run(engine, name, asked(model)).pictures[0].path or Path()).texts.receipt)
    assert receipt.request.model.digest == bare.digest
    with pytest.raises(ValueError, match=f"cannot run here: {reason}"):
        rerun_job(receipt, [bare], HERE)


def test_without_spandrel_the_reason_names_both_packages() -> None:
    reason = availability(option("spandrel"), HERE) or ""
    assert reason.startswith("needs the package spandrel and torchvision, which it imports (")
    with pytest.raises(RuntimeError, match="needs the package spandrel"):
        spandrel_models.load(b"", CPU)


@pytest.mark.parametrize(
    ("weights", "sentence"),
    [
        (b"no safetensors", "not the weights of an upscaler that spandrel knows"),
        (save({"other": torch.ones(1)}), r"spandrel knows \('gain'\): take another file"),
    ],
)
def test_other_weights_are_one_sentence(
    fake_spandrel: list[tuple[int, ...]], weights: bytes, sentence: str
) -> None:
    with pytest.raises(ValueError, match=sentence):
        spandrel_models.load(weights, CPU)


@pytest.mark.parametrize(("what", "value"), [("scale", 1), ("scale", 16), ("output_channels", 1)])
def test_a_network_that_does_not_enlarge_rgb_is_refused(
    fake_spandrel: list[tuple[int, ...]],
    monkeypatch: pytest.MonkeyPatch,
    what: str,
    value: int,
) -> None:
    loader = spandrel_models._package().ModelLoader
    known = loader.load_from_state_dict

    def other(self: Any, weights: Any) -> Any:
        network = known(self, weights)
        setattr(network, what, value)
        return network

    monkeypatch.setattr(loader, "load_from_state_dict", other)
    with pytest.raises(ValueError, match="does not enlarge RGB pictures"):
        spandrel_models.load(save({"gain": torch.tensor(1.0)}), CPU)


def test_a_network_that_makes_another_size_than_it_says_is_refused() -> None:
    network = Network(b"", 2, lambda image: image)
    with pytest.raises(ValueError, match=r"made 32x32 pixels of 32x32, and says .* 2 times"):
        network(picture())
    assert network.calls == 0


def test_a_network_is_called_until_it_covers_the_picture(upscaler_folder: Path) -> None:
    ours = load_upscaler((upscaler_folder / SHIPPED).read_bytes())
    network = Network(b"", 2, lambda image: upscale(ours, image))
    large = fitted(picture(), (96, 80), network)
    twice = upscale(ours, upscale(ours, picture()))
    assert network.calls == 2
    expected = ImageOps.fit(twice, (96, 80), Image.Resampling.LANCZOS)
    assert np.array_equal(np.asarray(large), np.asarray(expected))
    exactly = fitted(picture(), (64, 64), network)
    assert network.calls == 3
    assert np.array_equal(np.asarray(exactly), np.asarray(upscale(ours, picture())))


def test_the_network_agrees_with_itself_in_float64(upscaler_folder: Path) -> None:
    ours = load_upscaler((upscaler_folder / SHIPPED).read_bytes())
    pixels = torch.from_numpy(np.array(picture())).permute(2, 0, 1)[None]
    with torch.no_grad():
        exact = copy.deepcopy(ours).double()(pixels.double() / 127.5 - 1)[0]
        near = ours(pixels.float() / 127.5 - 1)[0]
    assert ((near - exact).norm() / exact.norm()).item() <= 2e-6
    levels = ((exact + 1) * 127.5).clamp(0, 255).permute(1, 2, 0).numpy()
    assert np.abs(np.asarray(upscale(ours, picture()), np.float64) - levels).max() <= 0.5 + 1e-3


def of_name(name: str) -> Upscaler:
    return next(upscaler for upscaler in UPSCALERS if upscaler.name == name)


def enlarged(
    upscaler: Upscaler, pipeline: StableDiffusionPipeline, latents: torch.Tensor, folder: Path
) -> torch.Tensor:
    network = upscaler.network and upscaler.network(folder, CPU)
    with torch.no_grad():
        return upscaler.enlarge(pipeline, latents, (160, 160), network)


@pytest.mark.parametrize("upscaler", UPSCALERS, ids=lambda upscaler: upscaler.name)
def test_every_upscaler_agrees_with_its_float64_reference(
    shared_pipeline: StableDiffusionPipeline,
    upscaler_folder: Path,
    fake_spandrel: list[tuple[int, ...]],
    upscaler: Upscaler,
) -> None:
    """Through pixels there are 255 levels on the way: where a rounding falls on the other side,
    one of many is another one."""
    latents = torch.randn(2, 4, 16, 16, generator=torch.Generator().manual_seed(5))
    double = copy.deepcopy(shared_pipeline).to(torch.float64)
    near = enlarged(upscaler, shared_pipeline, latents, upscaler_folder)
    exact = enlarged(upscaler, double, latents.double(), upscaler_folder)
    assert near.shape == (2, 4, 20, 20)
    limit = 2e-6 if upscaler.name.startswith("latent") else 1e-3
    assert ((near - exact).norm() / exact.norm()).item() <= limit


def test_lanczos_is_what_it_says(shared_pipeline: StableDiffusionPipeline) -> None:
    """Decoding, Pillow's filter and encoding, written out."""
    latents = torch.randn(1, 4, 16, 16, generator=torch.Generator().manual_seed(5))
    vae, scale = shared_pipeline.vae, shared_pipeline.vae.config.scaling_factor
    with torch.no_grad():
        decoded = vae.decode(latents / scale).sample[0]
        levels = ((decoded / 2 + 0.5).clamp(0, 1) * 255).round().byte().permute(1, 2, 0)
        large = Image.fromarray(levels.numpy()).resize((160, 160), Image.Resampling.LANCZOS)
        pixels = torch.from_numpy(np.array(large)).permute(2, 0, 1)[None].float() / 255 * 2 - 1
        expected = vae.encode(pixels).latent_dist.mean * scale
    made = enlarged(of_name("lanczos"), shared_pipeline, latents, Path())
    torch.testing.assert_close(made, expected, rtol=0, atol=1e-5)


def verified(model: Model, made: Run, engine: DiffusersEngine) -> Verification:
    path = made.pictures[0].path or Path()
    receipt = load(read(path).texts.receipt)
    job = rerun_job(receipt, [model], HERE)
    plain = dataclasses.replace(job, conditions=dataclasses.replace(job.conditions, threads=None))
    again = engine.run(plain, Following())
    assert again.outcome == "ok", again.reason
    pixels = load_picture(again.pictures[0].path or Path())
    return verification(receipt, read(path), again, pixels, HERE)


def test_a_picture_verifies_bit_exact_and_other_weights_are_named(
    model: Model, engine: DiffusersEngine, tmp_path: Path
) -> None:
    made = run(engine, "shipped-2x:0.5", asked(model))
    found = verified(model, made, DiffusersEngine(HERE, tmp_path))
    assert found.verdict == "bit-exact", found.reasons
    assert not [d for d in found.differences if d.what.startswith("what two-pass")]
    file, before = model.path / SHIPPED, effect(made).weights_sha256
    kept = file.read_bytes()
    network = load_upscaler(kept)
    torch.nn.init.constant_(network.leave.bias, 0.1)
    file.write_bytes(save({name: part.half() for name, part in network.state_dict().items()}))
    try:
        found = verified(model, made, engine)
        after = sha256(file.read_bytes()).hexdigest()
    finally:
        file.write_bytes(kept)
    assert found.verdict != "bit-exact"
    assert found.first_differing_step == 3
    named = next(d for d in found.differences if d.what.startswith("what two-pass"))
    assert (named.then, named.here) == (f"weights {before[:12]}", f"weights {after[:12]}")


def test_receipts_from_before_there_were_networks_are_read(
    model: Model, engine: DiffusersEngine
) -> None:
    path = run(engine, "latent:0.5", asked(model)).pictures[0].path or Path()
    text = read(path).texts.receipt
    plain = json.loads(text)
    for slot in plain["effective"]["slots"]:
        del slot["weights_sha256"]
    assert load(json.dumps(plain)) == load(text)
