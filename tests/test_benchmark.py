"""`make bench`: equal pixels or no figure, and the goal is met by the upper bound alone."""

import random
from pathlib import Path

import pytest
import torch
from diffusers import StableDiffusionPipeline

from core.diffusion import DiffusersEngine
from core.models import resolve
from core.optimization import Configuration
from core.platforms import detect
from core.request import Request
from tests.benchmarks import overhead, sd15_shape
from tests.benchmarks.overhead import (
    Call,
    UnequalPixels,
    candidates,
    compared,
    informative,
    paired,
    sides,
)
from tests.tiny_run import tiny_job

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def _no_collections(monkeypatch: pytest.MonkeyPatch) -> None:
    """Half a second each in a process full of modules."""
    monkeypatch.setattr(overhead.gc, "collect", lambda: 0)


def calls(ratio: float, count: int = 15) -> list[tuple[Call, Call]]:
    """Pairs on a machine whose speed wanders by a third, ours `ratio` times as long within 1 %."""
    drawn = random.Random(1)
    pairs = []
    for _ in range(count):
        base, noise = drawn.uniform(1, 1.3), drawn.uniform(0.99, 1.01)
        ours, theirs = (
            Call(seconds=s, cpu_seconds=s, peak_bytes=10**9, grown_bytes=10**6, pixels_sha256="a")
            for s in (base * ratio * noise, base)
        )
        pairs.append((ours, theirs))
    return pairs


@pytest.mark.parametrize(("ratio", "met"), [(1.0, True), (1.03, True), (1.05, False), (1.2, False)])
def test_the_goal_is_met_by_the_upper_bound(ratio: float, met: bool) -> None:
    figures = compared(calls(ratio))
    assert figures["met"] is met
    assert figures["pairs"] == 15
    low, high = figures["ratio"]["ci95"]
    assert low <= figures["ratio"]["paired_log_ratio_median"] <= high == figures["ratio"]["upper"]
    assert figures["ratio"]["paired_log_ratio_median"] == pytest.approx(ratio, abs=0.006)
    assert figures["ours"]["quartile_spread"] > 0.02


def test_a_pixel_that_differs_leaves_no_figure() -> None:
    with pytest.raises(UnequalPixels, match="Seed 3"):
        paired(lambda seed: (f"{seed}", 1), lambda seed: (f"{min(seed, 2)}", None), range(5), CPU)


def test_sides_take_turns_in_either_order(capsys: pytest.CaptureFixture[str]) -> None:
    random.seed(1)
    order: list[str] = []
    made = [
        lambda seed, side=side: order.append(side) or ("same", 10**15)
        for side in ("ours", "theirs")
    ]
    pairs = paired(*made, range(20), CPU)
    assert len(pairs) == 20
    assert {call.peak_bytes for pair in pairs for call in pair} == {10**15}
    assert all({order[2 * n], order[2 * n + 1]} == {"ours", "theirs"} for n in range(20))
    assert 4 <= order[::2].count("ours") <= 16
    assert "pair 20 of 20" in capsys.readouterr().err


def test_both_paths_make_the_same_picture(
    tiny_model_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = DiffusersEngine(detect("cpu"), tmp_path)
    request = Request(
        prompt="a cat",
        model=resolve(str(tiny_model_path), tmp_path),
        width=32,
        height=32,
        num_inference_steps=2,
    )
    ours, theirs = sides(engine, request)
    assert ours(1)[0] == theirs(1)[0] != ours(2)[0]
    one = {"preview=on": candidates(request, engine.platform)["preview=on"]}
    monkeypatch.setattr(overhead, "candidates", lambda *_: one)
    figures = informative(engine, request, rounds=1)
    assert figures["pairs_each"] == 1
    assert 0 < figures["median_ratio_to_defaults"]["preview=on"] < 100


def test_everything_but_the_defaults_is_compared_with_them() -> None:
    request = Request(prompt="a cat", model=tiny_job().requests[0].model)
    names = candidates(request, detect("cpu")).keys()
    assert {"preview=on", "attention=none", "sampler=Heun", "sampler=Euler a"} <= names
    assert not {"attention=sdp", "sampler=Euler"} & names


def test_few_pairs_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        overhead.main(["--pairs", "14"])
    assert stopped.value.code == 2
    assert "at least 15" in capsys.readouterr().err


def test_steps_of_a_bare_unet_are_timed_in_turn(shared_pipeline: StableDiffusionPipeline) -> None:
    here = sd15_shape.settings_here(detect("cpu"))
    assert next(iter(here)) == sd15_shape.BASELINE
    assert "attention=xformers" not in here
    few = {name: here[name] for name in (sd15_shape.BASELINE, "token-merging=fixed:0.5")}
    figures = sd15_shape.in_turn(shared_pipeline.unet, few, 64, rounds=2)
    merged = figures["token-merging=fixed:0.5"]
    assert merged["effects"] == {
        "attention": "applied",
        "precision": "applied",
        "token-merging": "applied",
    }
    assert merged["time_ratio"].pairs == 2
    assert figures[sd15_shape.BASELINE]["time_ratio"].median == 1


def test_random_weights_give_finite_numbers() -> None:
    small = {**sd15_shape.SHAPE, "block_out_channels": (32, 32, 64, 64), "cross_attention_dim": 32}
    seconds, _ = sd15_shape.step(sd15_shape.unet(small), Configuration(), 64)
    assert seconds > 0
