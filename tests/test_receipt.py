"""What is written into pictures: read back from every format, by us and by others' readers."""

import dataclasses
import io
import json
import tomllib
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from sd_parsers import ParserManager

from core import __version__, serialization
from core.infotext import infotext
from core.optimization import Configuration
from core.picture_file import FORMATS, Texts, copy, encoded, opened, read, save
from core.receipt import MOST_CHARACTERS, Receipt, dump, load, receipt_of
from core.request import Conditions, Job, Model, Request
from core.run import Effective, Environment, Picture, SlotEffect
from tests.fake_engine import PLATFORM
from webapp.places import REPOSITORY

MODEL = Model(name="/home/somebody/models/sd 15", path=Path("/home/somebody"), digest="ab" * 32)
PROMPTS = (
    "a red apple",
    'two "quoted", comma: colon\nand a second line\r\n\ttab',
    "苹果, りんご 🍎 café",
    "&amp; <b>bold</b> </seedproof:receipt> ]]>",
    "",
)
LATER = (
    "schedule",
    "noise_source",
    "variation_seed",
    "variation_strength",
    "eta_noise_seed_delta",
    "clip_skip",
)
"""Fields that receipts did not have from the beginning."""
every_format = pytest.mark.parametrize("suffix", FORMATS)


def receipt(**changes: Any) -> Receipt:
    asked = dataclasses.replace(Request(prompt="a cat", model=MODEL, seed=2**63), **changes)
    job = Job(
        id="job",
        requests=(Request(prompt="a neighbour", model=MODEL), asked),
        configuration=Configuration((("attention", "none"), ("token-merging", "seeded:0.5"))),
        conditions=Conditions(threads=2),
    )
    picture = Picture(
        request=asked,
        noise_sha256="1" * 64,
        latents_sha256="2" * 64,
        pixels_sha256="3" * 64,
        step_sha256s=("4" * 64,) * asked.num_inference_steps,
    )
    environment = Environment(
        fingerprint="f" * 16,
        device="cpu",
        threads=2,
        instruction_set="AVX2",
        process="exec",
        process_id="boot-4711-123.45",
        calls_before=3,
        versions={"torch": "2.13.0"},
        started_at="2026-01-02T03:04:05.678+00:00",
    )
    effect = SlotEffect(slot="attention", requested="none", effect="applied", counts={"calls": 0.1})
    return receipt_of(job, 1, picture, Effective(slots=(effect,)), environment, PLATFORM)


def texts(made: Receipt) -> Texts:
    return Texts(
        infotext=infotext(made.request, made.configuration, made.effective), receipt=dump(made)
    )


def scene(width: int = 64, height: int = 48) -> Image.Image:
    return Image.fromarray(
        np.random.default_rng(1).integers(0, 256, (height, width, 3), dtype=np.uint8)
    )


@every_format
@pytest.mark.parametrize("prompt", PROMPTS)
def test_both_texts_come_back_from_every_format(suffix: str, prompt: str, tmp_path: Path) -> None:
    made = receipt(prompt=prompt, negative_prompt=prompt)
    original = save(scene(), tmp_path, texts(made))
    target = tmp_path / f"copy{suffix}"
    copy(original, target)
    found = read(target)
    assert load(found.texts.receipt) == made
    assert found.texts == texts(made)
    exact = np.array_equal(found.pixels, np.asarray(scene()))
    assert exact == found.lossless == (found.format != "JPEG")


@settings(max_examples=60, deadline=None)
@given(st.text(max_size=300), st.text(max_size=300), st.sampled_from(sorted(set(FORMATS.values()))))
def test_any_prompt_survives(prompt: str, negative: str, format: Any) -> None:
    made = receipt(prompt=prompt, negative_prompt=negative)
    data = encoded(scene(8, 8), format, texts(made))
    found = opened(data, "a picture").texts
    assert load(found.receipt) == made
    assert found == texts(made)


def test_nothing_in_it_names_a_place_a_person_or_a_moment() -> None:
    written = dump(receipt())
    for word in ("/home", "somebody", "4711", "2026-01-02"):
        assert word not in written
    assert json.loads(written)["model"] == {"name": "sd 15", "digest": "ab" * 32}


