"""What the page of the machine says: live figures, runs over time, and what cannot run here."""

import asyncio
import os
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import gradio as gr
import psutil
import pytest
import torch

from core.optimizations import OPTIMIZATIONS, availability, configure
from core.platforms import CAPABILITIES
from core.remedies import REMEDIES, remedy
from core.request import Following, Job, Request
from core.run import Memory, Part, Run, Timings, Usage
from core.store import Store
from core.worker import WorkerEngine
from tests.fake_engine import MODEL, PLATFORM, FakeEngine, FakeWorkers
from webapp import machine_card, visitors
from webapp.audits import Audits
from webapp.findings import Findings
from webapp.grids import Grids
from webapp.jobs import JobQueue
from webapp.machine_page import MachinePage, freed
from webapp.policy import Policy
from webapp.services import Services
from webapp.usage_plots import memory_bars, tick_step, time_bars, time_plot
from webapp.utilization import WINDOW, Sample, Sampler

SECRET = "0123456789abcdef" * 2
NO_REQUEST: Any = SimpleNamespace()
"""Without accounts nothing is read of it."""
CPU = torch.device("cpu")


def run_of(name: str = "j", *, unet: float = 0.7, peak: int | None = 300, **asked: object) -> Run:
    """A run whose parts took this long, 1 s together with what is no part's."""
    request = replace(
        Request(prompt="nobody's business", model=MODEL, num_inference_steps=2),
        **asked,  # type: ignore[arg-type]
    )
    job = Job(id=name, requests=(request,), configuration=configure({}, PLATFORM))
    parts = (
        Part(name="text-encoder", calls=1, seconds=0.05, cpu_seconds=0.1, peak_bytes=110),
        Part(name="unet", calls=4, seconds=unet, cpu_seconds=1.4, peak_bytes=200),
        Part(name="guidance", calls=2, seconds=0.02, cpu_seconds=0.02, peak_bytes=150),
        Part(name="preview", calls=2, seconds=0.03, cpu_seconds=0.03, peak_bytes=150),
        Part(name="vae", calls=1, seconds=0.1, cpu_seconds=0.2, peak_bytes=peak),
    )
    return replace(
        FakeEngine().run(job, Following()),
        timings=Timings(load=9.0, encode=0.05, denoise=unet + 0.1, decode=0.1, save=0.05),
        memory=Memory(peak_bytes=peak, kind="made up"),
        usage=Usage(parts=parts, loaded_bytes=100, seconds=10.0, cpu_seconds=2.0),
    )


@pytest.fixture
def services(tmp_path: Path) -> Iterator[Services]:
    with Store(tmp_path / "seedproof.db") as store:
        jobs = JobQueue(FakeEngine(), store.add_generation)
        audits = Audits(store, PLATFORM, FakeWorkers(), jobs)
        yield Services(
            platform=PLATFORM,
            model=MODEL,
            store=store,
            jobs=jobs,
            grids=Grids(store, jobs),
            audits=audits,
            findings=Findings(store),
            plans=tmp_path,
            reports=tmp_path,
        )
        audits.close()
        jobs.close()


def page_of(services: Services, **changes: object) -> MachinePage:
    """Built inside a running loop: outside one, Gradio makes loops and never closes them."""

    async def inside() -> MachinePage:
        with gr.Blocks(analytics_enabled=False):
            return MachinePage(replace(services, **changes))  # type: ignore[arg-type]

    return asyncio.run(inside())


# Runs over time


def test_a_bar_has_every_second_of_its_run_and_none_of_loading() -> None:
    (bar,) = time_bars([run_of()])
    assert dict(bar.parts) == pytest.approx(
        {
            "text encoder": 0.05,
            "UNet": 0.7,
            "guidance arithmetic": 0.02,
            "VAE": 0.1,
            "everything else": 0.13,
        }
    )
    assert sum(value for _, value in bar.parts) == pytest.approx(1.0)


def test_memory_is_what_stood_loaded_and_what_was_added() -> None:
    (bar,) = memory_bars([run_of(), run_of(peak=None)])
    assert dict(bar.parts) == {"stands loaded": 100, "added by the work": 200}


def test_bars_are_as_high_as_their_figures() -> None:
    drawn = str(time_plot(time_bars([run_of(unet=0.3), run_of(unet=0.6)])))
    heights = [float(h) for h in re.findall(r'class="strong"[^>]* height="([\d.]+)"', drawn)]
    assert heights[1] == pytest.approx(2 * heights[0], rel=0.01)
    assert "UNet 0.60 s" in drawn
    assert time_plot(()) == ""


