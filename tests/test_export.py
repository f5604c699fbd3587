"""Settings for other programs: the script for diffusers is run, and nowhere is one dropped."""

import hashlib
import json
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from core.diffusion import DiffusersEngine
from core.models import resolve
from core.optimizations import OPTIMIZATIONS, SLOTS, configure
from core.platforms import detect
from core.request import Following, Job, Request
from webapp.cli import application
from webapp.export import told
from webapp.export_card import NAMES, elsewhere, exports
from webapp.export_diffusers import LOST, script
from webapp.export_programs import PROGRAMS

PLATFORM = detect("cpu")
SAME = (
    {},
    {"attention": "none"},
    {"attention": "sdp-no-mem"},
    {"precision": "bf16"},
    {"min-sigma": "alternate:5"},
    {"min-sigma": "all:5", "attention": "none"},
    {"token-merging": "fixed:0.5"},
    {"vae-slicing": "on", "vae-tiling": "tiles:32"},
    {"vae-tiling": "auto", "deterministic-algorithms": "strict"},
    {"memory-format": "channels-last", "threads": "pinned:1"},
)


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> DiffusersEngine:
    return DiffusersEngine(PLATFORM, tmp_path_factory.mktemp("pictures"))


@pytest.fixture
def batch(tiny_model_path: Path) -> tuple[Request, ...]:
    model = resolve(str(tiny_model_path), Path("unused"))
    return tuple(
        Request(
            prompt=f"a {what}",
            negative_prompt='it\'s a "dog"',
            model=model,
            seed=7 + i,
            width=64,
            height=96,
            num_inference_steps=4,
            guidance_scale=5.0,
        )
        for i, what in enumerate(("cat", "hat"))
    )


def made_by(text: str, model: Path, folder: Path) -> list[str]:
    """Pixel digests of what the script saves, run as it stands but for the model's folder."""
    lines = [
        f"model = {str(model)!r}" if line.startswith("model = ") else line
        for line in text.splitlines()
    ]
    threads, here = torch.get_num_threads(), Path.cwd()
    os.chdir(folder)
    try:
        exec(compile("\n".join(lines), "script.py", "exec"), {"__name__": "__main__"})
    finally:
        os.chdir(here)
        torch.set_num_threads(threads)
        torch.use_deterministic_algorithms(False)
    files = sorted(folder.glob("picture-*.png"))
    return [hashlib.sha256(np.asarray(Image.open(file)).tobytes()).hexdigest() for file in files]


def check(
    engine: DiffusersEngine, batch: tuple[Request, ...], settings: dict[str, str], folder: Path
) -> None:
    configuration = configure(settings, PLATFORM)
    export = script(batch, configuration, "cpu")
    assert not export.lost
    assert export.same_pixels
    ours = engine.run(Job(id="job", requests=batch, configuration=configuration), Following())
    assert ours.outcome == "ok", ours.reason
    if batch[0].guidance_scale > 1:
        acted = {one.slot: one.effect for one in ours.effective.slots}
        assert acted.get("min-sigma", "applied") == "applied"
    theirs = made_by(export.parts[0].text, batch[0].model.path, folder)
    assert theirs == [picture.pixels_sha256 for picture in ours.pictures]


@pytest.mark.parametrize("settings", SAME, ids=str)
def test_the_script_gives_our_pixels(
    engine: DiffusersEngine,
    batch: tuple[Request, ...],
    settings: dict[str, str],
    tmp_path: Path,
) -> None:
    check(engine, batch, settings, tmp_path)


@pytest.mark.parametrize("sampler", ["Euler a", "DPM++ 2M Karras", "DDIM", "Heun"])
def test_the_script_gives_our_pixels_with_every_kind_of_sampler(
    engine: DiffusersEngine, batch: tuple[Request, ...], sampler: str, tmp_path: Path
) -> None:
    asked = tuple(replace(request, sampler=sampler) for request in batch)
    check(engine, asked, {"min-sigma": "all:2"}, tmp_path)


def test_pixels_are_not_promised_where_they_cannot_be_kept(batch: tuple[Request, ...]) -> None:
    for settings, why in (
        ({"token-merging": "as-shipped:0.5"}, "no two runs need agree"),
        ({"min-sigma": "all:15"}, "the guidance of the first"),
    ):
        export = script(batch, configure(settings, PLATFORM), "cpu")
        assert not export.lost
        assert not export.same_pixels
        assert why in export.remarks[0]
    assert not script(batch, configure({"compile": "default"}, PLATFORM), "cpu").same_pixels
    nowhere = replace(batch[0], model=replace(batch[0].model, path=Path("nowhere")))
    assert not script((nowhere,), configure({"min-sigma": "all:1"}, PLATFORM), "cpu").same_pixels


