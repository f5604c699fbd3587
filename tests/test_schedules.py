"""Schedules: the levels by their own formulas, really stepped through, or refused."""

import dataclasses
import math
from typing import Any

import pytest
import torch
from diffusers import EulerDiscreteScheduler

from core import samplers, schedules
from core.models import check, resolve
from core.request import Request
from core.run import SlotEffect
from tests.test_samplers import NOISE_LEVELS, POCKET, SD_CONFIG, Watched

TAKING = [sampler.name for sampler in samplers.SAMPLERS if sampler.takes_schedules]
NAMES = [schedule.name for schedule in schedules.SCHEDULES if schedule.levels is not None]
TABLE = 2e-5
"""Relative: diffusers' table is float32, in which the lowest level is off by 1.3e-5."""
LOWEST, HIGHEST = float(NOISE_LEVELS[0]), float(NOISE_LEVELS[-1])


def level_at(timestep: float) -> float:
    """Between two timesteps the levels are in proportion to the distance from both."""
    below = min(int(timestep), 998)
    part = timestep - below
    return float(NOISE_LEVELS[below] ** (1 - part) * NOISE_LEVELS[below + 1] ** part)


def expected(name: str, steps: int) -> list[float]:
    """Every level from its definition, one at a time."""
    found = []
    for i in range(steps):
        done = i / (steps - 1) if steps > 1 else 0.0
        if name == "Karras":
            # Karras et al. 2022, equation 5, with rho = 7
            root = HIGHEST ** (1 / 7) + done * (LOWEST ** (1 / 7) - HIGHEST ** (1 / 7))
            found.append(root**7)
        elif name == "Exponential":
            found.append(HIGHEST * (LOWEST / HIGHEST) ** done)
        elif name == "Uniform":
            found.append(level_at(999 * (1 - done)))
        elif name == "SGM Uniform":
            found.append(level_at(999 * (1 - i / steps)))
    return found


def effect_of(seen: Watched) -> SlotEffect:
    effect = seen.effective.slot("schedule")
    assert effect is not None
    return effect


@pytest.mark.parametrize("steps", [1, 2, 20])
@pytest.mark.parametrize("name", NAMES)
def test_levels_are_those_of_the_definition(name: str, steps: int) -> None:
    table = schedules.levels_of(EulerDiscreteScheduler(**SD_CONFIG))
    levels = schedules.find(name).levels
    assert levels is not None
    assert list(levels(steps, table)) == pytest.approx(expected(name, steps), rel=TABLE)


@pytest.mark.parametrize("sampler", TAKING)
@pytest.mark.parametrize("name", NAMES)
def test_every_step_is_taken_at_its_level_and_the_record_says_so(name: str, sampler: str) -> None:
    seen = Watched(sampler, steps=6, asked={"schedule": name})
    wanted = expected(name, 6)
    assert [event.sigma for event in seen.events] == pytest.approx(wanted, rel=1e-4)
    effect = effect_of(seen)
    assert (effect.requested, effect.effect) == (name, "applied")
    assert effect.counts["unet_calls"] == effect.counts["at_its_levels"] == len(seen.unet.rows)
    assert effect.counts["sigma_of_first_call"] == pytest.approx(HIGHEST, rel=TABLE)
    assert effect.counts["sigma_of_last_call"] == pytest.approx(wanted[-1], rel=TABLE)


@pytest.mark.parametrize("sampler", TAKING)
@pytest.mark.parametrize("name", NAMES)
def test_the_unet_is_given_the_timestep_of_its_level(name: str, sampler: str) -> None:
    """On the logarithm of the levels; whole timesteps are the nearest."""
    seen = Watched(sampler, steps=6, asked={"schedule": name})
    levels = expected(name, 6)
    if sampler == "Heun":
        levels = [levels[0], *(level for level in levels[1:] for _ in range(2))]
    for timestep, level in zip(seen.unet.timesteps, levels, strict=True):
        if sampler in ("DPM++ 2M", "UniPC"):
            assert timestep == int(timestep)
            least, most = level_at(max(0, timestep - 0.51)), level_at(min(999, timestep + 0.51))
            assert 0.99999 * least <= level <= 1.00001 * most
        else:
            assert level_at(timestep) == pytest.approx(level, rel=1e-4)


