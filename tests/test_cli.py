"""The terminal: one JSON document on standard output, one line for bad input, honest exit codes."""

import hashlib
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from core.optimizations import OPTIMIZATIONS, SLOTS
from core.picture_file import Texts, encoded, read
from core.receipt import load
from core.request import Model, Request
from webapp.cli import main
from webapp.cli_request import named, pictures

Run = tuple[int, str, str]
SCREENSHOT = str(Path(__file__).parents[1] / ".github" / "screenshots" / "generate.png")


@pytest.fixture
def seedproof(capsys: pytest.CaptureFixture[str]) -> object:
    def call(*arguments: str) -> Run:
        with pytest.raises(SystemExit) as exit_:
            main(arguments)
        captured = capsys.readouterr()
        return int(exit_.value.code or 0), captured.out, captured.err

    return call


def test_doctor_lists_every_optimization_truthfully(seedproof) -> None:  # type: ignore[no-untyped-def]
    code, out, _ = seedproof("doctor", "--json")
    document = json.loads(out)
    assert code == 0
    assert document["platform"]["device"]
    assert document["platform"]["instruction_set"] in document["hardware"][0]
    assert any("of memory" in sentence for sentence in document["hardware"])
    rows = {(row["slot"], row["name"]): row for row in document["optimizations"]}
    assert list(rows) == [(o.slot, o.name) for o in OPTIMIZATIONS]
    assert rows["attention", "sdp"]["available"] is True
    for row in rows.values():
        assert bool(row["why_not"]) != row["available"]


def test_generate_makes_the_picture_it_reports(  # type: ignore[no-untyped-def]
    seedproof, tiny_model_path: Path, tmp_path: Path
) -> None:
    code, out, err = seedproof(
        "generate", "a cat", "--model", str(tiny_model_path), "--width", "64", "--height", "96",
        "--num-inference-steps", "2", "--seed", "5", "--batch-size", "2",
        "--attention", "none", "--token-merging", "0.5", "--min-sigma", "all:15",
        "--sampler", "heun", "--negative", "(grey) BREAK wet",
        "--out", str(tmp_path / "cat.png"), "--db", str(tmp_path / "db" / "s.db"), "--json",
    )  # fmt: skip
    document = json.loads(out)
    assert code == 0
    assert "step 2 of 2" in err
    assert [image["seed"] for image in document["images"]] == [5, 6]
    for image in document["images"]:
        with Image.open(image["path"]) as picture:
            assert picture.size == (64, 96)
            digest = hashlib.sha256(np.asarray(picture).tobytes()).hexdigest()
        assert digest == image["pixels_sha256"]
    assert document["requested"] == {
        "attention": "none",
        "min-sigma": "all:15",
        "precision": "fp32",
        "token-merging": "seeded:0.5",
    }
    effects = {slot: effect["effect"] for slot, effect in document["effective"].items()}
    assert effects["attention"] == effects["token-merging"] == effects["min-sigma"] == "applied"
    sizes = {"chunk_tokens": 75, "padded_to": 2, "cut": 0}
    assert document["prompts"] == {
        "prompt": {"tokens": 4, "chunks": 1, **sizes},
        "negative_prompt": {"tokens": 7, "chunks": 2, **sizes},
    }
    assert document["unet_calls"] == 3, "two a step with Heun, but for the last"
    assert document["peak_memory_bytes"] > 1e6
    assert document["seconds"]["denoise"] > 0


def test_generate_takes_a_pictures_settings_over(  # type: ignore[no-untyped-def]
    seedproof, tiny_model_path: Path, tmp_path: Path
) -> None:
    """First from A1111's text, with a word about what it had more; then from our own receipt."""
    text = (
        "a cat\nNegative prompt: a dog\nSteps: 2, Sampler: Euler a, Schedule type: Karras, "
        "CFG scale: 5, Seed: 7, Size: 64x96, Variation seed: 3, Variation seed strength: 0.5, "
        "Clip skip: 2, ENSD: 31337, Token merging ratio: 0.5, RNG: NV, Hires upscale: 2, "
        "Hires upscaler: ESRGAN, Version: v1.10.1"
    )
    theirs, ours = tmp_path / "theirs.png", tmp_path / "ours.png"
    theirs.write_bytes(encoded(Image.new("RGB", (8, 8)), "PNG", Texts(infotext=text)))
    own = ["--model", str(tiny_model_path), "--db", str(tmp_path / "s.db"), "--json"]
    code, out, err = seedproof("generate", "--from", str(theirs), "--out", str(ours), *own)
    document = json.loads(out)
    assert code == 0, err
    assert "theirs.png: the settings of v1.10.1 are taken over" in err
    assert "left: Hires fix upscaler ESRGAN, upscale 2 (there are Latent, " in err
    assert {remark["key"]: remark["left"] for remark in document["taken"]["remarks"]} == {
        "Hires fix": True,
    }
    asked = load(read(ours).texts.receipt).request
    assert (asked.prompt, asked.negative_prompt, asked.schedule) == ("a cat", "a dog", "Karras")
    assert (asked.variation_seed, asked.clip_skip, asked.noise_source) == (3, 2, "NV")
    effects = {slot: effect["effect"] for slot, effect in document["effective"].items()}
    assert set(effects.values()) == {"applied"}
    assert {"clip-skip", "schedule", "noise-source", "variation", "token-merging"} < set(effects)
    code, out, err = seedproof("generate", "--from", str(ours), "--seed", "8", *own)
    again = json.loads(out)
    assert again["images"][0]["seed"] == 8
    assert again["images"][0]["pixels_sha256"] != document["images"][0]["pixels_sha256"]
    code, out, err = seedproof("generate", "--from", str(ours), *own)
    assert json.loads(out)["images"][0]["pixels_sha256"] == (document["images"][0]["pixels_sha256"])
    assert json.loads(out)["taken"]["remarks"] == []


