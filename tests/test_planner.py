"""Choosing for a memory limit: from measured runs, by a stated model, and never by a guess."""

from dataclasses import replace
from typing import Any

import pytest

from core.ladder import Choice
from core.optimization import Configuration
from core.optimizations import configure
from core.planner import ROOM, MemoryPlan, plan, predict, probe, usable
from core.request import Following, Job, Request
from core.run import Part, Run, Usage
from tests.fake_engine import MODEL, PLATFORM, FakeEngine
from webapp.memory_limit import byte_count, over_limit
from webapp.terminal import BadInput

NATIVE = 128
LOADED = 600 * 10**6
UNET, VAE = 20 * 10**6, 40 * 10**6
"""What they add at the model's own size, for one picture with guidance."""
DEFAULT = configure({}, PLATFORM)


def request(side: int = NATIVE, **changes: Any) -> Request:
    return replace(Request(prompt="x", model=MODEL, width=side, height=side), **changes)


def measured(
    side: int = NATIVE,
    *,
    pictures: int = 1,
    unet: int = UNET,
    vae: int = VAE,
    configuration: Configuration = DEFAULT,
    **changes: Any,
) -> Run:
    job = Job(id="m", requests=(request(side, **changes),) * pictures, configuration=configuration)
    run = FakeEngine().run(job, Following())
    parts = (
        Part(name="text-encoder", peak_bytes=LOADED + 10**6),
        Part(name="unet", peak_bytes=LOADED + unet),
        Part(name="vae", peak_bytes=LOADED + vae),
    )
    return replace(run, usage=Usage(parts=parts, loaded_bytes=LOADED))


def choice(batch_size: int = 1, **settings: str) -> Choice:
    named = {slot.replace("_", "-"): value for slot, value in settings.items()}
    return Choice(configuration=configure(named, PLATFORM), batch_size=batch_size)


def planned(limit: int, asked: Choice, side: int = NATIVE, *runs: Run) -> MemoryPlan:
    return plan(asked, request(side), PLATFORM, runs or (measured(),), limit, NATIVE)


@pytest.mark.parametrize(
    ("asked", "side", "changes", "added", "stage"),
    [
        (choice(), 128, {}, VAE, "decode"),
        (choice(), 256, {}, 4 * VAE, "decode"),
        (choice(4), 128, {}, 4 * VAE, "decode"),
        (choice(4, vae_slicing="on"), 128, {}, 4 * UNET, "denoise"),
        (choice(4, vae_slicing="on"), 128, {"guidance_scale": 1.0}, 2 * UNET, "denoise"),
        (choice(5, vae_slicing="on", guidance_batch="separate"), 128, {}, 2.5 * UNET, "denoise"),
        (choice(vae_slicing="on"), 256, {}, 4 * VAE, "decode"),
    ],
)
def test_memory_grows_with_pixels_at_once(
    asked: Choice, side: int, changes: dict[str, Any], added: int, stage: str
) -> None:
    found = predict(asked, request(side, **changes), [measured()], NATIVE)
    assert found is not None
    assert found.peak_bytes == pytest.approx(LOADED + ROOM * added, rel=1e-6)
    assert found.stage == stage


def test_tiles_take_a_tile_and_the_finished_pictures() -> None:
    run = measured(unet=1)
    for value, tile in (("auto", 128), ("tiles:64", 64)):
        found = predict(choice(vae_tiling=value), request(512), [run], NATIVE)
        assert found is not None
        added = VAE * tile**2 / NATIVE**2 + 24 * 512**2
        assert found.peak_bytes == pytest.approx(LOADED + ROOM * added, rel=1e-6)


def test_whole_score_matrices_grow_with_the_square() -> None:
    slow = configure({"attention": "none"}, PLATFORM)
    run = measured(vae=1, configuration=slow)
    found = predict(choice(attention="none"), request(256), [run], NATIVE)
    assert found is not None
    assert found.peak_bytes == pytest.approx(LOADED + ROOM * 16 * UNET, rel=1e-6)
    smaller = predict(choice(attention="none"), request(64), [run], NATIVE)
    assert smaller is not None
    assert smaller.peak_bytes == pytest.approx(LOADED + ROOM * UNET / 4, rel=1e-6)


