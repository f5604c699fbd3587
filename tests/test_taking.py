"""Settings from a picture on the pages: filled in, listed where they could not come, escaped."""

# ruff: noqa: F401, F811, the fixture is imported by name and asked for by name

import asyncio
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import gradio as gr
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from core.models import check
from core.optimizations import SLOTS
from core.picture_file import Texts, encoded
from core.request import Request
from core.takeover import Taken
from tests.fake_engine import PLATFORM
from tests.test_pages import EVIL, FORM, POCKET, SECRET, asked, made, services
from tests.test_verify_page import page, picture, put_in
from webapp import advanced_form
from webapp.generate_page import GeneratePage
from webapp.picture_form import sizes
from webapp.services import Services
from webapp.taking import taken, taken_card
from webapp.verify_page import VerifyPage
from webapp.words import beside

THEIRS = (
    f"{EVIL}\nNegative prompt: a dog\nSteps: 12, Sampler: Heun, Schedule type: Karras, "
    "CFG scale: 6, Seed: 7, Size: 160x128, Variation seed: 3, Variation seed strength: 0.25, "
    f"Clip skip: 2, RNG: CPU, NGMS: 0.7, Hires prompt: {EVIL}, Version: v1.10.1"
)


@pytest.fixture
def generate(services: Services) -> GeneratePage:
    return made(lambda: GeneratePage(services))


def written(folder: Path, infotext: str = "") -> Path:
    path = folder / "theirs.png"
    path.write_bytes(encoded(Image.new("RGB", (64, 64)), "PNG", Texts(infotext=infotext)))
    return path


def graph(folder: Path, words: str, **chunks: str) -> Path:
    """A picture of ComfyUI's, with what makes it."""
    sampler = {"seed": 7, "steps": 12, "cfg": 6, "sampler_name": "heun", "scheduler": "karras"}
    nodes = {
        "1": {"class_type": "EmptyLatentImage", "inputs": {"width": 160, "height": 128}},
        "2": {"class_type": "CLIPTextEncode", "inputs": {"text": words}},
        "3": {
            "class_type": "KSampler",
            "inputs": {**sampler, "latent_image": ["1", 0], "positive": ["2", 0]},
        },
        "4": {"class_type": "SaveImage", "inputs": {"images": ["3", 0]}},
        EVIL: {"class_type": EVIL, "inputs": {EVIL: EVIL}},
    }
    nodes["3"]["inputs"]["model"] = [EVIL, 0]
    texts, path = PngInfo(), folder / "graph.png"
    for key, text in {"prompt": json.dumps(nodes), **chunks}.items():
        texts.add_text(key, text)
    Image.new("RGB", (64, 64)).save(path, pnginfo=texts)
    return path


def took(generate: GeneratePage, path: Path) -> tuple[tuple[Any, ...], str]:
    *values, card = asyncio.run(generate._take(str(path)))
    assert len(values) == len(generate.form.inputs)
    return tuple(values), card


def test_the_form_is_filled_and_makes_that_picture(
    generate: GeneratePage, services: Services, tmp_path: Path
) -> None:
    values, card = took(generate, written(tmp_path, THEIRS))
    assert EVIL not in card
    assert "The settings of v1.10.1 are filled in." in card
    assert "not its pixels" in card
    assert card.count("<li>") == 1
    job = generate.form.job(*values)
    expected = Request(
        prompt=EVIL,
        negative_prompt="a dog",
        model=services.model,
        seed=7,
        width=160,
        height=128,
        num_inference_steps=12,
        guidance_scale=6.0,
        sampler="Heun",
        schedule="Karras",
        variation_seed=3,
        variation_strength=0.25,
        clip_skip=2,
        prompt_syntax="a1111",
    )
    assert job.requests == (expected,)
    assert job.configuration.get("min-sigma") == "alternate:0.7"
    assert asked(generate, *values)[-1][3]


def test_our_own_picture_comes_back_whole(
    generate: GeneratePage, services: Services, tmp_path: Path
) -> None:
    run, path = picture(services)
    values, card = took(generate, path)
    assert "not its pixels" not in card
    assert "picture 2 of 2" in card
    again = generate.form.job(*values)
    assert again.requests == run.job.requests[1:]
    assert again.configuration == run.job.configuration


@pytest.mark.parametrize(
    ("pairs", "sentence"),
    [
        ("Steps: 200, CFG scale: 6, Seed: 1, Size: 128x128", "this page offers up to 100"),
        ("Steps: 20, CFG scale: 0.5, Seed: 1, Size: 128x128", "this page offers 1 to 15"),
        ("Steps: 20, CFG scale: 6, Seed: 1, Size: 512x512", "offers 64 to 256 pixels"),
        (f"Steps: 20, CFG scale: 6, Seed: {2**40}, Size: 128x128", "offers seeds up to"),
    ],
)
def test_what_the_page_has_no_room_for_is_listed(
    generate: GeneratePage, tmp_path: Path, pairs: str, sentence: str
) -> None:
    values, card = took(generate, written(tmp_path, f"x\n{pairs}, Sampler: Euler, RNG: CPU"))
    assert card.count("<li>") == 1
    assert sentence in card
    generate.form.job(*values)