@pytest.mark.parametrize(
    ("top", "step"), [(1.0, 0.5), (0.8, 0.2), (4.0, 1.0), (4.1, 2.0), (9e8, 5e8), (0.003, 0.001)]
)
def test_at_most_four_steps_reach_the_top(top: float, step: float) -> None:
    assert tick_step(top) == pytest.approx(step)


def test_the_latest_kind_of_run_comes_first_and_each_is_told_apart(services: Services) -> None:
    for run in (
        run_of("a", unet=0.1),
        run_of("b", width=256),
        run_of("c", schedule="Karras"),
        run_of("d", unet=0.5),
        replace(run_of("e"), outcome="failed"),
        replace(run_of("f"), usage=Usage()),
    ):
        services.store.add_generation(run, visitors.owner(SECRET))
    kind, shown, *_ = asyncio.run(page_of(services)._opened(NO_REQUEST, SECRET))
    (first, _), *others = kind.choices
    assert first.startswith("128 × 128 px, 2 steps of Euler, attention=sdp")
    assert len(others) == 2
    assert any("Karras schedule" in name for name, _ in others)
    assert 'data-count="2"' in shown
    assert shown.index("UNet 0.10 s") < shown.index("UNet 0.50 s")
    wide = next(name for name, _ in others if name.startswith("256"))
    assert 'data-count="1"' in asyncio.run(page_of(services)._chosen(NO_REQUEST, wide, SECRET))
    assert "nobody" not in str(kind.choices) + shown


def test_where_strangers_come_each_sees_runs_of_their_own_and_nothing_live(
    services: Services,
) -> None:
    services.store.add_generation(run_of("theirs"), "visitor:another")
    page = page_of(services, policy=Policy(metrics=False, unload=False))
    _, shown, *_ = asyncio.run(page._opened(NO_REQUEST, SECRET))
    assert shown == machine_card.NO_RUNS
    services.store.add_generation(run_of("mine"), visitors.owner(SECRET))
    _, shown, *_ = asyncio.run(page._opened(NO_REQUEST, SECRET))
    assert 'data-count="1"' in shown
    assert not page.timer.active
    assert not page.unload.visible


def test_figures_are_medians_and_the_bottleneck_is_the_latest_runs() -> None:
    runs = [run_of(unet=unet) for unet in (0.3, 0.5, 9.0)]
    shown = machine_card.runs_card(runs)
    assert re.search(r"UNet</td>.*?0\.50 s</td>.*?62%</td>.*?4</td>", shown)
    assert "The UNet takes 97% of the time" in shown


# Now


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_the_sampler_measures_this_process() -> None:
    clock = Clock()
    sampler = Sampler(CPU, os.getpid, clock)
    (first,) = sampler.look()
    assert (first.cpu_share, first.worker_cores) == (None, None)
    before = psutil.Process().cpu_times()
    while sum(psutil.Process().cpu_times()[:2]) - sum(before[:2]) < 0.2:
        pass
    clock.now = 2.0
    *_, second = sampler.look()
    used = sum(psutil.Process().cpu_times()[:2]) - sum(before[:2])
    assert second.worker_cores is not None
    assert 0.2 / 2 <= second.worker_cores <= (used + 0.2) / 2
    assert second.cpu_share is not None
    assert 0 < second.cpu_share <= 1
    assert second.worker_bytes == pytest.approx(psutil.Process().memory_info().rss, rel=0.5)
    assert 0 < second.memory_bytes < second.memory_total
    assert second.gpu_total is None


def test_many_visitors_share_a_sample_and_old_ones_go() -> None:
    clock = Clock()
    sampler = Sampler(CPU, lambda: None, clock)
    assert sampler.look() == sampler.look()
    clock.now = 30.0
    assert len(sampler.look()) == 2
    clock.now = WINDOW + 10
    assert [sample.at for sample in sampler.look()] == [30.0, WINDOW + 10]


def test_no_worker_and_a_gone_worker_are_told_as_none() -> None:
    assert Sampler(CPU, lambda: None).look()[0].worker_bytes is None
    assert Sampler(CPU, lambda: 2**22 - 1).look()[0].worker_bytes is None