def test_the_nearest_run_under_the_same_settings_counts() -> None:
    other = configure({"attention": "doggettx"}, PLATFORM)
    runs = [
        measured(vae=1),
        measured(256, vae=1, unet=3 * UNET),
        measured(256, vae=1, unet=3 * UNET + 5),
        measured(256, vae=1, unet=99 * UNET, configuration=other),
    ]
    found = predict(choice(), request(256), runs, NATIVE)
    assert found is not None
    assert found.peak_bytes == pytest.approx(LOADED + ROOM * (3 * UNET + 5), rel=1e-9)
    unknown = choice(attention="sub-quadratic")
    assert predict(unknown, request(256), runs, NATIVE) is None
    before = choice(attention="doggettx")
    found = predict(unknown, request(256), runs, NATIVE, before)
    assert found is not None
    assert found.peak_bytes == pytest.approx(LOADED + ROOM * 99 * UNET, rel=1e-9)


@pytest.mark.parametrize(
    ("limit", "asked", "side", "changes"),
    [
        (LOADED + 4 * VAE, choice(), 128, ""),
        (
            LOADED + 3 * VAE,
            choice(4),
            128,
            "vae-slicing=on instead of off",
        ),
        (
            LOADED + 2 * VAE,
            choice(4),
            128,
            "vae-slicing=on instead of off, 2 pictures at a time instead of 4",
        ),
        (LOADED + 3 * VAE, choice(), 256, "vae-tiling=tiles:128 instead of off"),
        (LOADED + int(0.6 * 4 * VAE), choice(), 256, "vae-tiling=tiles:128 instead of off"),
        (
            LOADED + 2 * VAE,
            choice(),
            256,
            "guidance-batch=separate instead of off, vae-tiling=tiles:128 instead of off",
        ),
    ],
)
def test_the_first_steps_that_suffice_are_taken(
    limit: int, asked: Choice, side: int, changes: str
) -> None:
    """The fifth is the promise: what stands loaded plus 0.6 of what the default adds at 2x size."""
    made = planned(limit, asked, side)
    assert made.changes == changes
    assert made.fits
    assert made.predicted is not None
    assert made.predicted.peak_bytes <= limit
    assert made.sentence.startswith(f"For a limit of {limit / 1e9:.2f} GB: ")
    assert (changes in made.sentence) or not changes


def test_a_limit_that_no_step_reaches_is_said() -> None:
    made = planned(LOADED, choice(4), 256)
    assert not made.fits
    assert "no step is known to lower it" in made.sentence
    assert made.choice.batch_size == 1
    assert made.choice.configuration.get("layerwise-casting") == "off"


def test_without_a_measurement_nothing_is_promised() -> None:
    made = plan(choice(4), request(), PLATFORM, (), 10**9, NATIVE)
    assert (made.predicted, made.fits, made.choice) == (None, False, choice(4))
    assert made.sentence == "Nothing was measured here from which a limit of 1.00 GB could be kept."


def test_only_runs_of_this_model_on_this_platform_with_figures_are_usable() -> None:
    run = measured()
    here = (MODEL.digest, PLATFORM.fingerprint)
    assert usable([run], *here) == [run]
    assert usable([run], "another", PLATFORM.fingerprint) == []
    assert usable([run], MODEL.digest, "elsewhere") == []
    for broken in (
        replace(run, outcome="cancelled"),
        replace(run, usage=Usage()),
        replace(run, usage=replace(run.usage, loaded_bytes=None)),
        replace(run, usage=replace(run.usage, parts=run.usage.parts[1:])),
    ):
        assert usable([broken], *here) == []


def test_a_probe_is_one_step_of_one_picture_at_the_models_own_size() -> None:
    job = probe(request(512, seed=9), choice(4, attention="none"), NATIVE, "p")
    (asked,) = job.requests
    assert (asked.width, asked.height, asked.num_inference_steps) == (128, 128, 1)
    assert job.configuration.get("attention") == "none"


@pytest.mark.parametrize(
    ("text", "count"),
    [("0.9GB", 9 * 10**8), ("900MB", 9 * 10**8), (" 2 gb", 2 * 10**9), ("4", 4 * 10**9)],
)
def test_sizes_are_read(text: str, count: int) -> None:
    assert byte_count(text) == count


@pytest.mark.parametrize("text", ["", "lots", "0", "-1GB", "1GiB", "1e9", "0MB"])
def test_what_is_no_size_is_refused(text: str) -> None:
    with pytest.raises(BadInput, match="A memory limit is a size such as"):
        byte_count(text)


def test_a_peak_over_the_limit_is_told() -> None:
    run = measured()
    assert over_limit([run], 10**8) == ""
    assert over_limit([run], 10**8 - 1) == "The peak of 0.10 GB was over the limit of 100 MB."