@pytest.mark.parametrize("sampler", ["Euler", "Heun", "DPM++ 2M", "UniPC"])
@pytest.mark.parametrize("name", NAMES)
def test_pictures_come_out_as_the_data_are(name: str, sampler: str) -> None:
    asked = {"schedule": name}
    seen = Watched(sampler, steps=40, prediction="v_prediction", asked=asked, guidance_scale=1.0)
    assert abs(seen.latents.mean().item() - 0.8) < 0.08
    assert abs(seen.latents.std().item() - 0.5) < 0.08


@pytest.mark.parametrize("spacing", ["leading", "trailing"])
def test_the_models_spacing_plays_no_part(spacing: str) -> None:
    plain = Watched("Euler", steps=4, spacing="linspace", asked={"schedule": "Karras"})
    assert Watched("Euler", steps=4, spacing=spacing, asked={"schedule": "Karras"}).digests == (
        plain.digests
    )
    first = plain.unet.inputs[0][0] * math.sqrt(HIGHEST**2 + 1)
    assert torch.allclose(first, plain.start[0] * HIGHEST, rtol=1e-5)


def test_what_is_not_asked_for_is_not_recorded_and_changes_nothing() -> None:
    plain = Watched("Euler", steps=4)
    assert plain.effective.slot("schedule") is None
    assert Watched("Euler", steps=4, asked={"schedule": "automatic"}).digests == plain.digests
    assert Watched("Euler", steps=4, asked={"schedule": "Karras"}).digests != plain.digests


def test_dpm_2m_is_dpm_2m_karras_unless_another_schedule_is_chosen() -> None:
    old = Watched("DPM++ 2M Karras", steps=6)
    named = Watched("DPM++ 2M", steps=6, asked={"schedule": "Karras"})
    assert Watched("DPM++ 2M", steps=6).digests == named.digests == old.digests
    assert effect_of(named).effect == "applied"
    assert Watched("DPM++ 2M", steps=6, asked={"schedule": "Uniform"}).digests != old.digests


def test_a_scheduler_that_steps_elsewhere_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    def keep(scheduler: Any, schedule: schedules.Schedule) -> None:
        put(scheduler, schedule)
        watched.append(scheduler)

    def stop(seen: Watched) -> bool:
        if len(seen.unet.rows) == 3:
            watched[0].sigmas = watched[0].sigmas * 1.01
        return False

    watched: list[Any] = []
    put = schedules.put
    monkeypatch.setattr(schedules, "put", keep)
    effect = effect_of(Watched("Euler", steps=6, asked={"schedule": "Karras"}, stop=stop))
    assert effect.effect == "fell-back"
    assert effect.reason == "3 of 6 UNet calls were at other levels"


@pytest.mark.parametrize(
    ("written", "meant"),
    [("karras", "Karras"), ("SGMUniform", "SGM Uniform"), (" sgm  uniform", "SGM Uniform")],
)
def test_names_are_taken_as_people_write_them(written: str, meant: str) -> None:
    assert schedules.find(written).name == meant


@pytest.mark.parametrize(
    ("sampler", "schedule", "sentence"),
    [
        ("DDIM", "Karras", "DDIM has noise levels of its own and takes no Karras schedule"),
        ("DPM++ 2M Karras", "Exponential", "choose one of Euler, Euler a, DPM++ 2M, Heun"),
        ("Euler", "Simple", "Unknown schedule 'Simple': choose one of Automatic, Uniform, Karras"),
        ("Eulerr", "Karras", "Unknown sampler 'Eulerr'"),
    ],
)
def test_what_a_sampler_cannot_do_is_one_sentence(
    sampler: str, schedule: str, sentence: str
) -> None:
    asked = Request(prompt="", model=resolve("pocket", POCKET), sampler=sampler, schedule=schedule)
    with pytest.raises(ValueError, match=r"^[^\n]+\.$") as refused:
        check(asked)
    assert sentence in str(refused.value)
    check(dataclasses.replace(asked, sampler="DPM++ 2M Karras", schedule="Karras"))
    check(dataclasses.replace(asked, sampler="DDIM", schedule="Automatic"))