def test_pictures_of_a_variation_share_their_seed() -> None:
    model = Model(name="m", path=Path(), digest="0")
    first = Request(prompt="x", model=model, seed=5)
    assert [(r.seed, named(r)) for r in pictures(first, 2)] == [(5, "5"), (6, "6")]
    varied = pictures(replace(first, variation_seed=9, variation_strength=0.5), 2)
    assert [(r.seed, r.variation_seed) for r in varied] == [(5, 9), (5, 10)]
    assert [named(r) for r in varied] == ["5-9", "5-10"]


def test_a_memory_limit_is_planned_for_from_a_first_step(  # type: ignore[no-untyped-def]
    seedproof, tiny_model_path: Path, tmp_path: Path
) -> None:
    code, out, err = seedproof(
        "generate", "a cat", "--model", str(tiny_model_path), "--width", "96", "--height", "64",
        "--num-inference-steps", "1", "--batch-size", "2", "--memory-limit", "1MB",
        "--db", str(tmp_path / "s.db"), "--json",
    )  # fmt: skip
    document = json.loads(out)
    assert code == 0
    assert "were not measured here yet: one step at 128x128 px first" in err
    assert "over a limit of 1 MB: no step is known to lower it" in err
    assert "was over the limit of 1 MB" in err
    plan = document["memory_plan"]
    assert plan["limit_bytes"] == 10**6
    assert plan["predicted_peak_bytes"] > 10**7
    assert plan["fits"] is False
    assert bool(plan["changes"]) == (document["notes"][:1] == [plan["sentence"]])
    assert [image["seed"] for image in document["images"]] == [0, 1]
    parts = {part["name"]: part["calls"] for part in document["usage"]["parts"]}
    halves = 2 if document["used"].get("guidance-batch") == "separate" else 1
    assert parts == {"text-encoder": 1, "unet": halves, "guidance": 1, "vae": 1}
    assert document["bottlenecks"][0]["of"] == "time"


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["generate", "x", "--attention", "fastest"], "attention has no option 'fastest'"),
        (["generate", "x", "--token-merging", "2"], "token-merging"),
        (["generate", "x", "--width", "100"], "width must be a multiple of"),
        (["generate", "x", "--model", "nowhere"], "No model at 'nowhere'"),
        (["generate", "x", "--out", "a.gif"], "--out takes a .png, .jpg or .webp"),
        (["generate", "x", "--sampler", "Magic"], "Unknown sampler 'Magic'"),
        (["generate", "x", "--prompt-syntax", "y"], "Unknown prompt syntax 'y': choose a1111 or"),
        (["generate", "<lora:x:1>"], "Seedproof loads no networks that a prompt names"),
        (["generate", "x", "--num-inference-steps", "501"], "at most 500"),
        (["generate", "x", "--schedule", "Magic"], "Unknown schedule 'Magic': choose one of"),
        (["generate", "x", "--schedule", "karras", "--sampler", "ddim"], "takes no Karras"),
        (["generate", "x", "--noise-source", "dice"], "choose one of CPU, device, NV"),
        (["generate", "x", "--variation-seed", "3"], "while variation_strength is 0"),
        (["generate", "x", "--eta-noise-seed-delta", "1"], "and Euler adds none"),
        (["generate", "x", "--clip-skip", "9"], "to 4 for this model, not 9"),
        (["generate", "--from", "nothing.png"], "nothing.png cannot be read"),
        (["generate", "--from", SCREENSHOT], "carries no settings: neither a receipt of"),
        (["generate", "x", "--memory-limit", "lots"], "a size such as 0.9GB or 900MB, not 'lots'"),
        (["generate"], "Missing argument"),
        (["generate", "x", "--seed", "many"], "valid integer"),
        (["audit", "--plan", "thorough"], "thorough"),
        (["audit", "--resume", "0000"], "0000"),
        (["audit", "--resume", "0000", "--seeds", "9"], "keeps its prompts and seeds"),
        (["audit", "--plan", "mine.toml"], "There is no plan file 'mine.toml'"),
        (["audit", "--seeds", "0"], "--seeds takes a number from 1, or a file"),
        (["audit", "--seeds", "mine.txt"], "mine.txt: not a readable text file"),
        (["audit", "--seeds", "-3"], "-3: seeds come as a .txt, .csv or .toml file"),
        (["audit", "--prompts", "mine.json"], "mine.json: prompts come as a .txt, .csv or"),
        (["recommend", "--goal", "best"], "Unknown goal 'best'"),
        (["recommend"], "No audit is complete yet"),
        (["frobnicate"], "frobnicate"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(  # type: ignore[no-untyped-def]
    seedproof, tmp_path: Path, arguments: list[str], sentence: str
) -> None:
    if arguments[0] in {"generate", "audit", "recommend"}:
        arguments = [*arguments, "--db", str(tmp_path / "s.db")]
    code, out, err = seedproof(*arguments)
    assert code == 2
    assert out == ""
    assert sentence in err
    assert err.startswith("seedproof: ")
    assert err.count("\n") == 1


def test_every_slot_is_an_option_with_its_choices_in_the_help(seedproof) -> None:  # type: ignore[no-untyped-def]
    _, out, _ = seedproof("generate", "--help")
    flat = " ".join(out.split()).replace("- ", "-")
    for slot in SLOTS:
        assert f"--{slot.name}" in flat
        for option in slot.options:
            assert option.name in flat
