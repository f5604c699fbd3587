"""What a run took, by part, and what follows from it."""

import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from core import measurement
from core.bottleneck import bottlenecks
from core.diffusion import DiffusersEngine
from core.measurement import PeakMemory, Stopwatch, gpu_utilization
from core.models import resolve
from core.optimization import Configuration
from core.optimizations import SLOTS, configure
from core.platforms import detect
from core.request import Following, Job, Request
from core.run import Memory, Part, Run, SlotEffect, Timings, Usage
from core.serialization import dump, load
from tests.fake_engine import MODEL, FakeEngine
from webapp import run_card
from webapp.usage_card import lines

MEGABYTE = 10**6


def run_of(
    *parts: Part,
    pictures: int = 1,
    loaded: int | None = 100 * MEGABYTE,
    settings: dict[str, str] | None = None,
    device: str = "cpu",
    acted: tuple[str, ...] = (),
    **changes: Any,
) -> Run:
    """A finished run whose parts took this; the UNet's threads were busy unless they say else."""
    asked = replace(Request(prompt="x", model=MODEL, width=256, height=192), **changes)
    requests = tuple(replace(asked, seed=seed) for seed in range(pictures))
    configuration = Configuration(tuple((settings or {}).items()))
    job = Job(id="j", requests=requests, configuration=configuration)
    run = FakeEngine().run(job, Following())
    effects = tuple(SlotEffect(slot=slot, requested="on", effect="applied") for slot in acted)
    return replace(
        run,
        environment=replace(run.environment, device=device),
        effective=replace(run.effective, slots=effects),
        timings=Timings(encode=0.1, denoise=0.8, decode=0.1),
        usage=Usage(parts=parts, loaded_bytes=loaded, seconds=1.0, cpu_seconds=2.0),
    )


def unet(**changes: Any) -> Part:
    part = Part(name="unet", calls=20, seconds=0.7, cpu_seconds=1.4, peak_bytes=150 * MEGABYTE)
    return replace(part, **changes)


def vae(**changes: Any) -> Part:
    part = Part(name="vae", calls=1, seconds=0.1, cpu_seconds=0.2, peak_bytes=300 * MEGABYTE)
    return replace(part, **changes)