@every_format
def test_other_programs_read_every_key(suffix: str, tmp_path: Path) -> None:
    asked = Request(
        prompt='a red apple, (shiny:1.2),\nsecond line, "quoted", 苹果',
        negative_prompt="blurry, 模糊",
        prompt_syntax="a1111",
        model=MODEL,
        seed=7,
        num_inference_steps=12,
        guidance_scale=5.5,
        sampler="DPM++ 2M Karras",
        width=64,
        height=48,
    )
    configuration = Configuration((("min-sigma", "all:0.7"), ("token-merging", "seeded:0.5")))
    fired = SlotEffect(slot="min-sigma", requested="all:0.7", effect="applied")
    written = infotext(asked, configuration, Effective(slots=(fired,)))
    path = save(scene(), tmp_path, Texts(infotext=written))
    target = tmp_path / f"copy{suffix}"
    copy(path, target)
    found = ParserManager().parse(target)
    assert found is not None
    (sampler,) = found.samplers
    assert sampler.name == "DPM++ 2M"
    assert sampler.parameters == {
        "cfg_scale": "5.5",
        "scheduler": "Karras",
        "seed": "7",
        "steps": "12",
    }
    assert sampler.model is not None
    assert (sampler.model.name, sampler.model.hash) == ("sd 15", "ab" * 5)
    assert [prompt.value for prompt in sampler.prompts] == [asked.prompt]
    assert [prompt.value for prompt in sampler.negative_prompts] == [asked.negative_prompt]
    assert found.metadata == {
        "Size": "64x48",
        "Token merging ratio": "0.5",
        "RNG": "CPU",
        "NGMS": "0.7",
        "NGMS all steps": "True",
        "Version": f"Seedproof {__version__}",
    }


def test_only_guidance_that_was_really_skipped_is_written() -> None:
    configuration = Configuration((("min-sigma", "alternate:0.7"),))
    idle = SlotEffect(slot="min-sigma", requested="alternate:0.7", effect="none", reason="no step")
    asked = Request(prompt="x", model=MODEL)
    assert "NGMS" not in infotext(asked, configuration, Effective(slots=(idle,)))
    fired = dataclasses.replace(idle, effect="applied")
    written = infotext(asked, configuration, Effective(slots=(fired,)))
    assert "NGMS: 0.7" in written
    assert "all steps" not in written


def test_the_version_is_the_projects_own() -> None:
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())
    assert project["project"]["version"] == __version__


def test_a_receipt_without_the_later_fields_is_one_that_left_them_alone(tmp_path: Path) -> None:
    """What was written before they were there still loads, from pictures and from databases."""
    made = receipt()
    plain = json.loads(dump(made))
    stored = json.loads(serialization.dump(made.request, tmp_path))
    for written in (*plain["requests"], stored):
        for name in LATER:
            del written[name]
    assert load(json.dumps(plain)) == made
    assert serialization.load(Request, json.dumps(stored), tmp_path) == made.request


def test_every_field_of_a_request_comes_back() -> None:
    made = receipt(
        schedule="SGM Uniform",
        noise_source="NV",
        variation_seed=2**64 - 1,
        variation_strength=0.25,
        eta_noise_seed_delta=31337,
        clip_skip=2,
    )
    assert load(dump(made)) == made
    assert set(LATER) <= set(vars(made.request))


def changed(**changes: Any) -> str:
    return json.dumps({**json.loads(dump(receipt())), **changes})


