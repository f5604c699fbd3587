"""How score matrices are cut, by the published rules; and what free memory does to it."""

import math
from collections import Counter
from collections.abc import Callable

import psutil
import pytest
import torch
from diffusers import StableDiffusionPipeline

from core.optimizations import slice_budget
from core.optimizations.attention import BACKENDS
from core.optimizations.attention.backend import Backend
from core.optimizations.attention.doggettx import DOGGETTX
from core.optimizations.attention.invokeai import INVOKEAI
from core.optimizations.attention.observation import Observation
from core.optimizations.attention.slicing import Allowance, Cut, Part, Shape
from core.optimizations.attention.split_v1 import SPLIT_V1
from core.optimizations.attention.sub_quadratic import QUERY_CHUNK, SUB_QUADRATIC, chunks
from core.optimizations.slice_budget import GPU_ELEMENTS, Budget, free_bytes
from core.record import SlotRecord
from core.run import Effective, SlotEffect
from tests.tiny_run import tiny_job, tiny_run

BY_BUDGET = [backend for backend in BACKENDS if backend.slicing and backend.slicing.of_free]
by_budget = pytest.mark.parametrize("backend", BY_BUDGET, ids=lambda backend: backend.name)


def shape_of(
    rows: int, queries: int, keys: int, element_size: int = 4, part: Part = "unet"
) -> Shape:
    return Shape(part, (1, rows, queries, 40), keys, element_size)


def cut_of(backend: Backend, shape: Shape, slice_bytes: int, free: int | None = None) -> Cut:
    assert backend.slicing
    return backend.slicing.cut(shape, Allowance(slice_bytes, free))


def seen(result: Effective, slot: str) -> SlotEffect:
    effect = result.slot(slot)
    assert effect is not None
    return effect


def test_three_options_cut_by_a_budget() -> None:
    assert {backend.name for backend in BY_BUDGET} == {"doggettx", "invokeai", "sub-quadratic"}


@pytest.mark.parametrize(
    ("queries", "keys", "budget_in_scores", "slice_queries"),
    [
        (4096, 4096, 1.0, 4096),
        (4096, 4096, 0.99, 2048),
        (4096, 4096, 0.5, 2048),
        (4096, 4096, 0.49, 1024),
        (4096, 77, 1 / 64, 64),
        # What does not come out even leaves a remainder, which is a slice too.
        (63, 61, 0.25, 15),
        (3, 61, 0.01, 1),
    ],
)
def test_doggettx_doubles_its_slices(
    queries: int, keys: int, budget_in_scores: float, slice_queries: int
) -> None:
    shape = shape_of(8, queries, keys)
    cut = cut_of(DOGGETTX, shape, int(shape.score_bytes * budget_in_scores))
    assert cut == Cut(8, slice_queries, keys)


def test_a_remainder_is_a_slice() -> None:
    assert Cut(8, 15, 61).slices(shape_of(8, 63, 61)) == 5
    assert Cut(2, 63, 20).slices(shape_of(5, 63, 61)) == 3 * 4


