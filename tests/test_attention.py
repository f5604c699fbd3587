"""Every attention kernel against a float64 reference, in slices where the option slices."""

import math

import pytest
import torch

from core.optimizations.attention import BACKENDS
from core.optimizations.attention.auto import choose
from core.optimizations.attention.backend import Backend
from core.optimizations.attention.observation import Observation, Seen
from core.optimizations.slice_budget import Budget

pytestmark = pytest.mark.usefixtures("fake_xformers")

SHAPES = {
    "self": (2, 2, 64, 64, 32),
    "cross": (2, 2, 64, 77, 40),
    "cross, two chunks of words": (2, 2, 64, 154, 40),
    "odd rows and tokens": (1, 5, 63, 61, 64),
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


def seen_in(
    backend: Backend, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, share: float = 0.3
) -> tuple[torch.Tensor, Seen]:
    """One observed call where a slice may take this share of the score matrix."""
    observation = Observation(backend, Budget(share=share))
    with torch.no_grad():
        out = observation.call("unet", q, k, v, 1 / math.sqrt(q.shape[-1]))
    (seen,) = observation.seen.values()
    return out, seen


@pytest.mark.parametrize(
    ("dtype", "limit"), [(torch.float32, 2e-6), (torch.bfloat16, 1e-2)], ids=["fp32", "bf16"]
)
@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
@pytest.mark.parametrize("backend", BACKENDS, ids=lambda backend: backend.name)
def test_a_kernel_is_attention(
    backend: Backend, shape: tuple[int, ...], dtype: torch.dtype, limit: float
) -> None:
    q, k, v = (x.to(dtype) for x in inputs(*shape))
    out, _ = seen_in(backend, q, k, v)
    assert out.shape == q.shape
    assert out.dtype == dtype
    assert relative_error(out, reference(q, k, v)) <= limit


@pytest.mark.parametrize("device_type", ["cpu", "cuda", "mps"])
def test_what_auto_may_choose_is_attention(device_type: str) -> None:
    q, k, v = inputs(*SHAPES["self"])
    out, _ = seen_in(choose(device_type)[0], q, k, v)
    assert relative_error(out, reference(q, k, v)) <= 2e-6


@pytest.mark.parametrize("shape", ["odd rows and tokens", "cross, two chunks of words"])
@pytest.mark.parametrize(
    "backend", [b for b in BACKENDS if b.slicing], ids=lambda backend: backend.name
)
def test_an_option_that_slices_cuts_three_times_and_keeps_its_budget(
    backend: Backend, shape: str
) -> None:
    batch, heads, queries, keys, head_dim = SHAPES[shape]
    q, k, v = inputs(batch + 1, heads, queries, keys, head_dim)
    _, seen = seen_in(backend, q, k, v)
    assert seen.slices >= 3
    whole = (batch + 1) * heads * queries * keys * 4
    assert seen.largest_slice <= (0.3 * whole if backend.name != "split-v1" else whole / 2.5)


@pytest.mark.parametrize("backend", BACKENDS, ids=lambda backend: backend.name)
def test_a_kernel_survives_large_scores(backend: Backend) -> None:
    """exp(200) overflows float32: a softmax has to subtract the maximum, each chunk's too."""
    q, k, v = inputs(1, 1, 64, 64, 32)
    q, k = 20 * q, 20 * k
    out, _ = seen_in(backend, q, k, v)
    assert relative_error(out, reference(q, k, v)) < 1e-3
