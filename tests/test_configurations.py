"""Configurations as text: one canonical form, and errors that say what to write instead."""

import sys
from dataclasses import replace

import pytest

from core.optimization import Configuration, Optimization
from core.optimizations import OPTIMIZATIONS, availability, chosen, configure, prepared_key
from core.platforms import Platform, detect

every_option = pytest.mark.parametrize(
    "option", OPTIMIZATIONS, ids=lambda option: f"{option.slot}={option.name}"
)


@pytest.fixture(scope="module")
def platform() -> Platform:
    return detect("cpu")


@pytest.mark.parametrize(
    ("slot", "text", "expected"),
    [
        ("token-merging", "0.5", "seeded:0.5"),
        ("token-merging", ".50", "seeded:0.5"),
        ("token-merging", "seeded", "seeded:0.5"),
        ("token-merging", " Seeded:0.30 ", "seeded:0.3"),
        ("token-merging", "as-shipped:0.75", "as-shipped:0.75"),
        ("token-merging", "as-shipped", "as-shipped:0.5"),
        ("token-merging", "0", "off"),
        ("token-merging", "0.0", "off"),
        ("token-merging", "none", "off"),
        ("token-merging", "off", "off"),
        ("token-merging", "seeded:0", "off"),
        ("min-sigma", "0.7", "alternate:0.7"),
        ("min-sigma", "1e1", "alternate:10"),
        ("min-sigma", "all:15", "all:15"),
        ("min-sigma", "all:0", "off"),
        ("min-sigma", "-0", "off"),
        ("attention", "none", "none"),
        ("attention", "SDP-no-mem", "sdp-no-mem"),
        ("attention", "Split-V1", "split-v1"),
        ("slice-budget", "0.5", "share:0.5"),
        ("slice-budget", "free-memory", "free-memory"),
        ("slice-budget", "none", "off"),
        ("precision", "bf16", "bf16"),
        ("threads", "2", "pinned:2"),
        ("threads", "off", "off"),
    ],
)
def test_canonical_text(platform: Platform, slot: str, text: str, expected: str) -> None:
    configuration = configure({slot: text}, platform)
    assert configuration.get(slot) == expected
    assert configure(configuration.as_dict(), platform) == configuration


def test_equal_choices_are_equal_configurations(platform: Platform) -> None:
    choices = {"token-merging": "0.5", "attention": "none"}
    turned = {"attention": "none", "token-merging": "seeded:0.50", "min-sigma": "off"}
    assert configure(choices, platform) == configure(turned, platform)
    assert configure(choices, platform).key == (
        "attention=none precision=fp32 token-merging=seeded:0.5"
    )


def test_the_default_is_sdp_in_the_platforms_precision(platform: Platform) -> None:
    assert configure({}, platform).key == "attention=sdp precision=fp32"


