"""A1111's settings taken over: what they mean here, and what could not come along."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.infotext import infotext
from core.infotext_reading import from_infotext
from core.models import check
from core.optimization import Configuration
from core.optimizations import configure
from core.request import Model, Request
from core.run import Effective, SlotEffect
from core.samplers import SAMPLERS
from core.schedules import SCHEDULES
from core.takeover import Taken
from tests.fake_engine import PLATFORM

POCKET = Model(
    name="pocket", path=Path(__file__).parents[1] / "data" / "pocket", digest="0123456789" * 6
)
PROMPTS = "a cat, (shiny:1.2)\nsecond line\nNegative prompt: a dog"


def read(pairs: str, prompts: str = PROMPTS) -> Taken:
    return from_infotext(f"{prompts}\n{pairs}", POCKET)


def remarks(taken: Taken) -> dict[str, str]:
    return {remark.key: remark.sentence for remark in taken.remarks}


def test_everything_that_has_an_equal_here_comes_along() -> None:
    taken = read(
        "Steps: 28, Sampler: Euler a, Schedule type: SGM Uniform, CFG scale: 6.5, Seed: 77, "
        "Size: 128x160, Variation seed: 5, Variation seed strength: 0.25, Clip skip: 2, "
        "ENSD: 31337, Token merging ratio: 0.5, RNG: NV, NGMS: 0.7, NGMS all steps: True, "
        "Version: v1.10.1"
    )
    assert taken.request == Request(
        prompt="a cat, (shiny:1.2)\nsecond line",
        negative_prompt="a dog",
        model=POCKET,
        seed=77,
        width=128,
        height=160,
        num_inference_steps=28,
        guidance_scale=6.5,
        sampler="Euler a",
        schedule="SGM Uniform",
        noise_source="NV",
        variation_seed=5,
        variation_strength=0.25,
        eta_noise_seed_delta=31337,
        clip_skip=2,
        prompt_syntax="a1111",
    )
    assert taken.settings == {"token-merging": "fixed:0.5", "min-sigma": "all:0.7"}
    assert taken.program == "v1.10.1"
    assert taken.remarks == ()
    check(taken.request)
    configure(taken.settings, PLATFORM)


PLAIN = "Steps: 20, CFG scale: 7, Seed: 1, Size: 128x128"


@pytest.mark.parametrize(
    ("pairs", "sampler", "schedule"),
    [
        # Since 1.9 there are two keys.
        ("Sampler: Euler, Schedule type: Automatic", "Euler", "Uniform"),
        ("Sampler: Euler, Schedule type: Karras", "Euler", "Karras"),
        ("Sampler: DPM++ 2M, Schedule type: Automatic", "DPM++ 2M", "Karras"),
        ("Sampler: DPM++ 2M, Schedule type: Exponential", "DPM++ 2M", "Exponential"),
        ("Sampler: LMS, Schedule type: SGM Uniform", "LMS", "SGM Uniform"),
        # Before, the name said it, and said the same by saying nothing.
        ("Sampler: DPM++ 2M Karras", "DPM++ 2M", "Karras"),
        ("Sampler: DPM++ 2M", "DPM++ 2M", "Uniform"),
        ("Sampler: LMS Karras", "LMS", "Karras"),
        ("Sampler: Euler a", "Euler a", "Uniform"),
        # These two have timesteps of their own there.
        ("Sampler: DDIM, Schedule type: Karras", "DDIM", "Automatic"),
        ("Sampler: UniPC", "UniPC", "Automatic"),
        # Ours says nothing where the model's own spacing was left.
        ("Sampler: Euler, Version: Seedproof 0.1.0", "Euler", "Automatic"),
        (
            "Sampler: DPM++ 2M, Schedule type: Karras, Version: Seedproof 0.1.0",
            "DPM++ 2M",
            "Karras",
        ),
        ("Sampler: UniPC, Schedule type: Karras, Version: Seedproof 0.1.0", "UniPC", "Karras"),
    ],
)
def test_a_sampler_and_its_schedule_as_each_version_writes_them(
    pairs: str, sampler: str, schedule: str
) -> None:
    request = read(f"{PLAIN}, {pairs}").request
    assert (request.sampler, request.schedule) == (sampler, schedule)
    check(request)


@pytest.mark.parametrize(
    ("pairs", "source"),
    [
        ("", "NV"),
        (", RNG: CPU", "CPU"),
        (", RNG: NV", "NV"),
        (", RNG: GPU", "NV"),
        (", RNG: dice", "NV"),
        (", Version: Seedproof 0.1.0", "device"),
    ],
)
def test_no_word_about_random_numbers_means_their_gpu(pairs: str, source: str) -> None:
    taken = read(f"{PLAIN}, Sampler: Euler{pairs}")
    assert taken.request.noise_source == source
    assert ("RNG" in remarks(taken)) == (pairs in ("", ", RNG: GPU", ", RNG: dice"))


@pytest.mark.parametrize(
    ("key", "value", "sentence"),
    [
        ("Sampler", "DPM++ SDE", "there is none of that name here: Euler is taken"),
        ("Schedule type", "Beta", "there is none of that name here: Uniform is taken"),
        ("Size", "500x512", "sides are multiples of 32 pixels here: 128x128 is taken"),
        ("Size", "99999x99999", "128x128 is taken"),
        ("Size", "large", "128x128 is taken"),
        ("Steps", "0", "here it is a number from 1 to 500"),
        ("Steps", "twenty", "here it is a number from 1 to 500"),
        ("CFG scale", "nan", "here it is a number from 0 to 1000"),
        ("Seed", "-1", "here it is a number from 0 to"),
        ("Seed", "9" * 5000, "here it is a number from 0 to"),
        ("Clip skip", "12", "here it is a number from 1 to 4"),
        ("ENSD", "31337", "Euler adds no noise that it could act on"),
        ("Variation seed", "3", "it has no strength"),
        ("Token merging ratio", "0.9", "no more than 0.75 of the tokens can be merged"),
        ("Emphasis", "No norm", "the emphasis Original is taken"),
        ("Pad conds", "False", "prompts of unlike length are padded here"),
        ("Hires sampler", "Heun", "both passes have the same settings here"),
        ("Denoising strength", "0.5", "a picture is made from noise alone here"),
        ("VAE hash", "63aeecb90f", "the model's own VAE is used here"),
        ("Lora hashes", '"a: 1, b: 2"', "nothing beside the model is loaded here"),
        ("ControlNet 0", '"Module: canny"', "nothing but the prompts guides a picture here"),
        ("Eta", "0.5", "samplers add their usual amount of noise here"),
        ("Model", "dream, 1", "the weights here are pocket's"),
        ("Face restoration", "CodeFormer", "there is nothing of that name here"),
    ],
)
def test_what_cannot_come_along_is_listed_with_the_reason(
    key: str, value: str, sentence: str
) -> None:
    pairs = {
        "Steps": "20",
        "Sampler": "Euler",
        "Schedule type": "Automatic",
        "CFG scale": "7",
        "Seed": "1",
        "Size": "128x128",
        "RNG": "CPU",
        key: value,
    }
    taken = read(", ".join(f"{name}: {text}" for name, text in pairs.items()))
    assert list(remarks(taken)) == [key]
    assert sentence in remarks(taken)[key]
    check(taken.request)
    configure(taken.settings, PLATFORM)


@pytest.mark.parametrize(
    ("prompt", "sentence"),
    [
        ("a (cat:1.2) BREAK [dog]", ""),
        ("a [cat:dog:0.5]", "it is taken as plain text. The prompt has [cat:dog:0.5]"),
        ("a cat AND a dog", "it is taken as plain text. The prompt has AND"),
    ],
)
def test_a_prompt_that_is_not_done_here_is_plain_text(prompt: str, sentence: str) -> None:
    taken = read(f"{PLAIN}, Sampler: Euler, RNG: CPU", prompt)
    assert taken.request.prompt == prompt
    assert taken.request.prompt_syntax == ("plain" if sentence else "a1111")
    assert [sentence in remark.sentence for remark in taken.remarks] == [True] * bool(sentence)
    check(taken.request)


@pytest.mark.parametrize(
    ("hires", "value", "sentence"),
    [
        ("Hires upscale: 1.5, Hires upscaler: Latent", "latent:0.5", "takes 11 steps and not 10"),
        ("Hires resize: 192x192, Hires upscaler: Lanczos", "lanczos:0.5", "11 steps and not 10"),
        ("Hires upscale: 1.5, Hires steps: 10, Hires upscaler: Latent", "latent:0.5", "the first"),
        ("Hires upscale: 1.5, Hires steps: 7, Hires upscaler: Latent", "latent:0.5", "7 steps and"),
        ("Hires upscale: 1.1, Hires upscaler: Latent", "", "has the model's own number of pixels"),
        ("Hires upscale: x, Hires upscaler: Latent", "", "has the model's own number of pixels"),
        ("Hires upscale: 1e9, Hires upscaler: Latent", "", "the model's own number of pixels"),
        ("Hires upscale: nan, Hires upscaler: Latent", "", "the model's own number of pixels"),
        ("Hires upscale: 1.5, Hires upscaler: R-ESRGAN", "", "2x, spandrel to enlarge with here"),
    ],
)
def test_a_hires_fix_becomes_two_passes(hires: str, value: str, sentence: str) -> None:
    taken = read(f"{PLAIN}, Sampler: Euler, RNG: CPU, Denoising strength: 0.5, {hires}")
    assert taken.settings.get("two-pass", "") == value
    side = 192 if value else 128
    assert (taken.request.width, taken.request.height) == (side, side)
    (remark,) = taken.remarks
    assert sentence in remark.sentence
    assert remark.left != bool(value)
    check(taken.request)
    configure(taken.settings, PLATFORM)


def test_a_hires_fix_needs_a_strength_that_is_one_here() -> None:
    hires = "Hires upscale: 1.5, Hires upscaler: Latent"
    for strength in ("", "Denoising strength: 0.01, ", "Denoising strength: much, "):
        taken = read(f"{PLAIN}, Sampler: Euler, RNG: CPU, {strength}{hires}")
        assert taken.settings == {}
        assert ["its strength is from 0.05 to 1 here" in r.sentence for r in taken.remarks] == [
            True
        ]


def test_files_that_a_prompt_names_are_taken_out_of_it() -> None:
    taken = read(f"{PLAIN}, Sampler: Euler, RNG: CPU", "a cat <lora:style:0.8>, <hypernet:x>")
    assert taken.request.prompt == "a cat ,"
    assert [remark.value for remark in taken.remarks] == ["<lora:style:0.8>", "<hypernet:x>"]


def test_what_tells_nothing_about_a_picture_is_not_listed() -> None:
    told = "Sampler: Euler, RNG: CPU, Version: v1.9.4, User: somebody, Created Date: today"
    assert read(f"{PLAIN}, {told}").remarks == ()


# Our own text


REQUESTS: list[dict[str, Any]] = [
    {},
    {"sampler": "DPM++ 2M"},
    {"sampler": "UniPC", "schedule": "Karras"},
    {"noise_source": "NV", "clip_skip": 2, "width": 160},
    {"variation_seed": 0, "variation_strength": 0.125, "seed": 2**64 - 1},
    {"sampler": "Euler a", "eta_noise_seed_delta": 31337, "guidance_scale": 1.5},
    {"noise_source": "device"},
    {"prompt": "a (cat", "prompt_syntax": "plain"},
]


@pytest.mark.parametrize("changes", REQUESTS)
def test_our_own_text_comes_back_as_the_request_it_was(changes: dict[str, Any]) -> None:
    usual = Request(prompt="a cat", negative_prompt="a dog", model=POCKET, prompt_syntax="a1111")
    asked = replace(usual, **changes)
    configuration = Configuration((("min-sigma", "all:0.7"),))
    slots = [SlotEffect(slot="min-sigma", requested="all:0.7", effect="applied")]
    if asked.noise_source == "device":
        slots.append(SlotEffect(slot="noise-source", requested="device", effect="applied"))
    text = infotext(asked, configuration, Effective(slots=tuple(slots)))
    taken = from_infotext(text, POCKET)
    expected = asked
    if asked.sampler == "DPM++ 2M":
        expected = replace(asked, schedule="Karras")
    assert taken.request == expected
    assert taken.settings == configuration.as_dict()
    assert taken.remarks == ()


def test_which_merging_it_was_our_text_does_not_say() -> None:
    asked = Request(prompt="a cat", model=POCKET, prompt_syntax="a1111")
    for value in ("seeded:0.5", "as-shipped:0.5"):
        configuration = Configuration((("token-merging", value),))
        taken = from_infotext(infotext(asked, configuration, Effective()), POCKET)
        assert taken.settings == {"token-merging": "seeded:0.5"}
        assert [(remark.key, remark.left) for remark in taken.remarks] == [
            ("Token merging ratio", False)
        ]


def test_our_own_two_passes_come_back() -> None:
    asked = Request(prompt="a cat", model=POCKET, width=256, height=192, prompt_syntax="a1111")
    counts = {"first_pass_width": 160.0, "first_pass_height": 128.0, "second_pass_steps": 10.0}
    slot = SlotEffect(slot="two-pass", requested="lanczos:0.5", effect="applied", counts=counts)
    configuration = Configuration((("two-pass", "lanczos:0.5"),))
    taken = from_infotext(infotext(asked, configuration, Effective(slots=(slot,))), POCKET)
    assert taken.request == asked
    assert taken.settings == configuration.as_dict()
    assert taken.remarks == ()


def test_noise_of_a_device_without_its_own_is_written_as_the_cpus() -> None:
    asked = Request(prompt="a cat", model=POCKET, noise_source="device")
    idle = SlotEffect(slot="noise-source", requested="device", effect="none", reason="it has none")
    assert "RNG: CPU" in infotext(asked, Configuration(), Effective(slots=(idle,)))


@settings(max_examples=25, deadline=None)
@given(
    st.sampled_from([sampler.name for sampler in SAMPLERS]),
    st.sampled_from([schedule.name for schedule in SCHEDULES]),
    st.text(max_size=80),
)
def test_whatever_a_model_is_called_the_settings_come_back(
    sampler: str, schedule: str, name: str
) -> None:
    model = replace(POCKET, name=name)
    asked = Request(prompt="a cat", model=model, sampler=sampler, schedule=schedule)
    taken = from_infotext(infotext(asked, Configuration(), Effective()), model)
    assert taken.request.sampler == sampler.removesuffix(" Karras")
    assert taken.request.schedule in (schedule, "Karras")
    assert taken.remarks == ()
