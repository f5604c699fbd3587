"""auto: A1111's Automatic, by kind of device; and the record of what it chose."""

from dataclasses import replace

import pytest
import torch
from diffusers import StableDiffusionPipeline

from core.optimizations import availability
from core.optimizations.attention import auto, sdp
from core.optimizations.attention.auto import AUTO, choose
from core.platforms import detect
from core.run import SlotEffect
from tests.tiny_run import tiny_job, tiny_run


def effect_of_auto(pipeline: StableDiffusionPipeline) -> SlotEffect:
    effect = tiny_run(pipeline, tiny_job(attention="auto")).effective.slot("attention")
    assert effect is not None
    return effect


@pytest.mark.parametrize(
    ("device_type", "name", "because"),
    [
        ("cuda", "doggettx", "on CUDA without flags"),
        ("mps", "sub-quadratic", "on an Apple GPU"),
        ("cpu", "invokeai", "neither CUDA nor an Apple GPU"),
        ("xpu", "invokeai", "neither CUDA nor an Apple GPU"),
    ],
)
def test_the_choice_follows_from_the_kind_of_device(
    device_type: str, name: str, because: str
) -> None:
    backend, why = choose(device_type)
    assert backend.name == name
    assert because in why


@pytest.mark.parametrize("device_type", ["cpu", "cuda", "mps"])
def test_the_record_says_what_was_chosen_and_why(
    shared_pipeline: StableDiffusionPipeline, monkeypatch: pytest.MonkeyPatch, device_type: str
) -> None:
    """The choice for another device also computes here: only its speed would differ."""
    chosen, why = choose(device_type)
    monkeypatch.setattr(auto, "choose", lambda actual: (chosen, why))
    effect = effect_of_auto(shared_pipeline)
    assert (effect.requested, effect.effect) == ("auto", "applied"), effect.reason
    assert effect.counts[f"chose_{chosen.name}"] == 1
    assert effect.reason.startswith(f"auto chose {chosen.name}: {why}; ")


def test_the_bits_are_those_of_the_chosen_option(shared_pipeline: StableDiffusionPipeline) -> None:
    by_auto = tiny_run(shared_pipeline, tiny_job(attention="auto"))
    by_name = tiny_run(shared_pipeline, tiny_job(attention=choose("cpu")[0].name))
    assert torch.equal(by_auto.pixels, by_name.pixels)
    of_auto, of_name = (r.effective.slot("attention") for r in (by_auto, by_name))
    assert of_auto is not None
    assert of_name is not None
    assert of_auto.operators == of_name.operators


def test_the_effect_rests_on_the_evidence_of_the_chosen_option(
    shared_pipeline: StableDiffusionPipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    alias = replace(choose("cpu")[0], kernel=sdp.kernel)
    monkeypatch.setattr(auto, "choose", lambda device_type: (alias, "of a test"))
    effect = effect_of_auto(shared_pipeline)
    assert effect.effect == "fell-back"
    assert effect.reason.startswith("auto chose invokeai: of a test; ")


def test_it_is_available_where_its_choice_is(monkeypatch: pytest.MonkeyPatch) -> None:
    assert availability(AUTO, detect("cpu")) is None

    def broken(*arguments: object) -> torch.Tensor:
        raise RuntimeError("no kernel for this device")

    alias = replace(choose("cpu")[0], kernel=broken)
    monkeypatch.setattr(auto, "choose", lambda device_type: (alias, ""))
    assert availability(AUTO, detect("cpu")) == "no kernel for this device"
