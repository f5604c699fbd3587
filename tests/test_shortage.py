"""When memory runs out: told by the allocator's own error, freed, and made by the next rung."""

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers.models.autoencoders.vae import Decoder

from core.diffusion import DiffusersEngine
from core.ladder import LADDER, Choice, steps_down, told
from core.models import resolve
from core.optimizations import SLOTS, configure
from core.picture_file import read
from core.platforms import detect
from core.receipt import load
from core.request import Following, Job, Request, Watch
from core.run import Run
from core.shortage import SteppingEngine, ran_out, run_stepping_down
from tests.fake_engine import MODEL, PLATFORM, FakeEngine
from webapp import run_card


def too_much() -> torch.Tensor:
    """More than any address space has: the allocator's own refusal."""
    return torch.empty(2**60, dtype=torch.uint8)


def test_every_allocators_refusal_is_known() -> None:
    with pytest.raises(RuntimeError, match="DefaultCPUAllocator") as refused:
        too_much()
    assert ran_out(refused.value)
    assert ran_out(MemoryError())
    assert ran_out(torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"))
    assert ran_out(RuntimeError("MPS backend out of memory (MPS allocated: 18.00 GB)"))
    assert ran_out(RuntimeError("std::bad_alloc"))
    assert ran_out(RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling create"))
    assert not ran_out(RuntimeError("mat1 and mat2 shapes cannot be multiplied"))
    assert not ran_out(ValueError("out of memory"))


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> DiffusersEngine:
    return DiffusersEngine(detect("cpu"), tmp_path_factory.mktemp("pictures"))


@pytest.fixture
def decodes(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Latents in a call of the VAE's decoder; above the number that a test appends first, its
    allocation is refused."""
    calls: list[int] = []
    plain = Decoder.forward

    def forward(self: Any, sample: torch.Tensor, *more: Any) -> torch.Tensor:
        count = sample.shape[0] * sample.shape[2] * sample.shape[3]
        calls.append(count)
        if count > calls[0]:
            too_much()
        return plain(self, sample, *more)

    monkeypatch.setattr(Decoder, "forward", forward)
    return calls


def job_of(engine: DiffusersEngine, model: Path, *seeds: int, **settings: str) -> Job:
    asked = Request(
        prompt="a cat",
        model=resolve(str(model), Path("unused")),
        num_inference_steps=1,
        guidance_scale=1.0,
    )
    requests = tuple(dataclasses.replace(asked, seed=seed) for seed in seeds)
    return Job(id="job", requests=requests, configuration=configure(settings, engine.platform))


def test_a_batch_is_made_in_smaller_steps_and_its_receipts_say_so(
    engine: DiffusersEngine, tiny_model_path: Path, decodes: list[int]
) -> None:
    decodes.append(8 * 8)
    job = job_of(engine, tiny_model_path, 1, 2)
    runs = run_stepping_down(engine, job, Following(), engine.platform)
    assert [run.outcome for run in runs] == ["ok", "ok"]
    assert [p.request.seed for run in runs for p in run.pictures] == [1, 2]
    # Refused: both, the first of both, and one alone; then tiles of 8 latents for each picture.
    assert decodes[1:4] == [2 * 256, 256, 256]
    assert set(decodes[4:]) <= set(range(1, 65))
    for run in runs:
        assert run.job.configuration.get("vae-tiling") == "tiles:64"
        assert run.effective.notes == (
            "Memory ran out while decoding: made with vae-slicing=on instead of off.",
            "Memory ran out while decoding: made with 1 picture at a time instead of 2.",
            "Memory ran out while decoding: made with vae-tiling=tiles:64 instead of off.",
        )
        tiling = run.effective.slot("vae-tiling")
        assert tiling is not None
        assert tiling.effect == "applied"
        path = run.pictures[0].path
        assert path is not None
        receipt = load(read(path).texts.receipt)
        assert receipt.effective.notes == run.effective.notes
        assert receipt.configuration == run.job.configuration
        assert "vae-tiling=tiles:64 instead of off" in run_card.facts(run, SLOTS)
    again = engine.run(runs[0].job, Following())
    assert again.pictures == runs[0].pictures


def test_without_a_further_rung_the_run_fails_in_one_sentence(
    engine: DiffusersEngine, tiny_model_path: Path, decodes: list[int]
) -> None:
    decodes.append(0)
    job = job_of(engine, tiny_model_path, 1, **{"vae-tiling": "tiles:64"})
    (run,) = run_stepping_down(engine, job, Following(), engine.platform)
    assert (run.outcome, run.shortage, run.pictures) == ("failed", "decode", ())
    assert run.reason.startswith("cpu ran out of memory: make the picture or the batch smaller")
    assert len(decodes) == 2
    assert engine.pool._pipelines == {}


class Short(FakeEngine):
    """Memory runs out in a stage for some jobs."""

    def __init__(self, stage: str, short: Any, outcome: Any = "failed") -> None:
        super().__init__()
        self.stage, self.short, self.ends = stage, short, outcome
        self.asked: list[Job] = []

    def run(self, job: Job, watch: Watch) -> Run:
        self.asked.append(job)
        made = super().run(job, watch)
        if not self.short(job):
            return made
        shortage = self.stage if self.ends == "failed" else ""
        return dataclasses.replace(made, outcome=self.ends, pictures=(), shortage=shortage)


def fake_job(count: int, **settings: str) -> Job:
    asked = Request(prompt="x", model=MODEL, num_inference_steps=1)
    requests = tuple(dataclasses.replace(asked, seed=seed) for seed in range(count))
    return Job(id="job", requests=requests, configuration=configure(settings, PLATFORM))


def test_what_the_first_pictures_needed_the_next_ones_have_at_once() -> None:
    engine = Short("denoise", lambda job: len(job.requests) > 2)
    runs = run_stepping_down(engine, fake_job(7), Following(), PLATFORM)
    assert [len(job.requests) for job in engine.asked] == [7, 4, 2, 2, 2, 1]
    assert [p.request.seed for run in runs for p in run.pictures] == list(range(7))
    assert len({run.job.id for run in runs}) == len(runs)
    assert {len(run.job.notes) for run in runs} == {2}


def test_a_queue_keeps_a_batch_together() -> None:
    engine = Short("denoise", lambda job: job.configuration.get("attention") == "none")
    job = fake_job(2, attention="none")
    run = SteppingEngine(engine, PLATFORM).run(job, Following())
    assert (run.outcome, len(run.pictures)) == ("ok", 2)
    assert run.job.configuration.get("attention") == "sub-quadratic"
    assert run.job.id == job.id
    tried = Short("denoise", lambda job: True)
    assert SteppingEngine(tried, PLATFORM).run(fake_job(2), Following()).outcome == "failed"
    assert all(len(job.requests) == 2 for job in tried.asked)


@pytest.mark.parametrize(
    ("stage", "outcome"), [("denoise", "cancelled"), ("", "failed"), ("save", "failed")]
)
def test_other_ends_are_not_tried_again(stage: str, outcome: str) -> None:
    engine = Short(stage, lambda job: True, outcome)
    (run,) = run_stepping_down(engine, fake_job(4), Following(), PLATFORM)
    assert (run.outcome, len(engine.asked)) == (outcome, 1)


def test_an_engine_alone_changes_no_setting(
    engine: DiffusersEngine, tiny_model_path: Path, decodes: list[int]
) -> None:
    """So that a row of an audit never has another row's pictures."""
    decodes.append(0)
    job = job_of(engine, tiny_model_path, 1, 2)
    run = engine.run(job, Following())
    assert (run.outcome, run.shortage, run.job) == ("failed", "decode", job)


def test_the_ladder_ends_and_every_rung_says_what_it_changes() -> None:
    """On a machine that can do everything, from the most that can be asked for."""
    able = dataclasses.replace(
        PLATFORM, capabilities={"own-memory": None, "float32": None, "cuda": None}
    )
    request = fake_job(1).requests[0]
    request = dataclasses.replace(request, width=256, height=256)
    choice = Choice(configuration=configure({"attention": "none"}, able), batch_size=4)
    for stage in ("decode", "denoise", "load"):
        taken = []
        while (lower := next(steps_down(choice, request, able, stage), None)) is not None:
            taken.append(told(choice, lower))
            choice = lower
            assert len(taken) < 20
        if stage == "decode":
            assert taken == [
                "vae-slicing=on instead of off",
                "2 pictures at a time instead of 4",
                "1 picture at a time instead of 2",
                "offload=model instead of off",
                "attention=sub-quadratic instead of none",
                "vae-tiling=tiles:128 instead of off",
                "vae-tiling=tiles:64 instead of tiles:128",
                "offload=sequential instead of model",
            ]
        else:
            denoise = [
                "guidance-batch=separate instead of off",
                "layerwise-casting=fp8 instead of off",
            ]
            assert taken == (denoise if stage == "denoise" else [])
    assert len({rung.name for rung in LADDER}) == len(LADDER)


def test_a_rung_that_cannot_run_here_is_left_out() -> None:
    here = detect("cpu")
    request = fake_job(1).requests[0]
    choice = Choice(configuration=configure({}, here), batch_size=1)
    lower = list(steps_down(choice, request, here, "decode"))
    assert [told(choice, one) for one in lower] == ["vae-tiling=tiles:64 instead of off"]


def test_tiles_of_the_models_own_size_become_smaller_ones(tiny_model_path: Path) -> None:
    here = detect("cpu")
    model = resolve(str(tiny_model_path), Path("unused"))
    request = Request(prompt="x", model=model, width=512, height=512)
    choice = Choice(configuration=configure({"vae-tiling": "auto"}, here), batch_size=1)
    lower = list(steps_down(choice, request, here, "decode"))
    assert [told(choice, one) for one in lower] == ["vae-tiling=tiles:64 instead of auto"]