@pytest.mark.parametrize(
    ("choices", "message"),
    [
        (
            {"atention": "sdp"},
            "There is no setting 'atention': choose from attention, slice-budget, token-merging, ",
        ),
        (
            {"attention": "flash"},
            "attention has no option 'flash': choose from sdp, sdp-no-mem, xformers, doggettx, "
            "sub-quadratic, split-v1, invokeai, none or auto.",
        ),
        (
            {"attention": "off"},
            "attention has no option 'off': choose from sdp, sdp-no-mem, xformers, doggettx, "
            "sub-quadratic, split-v1, invokeai, none or auto.",
        ),
        ({"attention": "0.5"}, "attention has no option '0.5': choose from "),
        (
            {"slice-budget": "0.001"},
            "takes a share of the score matrix from 0.01 to 1, not '0.001'.",
        ),
        ({"slice-budget": "free-memory:2"}, "free-memory takes no number: leave out '2'."),
        ({"precision": "none"}, "precision has no option 'none': choose from fp32, bf16 or fp16."),
        ({"attention": "sdp:2"}, "attention=sdp takes no number: leave out '2'."),
        (
            {"token-merging": "0.9"},
            "token-merging=seeded takes a merge ratio from 0 to 0.75, not '0.9'.",
        ),
        ({"token-merging": "-0.1"}, "takes a merge ratio from 0 to 0.75, not '-0.1'."),
        ({"token-merging": "seeded:"}, "takes a merge ratio from 0 to 0.75, not ''."),
        ({"token-merging": "seeded:much"}, "takes a merge ratio from 0 to 0.75, not 'much'."),
        (
            {"threads": "1.5"},
            "threads=pinned takes a number of threads from 1 in steps of 1, not '1.5'.",
        ),
        ({"threads": "0.5"}, "takes a number of threads from 1 to 64, not '0.5'."),
        ({"min-sigma": "all:nan"}, "takes a minimum sigma from 0 to 15, not 'nan'."),
        ({"min-sigma": "inf"}, "min-sigma has no option 'inf': choose from alternate, all or off."),
        ({"min-sigma": ""}, "min-sigma has no option '': choose from alternate, all or off."),
    ],
)
def test_errors_say_what_to_write(
    platform: Platform, choices: dict[str, str], message: str
) -> None:
    with pytest.raises(ValueError, match=r"^[^\n]+\.$") as caught:
        configure(choices, platform)
    assert message in str(caught.value)


def test_chosen_gives_options_and_numbers(platform: Platform) -> None:
    found = chosen(configure({"min-sigma": "0.4", "attention": "none"}, platform))
    assert [(o.slot, o.name, number) for o, number in found] == [
        ("attention", "none", None),
        ("min-sigma", "alternate", 0.4),
        ("precision", "fp32", None),
    ]


@pytest.mark.parametrize("setting", [("attention", "gone"), ("gone", "sdp")])
def test_a_configuration_of_another_version_is_refused(setting: tuple[str, str]) -> None:
    with pytest.raises(ValueError, match=f"no {setting[0]}={setting[1]}"):
        chosen(Configuration((setting,)))


def test_only_what_is_prepared_is_in_the_prepared_key(platform: Platform) -> None:
    assert prepared_key(configure({"token-merging": "0.5"}, platform)) == ""
    shipped = configure({"token-merging": "as-shipped:0.5", "min-sigma": "0.7"}, platform)
    assert prepared_key(shipped) == "token-merging=as-shipped:0.5"


@every_option
def test_everything_but_two_missing_packages_is_available_on_a_cpu(
    platform: Platform, option: Optimization
) -> None:
    reason = availability(option, platform)
    assert (reason is None) == (
        option.name not in ("xformers", "spandrel") and not _lacks(platform, option)
    ), reason


def _lacks(platform: Platform, option: Optimization) -> bool:
    return platform.why_not(option.needs) is not None


def test_a_probe_that_fails_says_why(platform: Platform, monkeypatch: pytest.MonkeyPatch) -> None:
    """xformers on a machine that has a GPU and not the package."""
    monkeypatch.setitem(sys.modules, "xformers.ops", None)
    (xformers,) = (option for option in OPTIMIZATIONS if option.name == "xformers")
    assert "NVIDIA" in (availability(xformers, platform) or "")
    with_gpu = replace(platform, capabilities={**platform.capabilities, "cuda": None})
    reason = availability(xformers, with_gpu)
    assert reason is not None
    assert "xFormers cannot be imported" in reason
    assert "\n" not in reason


@pytest.mark.usefixtures("fake_xformers")
def test_a_probe_makes_a_real_call(
    platform: Platform, fake_xformers: list[tuple[int, ...]]
) -> None:
    (xformers,) = (option for option in OPTIMIZATIONS if option.name == "xformers")
    with_gpu = replace(platform, capabilities={**platform.capabilities, "cuda": None})
    assert availability(xformers, with_gpu) is None
    assert fake_xformers == [(1, 64, 2, 40)]