@pytest.fixture(scope="module")
def real(tiny_model_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    engine = DiffusersEngine(detect("cpu"), tmp_path_factory.mktemp("pictures"))
    model = resolve(str(tiny_model_path), Path("unused"))
    asked = Request(
        prompt="a cat", model=model, width=160, height=160, num_inference_steps=2, guidance_scale=5
    )
    settings = configure({"two-pass": "latent:0.5"}, engine.platform)
    job = Job(id="j", requests=(asked,), configuration=settings, preview=True)
    run = engine.run(job, Following())
    assert run.outcome == "ok", run.reason
    return run


def test_every_part_is_counted_and_timed_within_its_stage(real: Run) -> None:
    calls = {part.name: part.calls for part in real.usage.parts}
    assert calls == {
        "text-encoder": 1,
        "unet": 3,
        "guidance": 3,
        "preview": 3,
        "upscaler": 1,
        "vae": 1,
    }
    seconds = {part.name: part.seconds for part in real.usage.parts}
    assert min(seconds.values()) > 0
    within = seconds["unet"] + seconds["guidance"] + seconds["preview"] + seconds["upscaler"]
    assert within <= real.timings.denoise
    assert seconds["text-encoder"] <= real.timings.encode
    assert seconds["vae"] <= real.timings.decode
    assert real.usage.seconds >= sum(seconds.values())
    assert 0 < sum(part.cpu_seconds for part in real.usage.parts) <= real.usage.cpu_seconds
    assert real.usage.gpu_percent is None


def test_the_peak_is_the_highest_of_all_laps(real: Run) -> None:
    told = [part.peak_bytes for part in real.usage.parts]
    assert real.usage.loaded_bytes is not None
    assert all(peak is not None for peak in told)
    assert real.memory.peak_bytes is not None
    assert real.memory.peak_bytes >= max(peak or 0 for peak in told) > 10 * MEGABYTE


def test_a_lap_tells_what_was_used_since_the_last() -> None:
    memory = PeakMemory(torch.device("cpu"))
    before = memory.lap()
    assert before is not None
    held = torch.ones(25 * MEGABYTE)
    high = memory.lap()
    del held
    low = memory.lap()
    memory.lap()
    after = memory.lap()
    assert high is not None
    assert low is not None
    assert after is not None
    assert high - before > 80 * MEGABYTE
    assert high - after > 80 * MEGABYTE
    assert (memory.read().peak_bytes or 0) >= high


def test_windows_has_a_peak_without_the_module_that_others_ask(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Windows has no `resource`, and psutil knows the largest working set there."""
    monkeypatch.setattr(measurement, "_reset_high_water_mark", lambda: False)
    monkeypatch.setattr(measurement.sys, "platform", "win32")
    monkeypatch.setitem(sys.modules, "resource", None)
    peak = SimpleNamespace(peak_wset=123, rss=45)
    monkeypatch.setattr(measurement.psutil.Process, "memory_info", lambda process: peak)
    assert PeakMemory(torch.device("cpu")).read() == Memory(
        peak_bytes=123, kind="process high-water mark since the process started"
    )


def test_an_unwound_part_leaves_the_stage_that_broke() -> None:
    stopwatch = Stopwatch(torch.device("cpu"))
    with (
        pytest.raises(MemoryError),
        stopwatch.stage("denoise"),
        stopwatch.part("unet"),
    ):
        raise MemoryError
    assert stopwatch.broken_in == "denoise"
    assert stopwatch.parts == {}


def test_utilization_of_a_gpu_is_read_at_every_step(monkeypatch: pytest.MonkeyPatch) -> None:
    cpu, gpu = torch.device("cpu"), torch.device("cuda", 0)
    assert gpu_utilization(cpu) is None
    readings = iter((50, 100))
    monkeypatch.setattr(torch.cuda, "utilization", lambda device: next(readings))
    stopwatch = Stopwatch(cpu)
    stopwatch.device = gpu
    monkeypatch.setattr(torch.cuda, "synchronize", lambda device: None)
    stopwatch.step(0.1)
    stopwatch.step(0.1)
    assert stopwatch.usage().gpu_percent == 75

    def no_driver(device: torch.device) -> int:
        raise ModuleNotFoundError("pynvml")

    monkeypatch.setattr(torch.cuda, "utilization", no_driver)
    assert gpu_utilization(gpu) is None
    stopwatch.step(0.1)
    assert stopwatch.usage().gpu_percent is None


def test_runs_are_kept_with_it_and_older_ones_have_none(tmp_path: Path) -> None:
    run = run_of(unet(), vae())
    text = dump(run, tmp_path)
    assert load(Run, text, tmp_path) == run
    start = text.index(',"usage":')
    older = text[:start] + text[text.index(',"reason"', start) :]
    loaded = load(Run, older, tmp_path)
    assert loaded.usage == Usage()
    assert bottlenecks(loaded) == ()
    assert "By part" not in run_card.facts(loaded, SLOTS)


@pytest.mark.parametrize(
    ("run", "sentence", "hint"),
    [
        (run_of(unet()), "The UNet takes 70% of the time (20 calls).", "Guidance doubles"),
        (run_of(unet(), acted=("min-sigma",)), "The UNet takes", "Fewer steps"),
        (run_of(unet(), guidance_scale=1.0), "The UNet takes", "Fewer steps"),
        (run_of(unet(cpu_seconds=0.7)), "The UNet takes", "It kept 1.0 of 2 threads busy"),
        (run_of(unet(cpu_seconds=0.7), device="cuda:0"), "The UNet takes", "Guidance doubles"),
        (run_of(unet(seconds=0.1), vae(seconds=0.2)), "The VAE takes 20% of the time (1 call)", ""),
        (run_of(unet(name="preview")), "The preview takes 70%", "A run without previews"),
    ],
)
def test_what_takes_the_time(run: Run, sentence: str, hint: str) -> None:
    found = bottlenecks(run)[0]
    assert found.of == "time"
    assert found.sentence.startswith(sentence)
    assert found.hint.startswith(hint)
    assert bool(found.hint) == bool(hint)


@pytest.mark.parametrize(
    ("run", "sentence", "hint"),
    [
        (
            run_of(unet(), vae(), pictures=2),
            "The VAE holds the peak: it adds 0.20 GB to the 0.10 GB that stand loaded.",
            "vae-slicing=on decodes the 2 pictures one after another.",
        ),
        (run_of(unet(), vae()), "The VAE holds", "vae-tiling=tiles:128 decodes in tiles of 128"),
        (run_of(unet(), vae(), pictures=2, acted=("vae-slicing",)), "The VAE", "vae-tiling="),
        (run_of(unet(), vae(), acted=("vae-tiling",)), "The VAE holds", ""),
        (run_of(unet(peak_bytes=10**9)), "The UNet holds the peak", "guidance-batch=separate"),
        (run_of(unet(peak_bytes=10**9), guidance_scale=1.0), "The UNet", "A smaller picture"),
        (run_of(unet(peak_bytes=10**9), pictures=4), "The UNet holds", "Batches of fewer than 4"),
        (
            run_of(unet(peak_bytes=10**9), settings={"attention": "none"}),
            "The UNet holds",
            "attention=none computes whole score matrices",
        ),
        (run_of(unet(), vae(), loaded=290 * MEGABYTE), "97% of the peak is what stands loaded", ""),
        (
            run_of(unet(), vae(), loaded=290 * MEGABYTE, device="cuda:0"),
            "97% of the peak",
            "offload=model keeps",
        ),
    ],
)
def test_what_takes_the_memory(run: Run, sentence: str, hint: str) -> None:
    found = bottlenecks(run)[1]
    assert found.of == "memory"
    assert found.sentence.startswith(sentence)
    assert found.hint.startswith(hint)
    assert bool(found.hint) == bool(hint)


def test_hints_name_settings_that_exist() -> None:
    settings = {
        "vae-slicing": "on",
        "vae-tiling": "tiles:128",
        "attention": "sub-quadratic",
        "offload": "model",
        "layerwise-casting": "fp8",
        "two-pass": "latent",
        "guidance-batch": "separate",
        "min-sigma": "0.7",
    }
    assert len(configure(settings, detect("cpu")).settings) == len(settings) + 1


def test_what_was_not_measured_names_no_bottleneck() -> None:
    assert [b.of for b in bottlenecks(run_of(unet(peak_bytes=None)))] == ["time"]
    assert [b.of for b in bottlenecks(run_of(unet(), loaded=None))] == ["time"]
    assert bottlenecks(replace(run_of(unet()), outcome="failed")) == ()


def test_the_card_and_the_terminal_say_the_same() -> None:
    run = run_of(unet(), vae())
    shown = run_card.facts(run, SLOTS)
    for line in lines(run):
        for sentence in line.split(". "):
            assert sentence in shown
    assert lines(run)[0] == "UNet 0.70 s in 20 calls, 2.0 cores busy, peak 0.15 GB"
    assert lines(run)[2] == "whole run 1.00 s, 2.0 cores busy"