def test_without_guidance_there_is_none_to_skip(
    engine: DiffusersEngine, batch: tuple[Request, ...], tmp_path: Path
) -> None:
    asked = (replace(batch[0], guidance_scale=1.0),)
    export = script(asked, configure({"min-sigma": "all:5"}, PLATFORM), "cpu")
    assert "skip_guidance" not in export.parts[0].text
    check(engine, asked, {"min-sigma": "all:5"}, tmp_path)


def test_every_setting_is_carried_or_named_as_lost(batch: tuple[Request, ...]) -> None:
    for option in OPTIMIZATIONS:
        parameter = option.parameter
        number = "" if parameter is None else f":{parameter.default:g}"
        configuration = configure({option.slot: f"{option.name}{number}"}, PLATFORM)
        for export in exports(batch, configuration, "cpu"):
            told_of = [what for what, _ in (*export.carried, *export.lost)]
            assert sorted(told_of) == sorted(f"{slot}={text}" for slot, text in configuration)
            assert all(why for _, why in (*export.carried, *export.lost)), export.program


def test_programs_know_only_settings_that_there_are() -> None:
    known = {(option.slot, option.name) for option in OPTIMIZATIONS}
    for program in PROGRAMS:
        assert set(program.sayings) <= known
        assert set(program.never) <= {slot.name for slot in SLOTS}
    assert set(LOST) <= {slot.name for slot in SLOTS}


def test_texts_are_what_their_programs_read() -> None:
    settings = {
        "attention": "doggettx",
        "token-merging": "seeded:0.3",
        "min-sigma": "all:0.5",
        "precision": "fp32",
        "vae-tiling": "auto",
        "threads": "pinned:3",
    }
    exported = {p.name: told(p, configure(settings, PLATFORM)) for p in PROGRAMS}
    flags, config = exported["AUTOMATIC1111"].parts
    assert flags.text == "--opt-split-attention --precision full --no-half"
    assert json.loads(config.text) == {
        "cross_attention_optimization": "Automatic",
        "randn_source": "CPU",
        "token_merging_ratio": 0.3,
        "s_min_uncond": 0.5,
        "s_min_uncond_all": True,
    }
    assert [what for what, _ in exported["AUTOMATIC1111"].lost] == ["vae-tiling=auto"]
    assert any("OMP_NUM_THREADS=3" in remark for remark in exported["AUTOMATIC1111"].remarks)
    flags, nodes = exported["ComfyUI"].parts
    assert flags.text == "--use-split-cross-attention --disable-xformers --force-fp32"
    assert "ratio 0.3" in nodes.text
    assert exported["InvokeAI"].parts[0].text == "precision: float32\nforce_tiled_decode: true"
    assert json.loads(exported["SD.Next"].parts[0].text)["tome_ratio"] == 0.3


def test_the_card_escapes_prompts_and_names_no_folder_of_this_machine(
    batch: tuple[Request, ...],
) -> None:
    asked = (replace(batch[0], prompt="</pre><script>alert(1)</script>"),)
    shown = elsewhere(asked, configure({"attention": "invokeai"}, PLATFORM), "cpu")
    assert "<script>" not in shown
    assert str(batch[0].model.path.parent) not in shown
    assert "1 not carried" in shown


def test_the_terminal_exports_a_picture_and_settings(
    engine: DiffusersEngine, batch: tuple[Request, ...]
) -> None:
    run = engine.run(
        Job(id="job", requests=batch[:1], configuration=configure({}, PLATFORM)), Following()
    )
    runner, app = CliRunner(), application()
    made = runner.invoke(app, ["export", str(run.pictures[0].path)])
    assert made.exit_code == 0
    assert "from_pretrained" in made.stdout
    compile(made.stdout, "script.py", "exec")
    told_so = runner.invoke(app, ["export", "attention=sdp", "--to", "invokeai", "--json"])
    assert json.loads(told_so.stdout)["program"] == "InvokeAI"
    for wrong in (["export", "nonsense"], ["export", "attention=sdp", "--to", "Photoshop"]):
        refused = runner.invoke(app, wrong)
        assert refused.exit_code != 0
    assert "diffusers" in NAMES
