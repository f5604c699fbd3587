"""Attention options on a real GPU. Their rules are tested without one in the other files."""

import math

import pytest
import torch

from core.optimizations import OPTIMIZATIONS, availability
from core.optimizations.attention import BACKENDS
from core.optimizations.attention.auto import choose
from core.optimizations.attention.backend import Backend
from core.optimizations.attention.observation import Observation
from core.optimizations.slice_budget import Budget, free_bytes
from core.platforms import detect

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
@pytest.mark.parametrize("backend", BACKENDS, ids=lambda backend: backend.name)
def test_a_kernel_is_attention(backend: Backend, dtype: torch.dtype) -> None:
    (option,) = (o for o in OPTIMIZATIONS if o.slot == "attention" and o.name == backend.name)
    if reason := availability(option, detect("cuda:0")):
        pytest.skip(reason)
    generator = torch.Generator().manual_seed(3)
    q, k, v = (torch.randn(2, 5, n, 40, generator=generator) for n in (63, 77, 77))
    q, k, v = (x.to("cuda:0", dtype) for x in (q, k, v))
    expected = (q.double() @ k.double().transpose(-1, -2) / math.sqrt(40)).softmax(-1) @ v.double()
    observation = Observation(backend, Budget(share=0.2))
    with torch.no_grad():
        out = observation.call("unet", q, k, v, 1 / math.sqrt(40)).double()
    error = float((out - expected).norm() / expected.norm())
    assert error <= (2e-6 if dtype == torch.float32 else 1e-2)
    (seen,) = observation.seen.values()
    assert seen.slices >= 3 or backend.slicing is None


def test_auto_takes_doggettx() -> None:
    assert choose(torch.device(detect().device).type)[0].name == "doggettx"


def test_ballast_is_missed_in_free_memory() -> None:
    device = torch.device("cuda:0")
    before = free_bytes(device)
    ballast = torch.empty(2**26, device=device, dtype=torch.uint8)
    held = free_bytes(device)
    del ballast
    assert before - held >= 2**26
    # torch keeps the block, and it counts as free again.
    assert free_bytes(device) - held >= 2**26
