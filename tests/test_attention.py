"""Every attention kernel against a float64 reference."""

import math

import pytest
import torch

from core.optimizations.attention import BACKENDS
from core.optimizations.attention import sub_quadratic as sub_quadratic_file
from core.optimizations.attention.backend import Backend
from core.optimizations.attention.observation import Observation
from core.optimizations.attention.sub_quadratic import QUERY_CHUNK, SUB_QUADRATIC, chunks

pytestmark = pytest.mark.usefixtures("fake_xformers")

SHAPES = {
    "self": (2, 2, 64, 64, 32),
    "cross": (2, 2, 64, 77, 40),
    "odd tokens": (1, 3, 63, 61, 64),
    "one token": (1, 1, 1, 1, 32),
    "several query chunks": (1, 2, 1500, 300, 40),
    "vae": (1, 1, 256, 256, 16),
}
"""(batch, heads, queries, keys, head_dim)"""


def inputs(
    batch: int, heads: int, queries: int, keys: int, head_dim: int
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """N(0, 1) in the layout that the processor hands to a kernel: heads beside channels."""
    generator = torch.Generator().manual_seed(3)
    return tuple(
        torch.randn(batch, n, heads, head_dim, generator=generator).transpose(1, 2)
        for n in (queries, keys, keys)
    )


def reference(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
    q, k, v = q.double(), k.double(), v.double()
    return (q @ k.transpose(-1, -2) / math.sqrt(q.shape[-1])).softmax(-1) @ v


def relative_error(out: torch.Tensor, expected: torch.Tensor) -> float:
    return float((out.double() - expected).norm() / expected.norm())


@pytest.mark.parametrize(
    ("dtype", "limit"), [(torch.float32, 2e-6), (torch.bfloat16, 1e-2)], ids=["fp32", "bf16"]
)
@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
@pytest.mark.parametrize("backend", BACKENDS, ids=lambda backend: backend.name)
def test_a_kernel_is_attention(
    backend: Backend, shape: tuple[int, ...], dtype: torch.dtype, limit: float
) -> None:
    q, k, v = (x.to(dtype) for x in inputs(*shape))
    with torch.no_grad():
        out = backend.kernel(q, k, v, 1 / math.sqrt(q.shape[-1]))
    assert out.shape == q.shape
    assert out.dtype == dtype
    assert relative_error(out, reference(q, k, v)) <= limit


@pytest.mark.parametrize("backend", BACKENDS, ids=lambda backend: backend.name)
def test_a_kernel_survives_large_scores(backend: Backend) -> None:
    """exp(200) overflows float32: a softmax has to subtract the maximum, each chunk's too."""
    q, k, v = inputs(1, 1, 64, 64, 32)
    q, k = 20 * q, 20 * k
    with torch.no_grad():
        out = backend.kernel(q, k, v, 1 / math.sqrt(32))
    assert relative_error(out, reference(q, k, v)) < 1e-3


def test_sub_quadratic_cuts_keys_within_its_budget() -> None:
    q, k, v = inputs(1, 2, 1024, 1024, 32)
    observation = Observation(SUB_QUADRATIC)
    with torch.no_grad():
        observation.call("unet", q, k, v, 32**-0.5)
    (seen,) = observation.shapes.values()
    assert seen.slices == 4
    assert seen.budget == 2 * 1024 * 1024 * 4 // 4
    assert seen.largest_slice == seen.budget


def test_sub_quadratic_cuts_queries_where_there_are_many() -> None:
    q, k, v = inputs(1, 1, 2500, 16, 32)
    observation = Observation(SUB_QUADRATIC)
    with torch.no_grad():
        observation.call("unet", q, k, v, 32**-0.5)
    (seen,) = observation.shapes.values()
    assert seen.slices == 3 * 2
    assert seen.largest_slice <= seen.budget


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
def test_chunks(
    rows: int, queries: int, keys: int, elements: int, expected: tuple[int, int]
) -> None:
    assert chunks(rows, queries, keys, elements) == expected


def test_a_budget_depends_on_shapes_and_device_only(monkeypatch: pytest.MonkeyPatch) -> None:
    q, k, _ = inputs(2, 2, 64, 77, 40)
    assert SUB_QUADRATIC.budget(q, k) == 2 * 2 * 64 * 77 * 4 // 4
    assert SUB_QUADRATIC.budget(q.bfloat16(), k.bfloat16()) == 2 * 2 * 64 * 77 * 2 // 4
    on_gpu = SUB_QUADRATIC.budget(q.to("meta"), k.to("meta"))
    assert on_gpu == sub_quadratic_file.GPU_ELEMENTS * 4