def test_doggettx_slices_the_vae_only_evenly() -> None:
    even, odd = shape_of(1, 256, 256, part="vae"), shape_of(1, 289, 289, part="vae")
    assert cut_of(DOGGETTX, even, even.score_bytes // 4) == Cut(1, 64, 256)
    assert cut_of(DOGGETTX, odd, odd.score_bytes // 4) == odd.whole


def test_doggettx_refuses_more_than_64_slices_of_free_memory() -> None:
    shape = shape_of(8, 4096, 4096)
    assert cut_of(DOGGETTX, shape, shape.score_bytes // 64, free=10**9).queries == 64
    with pytest.raises(RuntimeError, match=r"128 slices with 1\.00 GB free.* at most 64: make the"):
        cut_of(DOGGETTX, shape, shape.score_bytes // 65, free=10**9)
    # A budget that says nothing about memory is no reason to give up, and the VAE never is one.
    assert cut_of(DOGGETTX, shape, shape.score_bytes // 65).queries == 32
    vae = shape_of(1, 4096, 4096, part="vae")
    assert cut_of(DOGGETTX, vae, vae.score_bytes // 65, free=10**9).queries == 32


@pytest.mark.parametrize(
    ("rows", "queries", "budget_in_scores", "expected"),
    [
        (16, 4096, 1.0, (16, 4096)),
        (16, 4096, 0.5, (8, 4096)),
        (16, 4096, 0.49, (4, 4096)),
        (16, 4096, 1 / 16, (1, 4096)),
        # Sixteen parts for less than sixteen rows: queries are cut, and all rows stay together.
        (15, 4096, 1 / 16, (15, 256)),
        (5, 63, 0.25, (1, 63)),
        (3, 63, 0.25, (3, 15)),
        (1, 3, 0.01, (1, 1)),
    ],
)
def test_invokeai_cuts_rows_before_queries(
    rows: int, queries: int, budget_in_scores: float, expected: tuple[int, int]
) -> None:
    shape = shape_of(rows, queries, 77)
    cut = cut_of(INVOKEAI, shape, int(shape.score_bytes * budget_in_scores))
    assert (cut.rows, cut.queries) == expected


def test_split_v1_takes_two_rows_whatever_they_take() -> None:
    shape = shape_of(7, 4096, 4096)
    assert cut_of(SPLIT_V1, shape, 1) == cut_of(SPLIT_V1, shape, 2**40) == Cut(2, 4096, 4096)
    assert Cut(2, 4096, 4096).slices(shape) == 4


@pytest.mark.parametrize(
    ("rows", "queries", "keys", "elements", "expected"),
    [
        (2, 4096, 4096, 2 * 1024 * 4096, (QUERY_CHUNK, 4096)),
        (2, 1024, 1024, 2 * 1024 * 256, (1024, 256)),
        (2, 100, 77, 2 * 100 * 77, (100, 77)),
        # Below √keys the chunk of queries gives way, and one query stays even without a budget.
        (1, 100, 100, 500, (50, 10)),
        (1, 100, 100, 0, (1, 10)),
    ],
)
def test_sub_quadratic_cuts_keys_and_then_queries(
    rows: int, queries: int, keys: int, elements: int, expected: tuple[int, int]
) -> None:
    assert chunks(rows, queries, keys, elements) == expected
    assert cut_of(SUB_QUADRATIC, shape_of(rows, queries, keys), 4 * elements) == Cut(
        rows, *expected
    )


def test_a_budget_follows_from_shapes_and_device() -> None:
    on_cpu, half = shape_of(4, 64, 77), shape_of(4, 64, 77, element_size=2)
    assert Budget().allowance(on_cpu, 0.7) == Allowance(4 * 64 * 77 * 4 // 4)
    assert Budget().allowance(half, 0.7) == Allowance(4 * 64 * 77 * 2 // 4)
    for device in ("cuda:0", "mps"):
        on_gpu = Shape("unet", (1, 4, 64, 40), 77, 2, device)
        assert Budget().allowance(on_gpu, 0.7) == Allowance(GPU_ELEMENTS * 2)
        assert Budget(share=0.5).allowance(on_gpu, 0.7) == Allowance(4 * 64 * 77 * 2 // 2)


@pytest.mark.parametrize(
    ("backend", "element_size", "part", "divisor"),
    [
        (DOGGETTX, 4, "unet", 2.5),
        (DOGGETTX, 2, "unet", 3),
        (DOGGETTX, 2, "vae", 2.5),
        (INVOKEAI, 2, "unet", 3.3),
        (SUB_QUADRATIC, 2, "unet", 1 / 0.7),
    ],
)
def test_a_slice_gets_the_published_part_of_free_memory(
    backend: Backend, element_size: int, part: Part, divisor: float
) -> None:
    asked = []

    def free(device: torch.device) -> int:
        asked.append(device)
        return 10**9

    shape = shape_of(8, 4096, 4096, element_size, part)
    assert backend.slicing
    assert backend.slicing.of_free
    allowance = Budget(free=free).allowance(shape, backend.slicing.of_free(shape))
    assert allowance == Allowance(int(10**9 / divisor), 10**9)
    assert asked == [torch.device("cpu")]


def test_free_memory_on_a_gpu_counts_what_torch_holds_unused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    device = torch.device("cuda:0")
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda asked: (5_000, 90_000))
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda asked: 700)
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda asked: 300)
    assert free_bytes(device) == 5_400


def test_free_memory_elsewhere_is_the_machines(monkeypatch: pytest.MonkeyPatch) -> None:
    assert 0 < free_bytes(torch.device("cpu")) < psutil.virtual_memory().total
    assert 0 < free_bytes(torch.device("mps")) < psutil.virtual_memory().total


Neighbour = Callable[..., None]


@pytest.fixture
def neighbour(monkeypatch: pytest.MonkeyPatch) -> Neighbour:
    """Another program, which leaves so many bytes free: at each call the next, then the last."""

    def leave(*free: int) -> None:
        left = list(free)
        monkeypatch.setattr(
            slice_budget, "free_bytes", lambda device: left.pop(0) if len(left) > 1 else left[0]
        )

    return leave


@by_budget
def test_a_neighbour_that_takes_memory_makes_more_slices(
    shared_pipeline: StableDiffusionPipeline, neighbour: Neighbour, backend: Backend
) -> None:
    job = tiny_job(seeds=(1, 2), attention=backend.name, slice_budget="free-memory")
    slices = []
    for free in (16_000_000, 2_000_000, 500_000):
        neighbour(free)
        effective = tiny_run(shared_pipeline, job).effective
        attention, budget = seen(effective, "attention"), seen(effective, "slice-budget")
        slices.append(attention.counts["slices"])
        assert attention.effect == ("none" if free == 16_000_000 else "applied"), attention.reason
        assert budget.effect == "applied"
        assert budget.counts["calls"] == attention.counts["calls"]
        for counts in (attention.counts, budget.counts):
            assert counts["smallest_free_bytes"] == counts["largest_free_bytes"] == free
            assert free / 3.4 < counts["smallest_budget_bytes"] <= counts["largest_budget_bytes"]
            assert counts["largest_budget_bytes"] <= 0.7 * free
    assert slices[0] < slices[1] < slices[2]
    assert slices[0] == attention.counts["calls"]


def test_memory_that_shrinks_within_a_run_is_recorded(
    shared_pipeline: StableDiffusionPipeline, neighbour: Neighbour
) -> None:
    """Shapes that were watched before the change are watched again under their new cut."""
    job = tiny_job(seeds=(1, 2), attention="doggettx", slice_budget="free-memory")
    neighbour(*[16_000_000] * 14, 500_000)
    attention = seen(tiny_run(shared_pipeline, job).effective, "attention")
    assert attention.effect == "applied", attention.reason
    assert attention.counts["smallest_free_bytes"] == 500_000
    assert attention.counts["largest_free_bytes"] == 16_000_000
    assert attention.counts["calls_watched"] > 7
    assert attention.operators["_softmax"] == attention.counts["slices"]


def test_too_little_free_memory_is_an_error_with_advice(
    shared_pipeline: StableDiffusionPipeline, neighbour: Neighbour
) -> None:
    neighbour(1_000)
    job = tiny_job(attention="doggettx", slice_budget="free-memory")
    with pytest.raises(RuntimeError, match="close other programs"):
        tiny_run(shared_pipeline, job)


@by_budget
def test_a_share_is_kept_by_every_option_that_cuts_by_one(
    shared_pipeline: StableDiffusionPipeline, backend: Backend
) -> None:
    job = tiny_job(seeds=(1, 2), attention=backend.name, slice_budget="share:0.1")
    effective = tiny_run(shared_pipeline, job).effective
    attention, budget = seen(effective, "attention"), seen(effective, "slice-budget")
    assert (attention.effect, budget.effect) == ("applied", "applied")
    assert attention.counts["slices"] >= 8 * attention.counts["calls"]
    largest = 4 * 2 * 256 * 256 * 4
    assert budget.counts["largest_budget_bytes"] == int(0.1 * largest)
    assert attention.counts["largest_slice_bytes"] <= budget.counts["largest_budget_bytes"]
    assert "largest_free_bytes" not in budget.counts


def test_auto_uses_the_budget_too(shared_pipeline: StableDiffusionPipeline) -> None:
    job = tiny_job(attention="auto", slice_budget="share:0.1")
    budget = seen(tiny_run(shared_pipeline, job).effective, "slice-budget")
    assert budget.effect == "applied"
    assert "invokeai" in budget.reason


@pytest.mark.parametrize("attention", ["sdp", "sdp-no-mem", "none", "split-v1"])
@pytest.mark.parametrize("value", ["share:0.1", "free-memory"])
def test_a_budget_that_nobody_asks_for_does_nothing(
    shared_pipeline: StableDiffusionPipeline, attention: str, value: str
) -> None:
    job = tiny_job(seeds=(1, 2), attention=attention, slice_budget=value)
    effective = tiny_run(shared_pipeline, job).effective
    budget = seen(effective, "slice-budget")
    assert (budget.effect, budget.counts) == ("none", {})
    assert budget.reason.startswith(f"{attention} asked for no budget")
    assert seen(effective, "attention").effect == "applied"


def test_a_budget_without_an_attention_option_does_nothing(
    shared_pipeline: StableDiffusionPipeline,
) -> None:
    effect = seen(
        tiny_run(shared_pipeline, tiny_job(slice_budget="share:0.1")).effective, "slice-budget"
    )
    assert (effect.effect, bool(effect.reason)) == ("none", True)


@by_budget
def test_slices_that_give_the_bits_of_the_whole_are_applied(backend: Backend) -> None:
    """Equal queries and whole numbers leave nothing to round: the effect is what was counted."""
    q, k = torch.zeros(1, 4, 64, 16), torch.zeros(1, 4, 64, 16)
    v = torch.arange(4 * 64 * 16.0).reshape(1, 4, 64, 16) % 32
    whole, sliced = (Observation(backend, Budget(share=share)) for share in (1, 0.25))
    with torch.no_grad():
        outs = [o.call("unet", q, k, v, 1 / math.sqrt(16)) for o in (whole, sliced)]
    assert torch.equal(*outs)
    effects = []
    for observation in (whole, sliced):
        notes = SlotRecord("attention", backend.name)
        observation.conclude(notes)
        effects.append(notes.freeze().effect)
    assert effects == ["none", "applied"]


def test_extremes_are_the_smallest_and_the_largest() -> None:
    allowances = [Allowance(7, 30), Allowance(5, 40), Allowance(9, 20)]
    assert Counter(slice_budget.extremes(allowances)) == {
        "smallest_budget_bytes": 5,
        "largest_budget_bytes": 9,
        "smallest_free_bytes": 20,
        "largest_free_bytes": 40,
    }