def test_a_gpu_is_asked_for_both_its_memory_and_how_busy_it_is(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(torch.cuda, "utilization", lambda device: 40)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (6 * 10**9, 8 * 10**9))
    (sample,) = Sampler(torch.device("cuda:0"), lambda: None).look()
    assert (sample.gpu_share, sample.gpu_bytes, sample.gpu_total) == (0.4, 2 * 10**9, 8 * 10**9)
    shown = machine_card.live([sample], "")
    assert "40%" in shown
    assert "2.00 GB of 8.00 GB" in shown


def sample(**changes: object) -> Sample:
    made = Sample(
        at=0.0,
        cpu_share=0.5,
        memory_bytes=4 * 10**9,
        memory_total=16 * 10**9,
        worker_bytes=10**9,
        worker_cores=1.5,
    )
    return replace(made, **changes)  # type: ignore[arg-type]


def test_live_figures_in_words() -> None:
    shown = machine_card.live([sample(), sample(at=60.0, cpu_share=1.0)], "Nothing is being made.")
    assert "<b>100%</b>" in shown
    assert "4.00 GB of 16.0 GB" in shown or "4.00 GB of 16.00 GB" in shown
    assert "holds 1.00 GB, 1.5 cores busy" in shown
    assert 'points="120.0,16.0 240.0,2.0"' in shown
    assert "measuring" in machine_card.live([sample(cpu_share=None)], "")
    assert "is not running" in machine_card.live([sample(worker_bytes=None)], "")


def test_what_the_queue_does_in_words() -> None:
    assert machine_card.queue_words(0, 0, False) == "Nothing is being made."
    assert machine_card.queue_words(1, 1, True) == (
        "A picture is being made. 1 picture waits. An audit runs."
    )


# Unloading


def test_a_worker_that_unloads_is_another_process_and_works_on(tmp_path: Path) -> None:
    worker = WorkerEngine(pictures=tmp_path, lease_folder=tmp_path)
    try:
        worker.wait_until_ready()
        before = worker.pid
        worker.unload()
        assert worker.alive
        assert worker.pid != before
        job = Job(
            id="j",
            requests=(Request(prompt="x", model=MODEL),),
            configuration=configure({}, PLATFORM),
        )
        # The fake's model is nowhere: a sentence comes back, so the process answers.
        assert worker.run(job, Following()).outcome == "failed"
        assert worker.alive
    finally:
        worker.close()


def test_unloading_waits_for_nobodys_picture_and_says_what_came_back(services: Services) -> None:
    calls: list[str] = []
    worker = SimpleNamespace(pid=os.getpid(), unload=lambda: calls.append("unload"))
    page = page_of(services, worker=worker)
    said, _ = asyncio.run(page._unload(NO_REQUEST, SECRET))
    assert calls == ["unload"]
    assert "before" in said
    busy = SimpleNamespace(busy=True)
    page = page_of(services, worker=worker, jobs=busy)
    said, _ = asyncio.run(page._unload(NO_REQUEST, SECRET))
    assert calls == ["unload"]
    assert "A picture is being made" in said


def test_who_may_not_unload_cannot(services: Services) -> None:
    worker = SimpleNamespace(pid=os.getpid(), unload=lambda: pytest.fail("unloaded"))
    page = page_of(services, worker=worker, policy=Policy(unload=False))
    assert asyncio.run(page._unload(NO_REQUEST, SECRET))[0] == ""


def test_what_was_freed_has_both_figures() -> None:
    after = sample(worker_bytes=4 * 10**8)
    assert "held 1.00 GB before, and holds 0.40 GB now" in freed(sample(), after)
    gpu = sample(gpu_bytes=3 * 10**9, gpu_total=8 * 10**9)
    assert "3.00 GB before, 1.00 GB after" in freed(gpu, replace(gpu, gpu_bytes=10**9))
    assert freed(sample(worker_bytes=None), after) == "Unloaded."


# What is not available


def test_every_ability_that_can_be_missing_says_how_to_get_it() -> None:
    assert set(REMEDIES) == {name for name, _ in CAPABILITIES}


def test_what_cannot_run_stands_with_its_reason_and_the_way_to_it() -> None:
    shown = machine_card.missing(PLATFORM)
    xformers = next(option for option in OPTIMIZATIONS if option.name == "xformers")
    assert availability(xformers, PLATFORM) is not None
    assert remedy(xformers, PLATFORM) == REMEDIES["cuda"]
    assert "xformers" in shown
    assert REMEDIES["cuda"] in shown
    gone = [option for option in OPTIMIZATIONS if availability(option, PLATFORM)]
    assert f"{len(OPTIMIZATIONS) - len(gone)} of {len(OPTIMIZATIONS)} options run here" in shown
