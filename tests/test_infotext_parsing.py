"""A1111's text taken apart: many lines, quotation marks, and what is no such text."""

import contextlib
import json

import pytest

from core.infotext_parsing import MOST_CHARACTERS, parse

PLAIN = "Steps: 20, Sampler: Euler a, CFG scale: 7, Seed: 965400086, Size: 512x512"


@pytest.mark.parametrize(
    ("text", "prompt", "negative"),
    [
        (f"a cat\n{PLAIN}", "a cat", ""),
        (f"a cat\nNegative prompt: a dog\n{PLAIN}", "a cat", "a dog"),
        (
            f"a cat,\n a dog \n\nlast\nNegative prompt: b\n[c]\n{PLAIN}",
            "a cat,\na dog\n\nlast",
            "b\n[c]",
        ),
        (f"Negative prompt: a dog\n{PLAIN}", "", "a dog"),
        (PLAIN, "", ""),
        (f"Steps: of stone, a: b, (c:1.2)\n{PLAIN}", "Steps: of stone, a: b, (c:1.2)", ""),
        (f"a cat: Negative prompt: no\r\n{PLAIN}\n", "a cat: Negative prompt: no", ""),
    ],
)
def test_prompts_are_the_lines_before_the_last(text: str, prompt: str, negative: str) -> None:
    found = parse(text)
    assert (found.prompt, found.negative_prompt) == (prompt, negative)
    assert found.pairs == {
        "Steps": "20",
        "Sampler": "Euler a",
        "CFG scale": "7",
        "Seed": "965400086",
        "Size": "512x512",
    }


@pytest.mark.parametrize(
    ("written", "pairs"),
    [
        ('Template: "a, b: \\"c\\"\\nd", NGMS: 0.7', {"Template": 'a, b: "c"\nd', "NGMS": "0.7"}),
        ('Lora hashes: "one: ab, two: cd", RNG: NV', {"Lora hashes": "one: ab, two: cd"}),
        ('Model: say "x", RNG: NV', {"Model": 'say "x"', "RNG": "NV"}),
        ('Odd: "not closed, RNG: NV', {"Odd": '"not closed', "RNG": "NV"}),
        ("VAE: , Model hash: ", {"VAE": "", "Model hash": ""}),
        ("Size:512x512,RNG:CPU", {"Size": "512x512", "RNG": "CPU"}),
        (
            'Hashes: {"vae": "63a", "lora:x": "d6"}, Version: v1.6.0',
            {"Hashes": '{"vae": "63a", "lora:x": "d6"}', "Version": "v1.6.0"},
        ),
        ("ControlNet 0: x, Masked area padding: 4", {"ControlNet 0": "x"}),
    ],
)
def test_values_are_taken_as_they_are_written(written: str, pairs: dict[str, str]) -> None:
    found = parse(f"{PLAIN}, {written}").pairs
    assert {key: found[key] for key in pairs} == pairs


@pytest.mark.parametrize("text", ["", "a cat", "a cat\nSteps: 20, Seed: 1", "{}", "\n\n:,:,:,"])
def test_what_does_not_end_in_settings_is_refused_in_one_sentence(text: str) -> None:
    with pytest.raises(ValueError, match=r"^The picture's text does not end in settings .*\.$"):
        parse(text)


@pytest.mark.parametrize(
    "piece", ['aa:"', "aa: \\", "a ", 'k: "\\', "é/-", "{", "Hashes: {", "\n", "Negative prompt:"]
)
def test_a_text_that_somebody_made_to_take_long_does_not(piece: str) -> None:
    """Each takes milliseconds; an expression that went back and forth would run into the limit."""
    text = (piece * MOST_CHARACTERS)[: MOST_CHARACTERS - len(PLAIN) - 2] + ", " + PLAIN
    with contextlib.suppress(ValueError):
        assert parse(text).pairs
    with pytest.raises(ValueError, match="the most that is read is 65,536"):
        parse(text + "x" * len(PLAIN))


def test_quoted_values_come_back_whatever_they_are() -> None:
    for value in ('"', "\\", '\\"', "a,b:c\nd", "苹果", '","Seed: 5'):
        written = json.dumps(value, ensure_ascii=False)
        assert parse(f"{PLAIN}, Extra: {written}, RNG: NV").pairs["Extra"] == value