def test_a_setting_that_cannot_run_here_is_listed(
    services: Services, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    request = Request(prompt="x", model=POCKET)
    settings = {"attention": "xformers", "precision": "magic", "token-merging": "seeded:0.5"}
    found = Taken(request=request, settings=settings)
    monkeypatch.setattr("webapp.taking.take_over", lambda *_: found)
    kept = taken(written(tmp_path), POCKET, PLATFORM)
    assert kept.settings == {"token-merging": "seeded:0.5"}
    assert [(remark.key, remark.left) for remark in kept.remarks] == [
        ("attention", True),
        ("precision", True),
    ]
    assert "cannot run here: this is a fake CPU" in taken_card(kept)
    assert "has no option" in taken_card(kept)


def test_a_picture_without_settings_changes_nothing_and_says_so(
    generate: GeneratePage, tmp_path: Path
) -> None:
    for path in (written(tmp_path), written(tmp_path, "Steps: 2"), tmp_path / "none.png"):
        values, card = took(generate, path)
        assert 'role="alert"' in card
        assert all("update" in str(value) for value in values)


def test_the_advanced_fields_become_a_request_or_one_sentence(generate: GeneratePage) -> None:
    plain = generate.form.job(*FORM).requests[0]
    assert beside(plain) == ()
    assert advanced_form.filled(plain) == ("Automatic", "CPU", 0.0, "", "", 1)
    advanced = ("Automatic", "NV", 0.5, "", "5", 2)
    form = ["Euler a" if field == "Euler" else field for field in FORM]
    first, second = (generate.form.job(*form, *advanced).requests[0] for _ in range(2))
    assert first.variation_seed != second.variation_seed, "an empty one is new every time"
    assert replace(first, variation_seed=1) == replace(
        plain,
        sampler="Euler a",
        noise_source="NV",
        variation_strength=0.5,
        variation_seed=1,
        eta_noise_seed_delta=5,
        clip_skip=2,
    )
    assert advanced_form.filled(first) == (*advanced[:3], str(first.variation_seed), "5", 2)
    assert beside(replace(first, schedule="Karras", variation_seed=3)) == (
        "schedule Karras",
        "random numbers NV",
        "variation 3 at 0.5",
        "ENSD 5",
        "clip skip 2",
    )
    for place, value, sentence in (
        (3, "-1", "A variation seed is a whole number from 0"),
        (4, "x", "An eta noise seed delta is a whole number"),
        (0, "Magic", "Unknown schedule"),
    ):
        wrong = [*advanced]
        wrong[place] = value
        with pytest.raises(ValueError, match=sentence):
            generate.form.job(*form, *wrong)
    with pytest.raises(ValueError, match="does nothing while variation_strength is 0"):
        generate.form.job(*form, "Automatic", "CPU", 0, "5")


def test_sizes_that_are_offered_can_be_made() -> None:
    for side in sizes(POCKET):
        check(Request(prompt="", model=POCKET, width=side, height=side))


def test_another_programs_picture_tells_what_it_says_and_lacks(
    services: Services, page: VerifyPage, tmp_path: Path
) -> None:
    card, verdict, kept, go = put_in(page, written(tmp_path, THEIRS))
    assert (verdict, kept, go.interactive) == ("", "", False)
    assert EVIL not in card
    assert "What its metadata say" in card
    assert "no receipt of Seedproof" in card
    assert "schedule Karras · variation 3 at 0.25 · clip skip 2" in card
    assert "12 steps of Heun" in card
    assert "min-sigma alternate:0.7" in card
    assert "both passes have the same settings here" in card


def test_a_graph_fills_the_form_and_is_told_on_the_verify_page(
    generate: GeneratePage, services: Services, page: VerifyPage, tmp_path: Path
) -> None:
    values, card = took(generate, graph(tmp_path, EVIL))
    assert EVIL not in card
    assert "The settings of ComfyUI are filled in." in card
    assert "not its pixels" in card
    asked = generate.form.job(*values).requests[0]
    assert (asked.prompt, asked.sampler, asked.schedule, asked.seed) == (EVIL, "Heun", "Karras", 7)
    card, verdict, kept, go = put_in(page, graph(tmp_path, EVIL))
    assert (verdict, kept, go.interactive) == ("", "", False)
    assert EVIL not in card
    assert "12 steps of Heun" in card
    assert "has the settings of ComfyUI" in card
    assert "only its first picture begins from the seed&#x27;s own" in card
    assert "nodes of another program do not run here" in card


def test_a_damaged_graph_is_told_in_words_and_changes_nothing(
    generate: GeneratePage, page: VerifyPage, tmp_path: Path
) -> None:
    path = graph(tmp_path, "x", prompt="{")
    values, card = took(generate, path)
    assert "The metadata of ComfyUI are damaged: they are not JSON." in card
    assert all("update" in str(value) for value in values)
    card, _, kept, go = put_in(page, path)
    assert "no receipt of Seedproof" in card
    assert "The metadata of ComfyUI are damaged: they are not JSON." in card
    assert (kept, go.interactive) == ("", False)