def with_request(**changes: Any) -> str:
    plain = json.loads(dump(receipt()))
    plain["requests"][0].update(changes)
    return json.dumps(plain)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("x" * (MOST_CHARACTERS + 1), "the most that is read"),
        ("{", "not JSON"),
        ("[" * 100_000, "not JSON"),
        (with_request(guidance_scale=float("inf")), "not JSON"),
        (with_request(guidance_scale="!").replace('"!"', "1e999"), "not a finite number"),
        ("[]", "schema is 'None'"),
        ("{}", "schema is 'None'"),
        (changed(schema=2), "schema is '2'"),
        (changed(requests=3), "damaged"),
        (changed(model=None), "damaged"),
        (changed(model={}), "damaged"),
        (changed(configuration=[]), "damaged"),
        (changed(configuration={"attention": {"x": 1}}), "damaged"),
        (changed(pixels_sha256=None), "damaged"),
        (changed(position=2), "not in its batch"),
        (changed(position=-1), "not in its batch"),
        (changed(requests=[]), "0 pictures in one batch"),
        (with_request(width=10**9), "width is not from 1 to"),
        (with_request(num_inference_steps=10**6), "num_inference_steps is not from 1"),
        (with_request(seed=-1), "seed is not from 0"),
        (with_request(seed=2**64), "seed is not from 0"),
        (with_request(guidance_scale="much"), "damaged"),
        (with_request(noise_source="dice"), "damaged"),
        (with_request(variation_seed=2**64), "variation_seed is not from 0"),
        (with_request(variation_strength="!").replace('"!"', "1e999"), "not a finite number"),
        (with_request(eta_noise_seed_delta=-1), "eta_noise_seed_delta is not from 0"),
        (with_request(clip_skip=0), "clip_skip is not from 1 to"),
        (with_request(hires=2), "'hires', which this version"),
        (changed(requests=json.loads(dump(receipt()))["requests"] * 40), "80 pictures"),
        (changed(conditions={"gravity": 2}), "'gravity', which this version"),
    ],
)
def test_what_is_not_a_receipt_of_ours_is_refused_in_one_sentence(text: str, sentence: str) -> None:
    with pytest.raises(ValueError, match=r"^[^\n]{1,200}\.$") as refused:
        load(text)
    assert sentence in str(refused.value)


def test_a_large_batch_of_large_pictures_is_refused() -> None:
    plain = json.loads(dump(receipt()))
    for request in plain["requests"]:
        request.update(width=4096, height=4096)
    plain["requests"] *= 2
    with pytest.raises(ValueError, match="67,108,864 pixels"):
        load(json.dumps(plain))


def test_a_receipt_too_long_for_a_jpeg_says_what_to_do(tmp_path: Path) -> None:
    path = save(scene(), tmp_path, texts(receipt(prompt="long " * 20_000)))
    with pytest.raises(ValueError, match=r"too long for a JPEG file .*: save a PNG"):
        copy(path, tmp_path / "long.jpg")
    copy(path, tmp_path / "long.webp")
    assert read(tmp_path / "long.webp").texts == read(path).texts


# Files that are not what they say


def bomb() -> bytes:
    """A PNG that says it is 60,000 pixels square and holds nothing."""
    data = bytearray(encoded(scene(), "PNG", Texts()))
    data[16:24] = (60_000).to_bytes(4, "big") * 2
    data[29:33] = zlib.crc32(bytes(data[12:29])).to_bytes(4, "big")
    return bytes(data)


def large() -> bytes:
    buffer = io.BytesIO()
    Image.new("L", (5000, 4000)).save(buffer, "PNG")
    return buffer.getvalue()


def text_bomb() -> bytes:
    """A hundred megabytes of one letter, compressed in a text chunk."""
    chunks, buffer = PngInfo(), io.BytesIO()
    chunks.add_text("seedproof", "x" * 10**8, zip=True)
    scene().save(buffer, "PNG", pnginfo=chunks)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        (b"", "not a whole PNG"),
        (b"GIF89a", "not a whole PNG"),
        (encoded(scene(), "PNG", Texts())[:900], "not a whole PNG"),
        (encoded(scene(), "JPEG", Texts())[:900], "not a whole PNG"),
        (encoded(scene(), "WEBP", Texts())[:900], "not a whole PNG"),
        (bomb(), "too large"),
        (large(), "5000 × 4000 pixels"),
        (text_bomb(), "not a whole PNG"),
    ],
)
def test_a_damaged_or_hostile_file_is_refused_in_one_sentence(
    data: bytes, sentence: str, tmp_path: Path
) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(data)
    with pytest.raises(ValueError, match=r"^a\.png [^\n]+\.$") as refused:
        read(path)
    assert sentence in str(refused.value)


def test_a_file_that_is_not_there_says_so(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="nothing cannot be read: No such file"):
        read(tmp_path / "nothing")


def test_a_file_without_an_end_is_refused() -> None:
    with pytest.raises(ValueError, match="zero has more than the 64,000,000 bytes"):
        read(Path("/dev/zero"))


def test_a_lossy_webp_is_known_as_one(tmp_path: Path) -> None:
    scene().save(tmp_path / "lossy.webp", quality=90)
    found = read(tmp_path / "lossy.webp")
    assert not found.lossless
    assert found.texts == Texts()
