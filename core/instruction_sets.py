"""Instruction sets of a CPU's kernels: which are smaller than this one, and how a process is
limited to one of them."""

import os
from collections.abc import Mapping, MutableMapping
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class InstructionSet:
    """A set as torch names it, and what limits the libraries below torch to it.

    Each library reads its variables once, at its first use, from the process's environment.
    """

    name: str
    variables: Mapping[str, str]


INSTRUCTION_SETS: tuple[InstructionSet, ...] = (
    InstructionSet(name="AVX512", variables={}),
    InstructionSet(
        name="AVX2",
        variables={
            "ATEN_CPU_CAPABILITY": "avx2",
            "ONEDNN_MAX_CPU_ISA": "AVX2",
            "MKL_ENABLE_INSTRUCTIONS": "AVX2",
        },
    ),
    InstructionSet(
        name="DEFAULT",
        variables={
            "ATEN_CPU_CAPABILITY": "default",
            "ONEDNN_MAX_CPU_ISA": "SSE41",
            "MKL_CBWR": "COMPATIBLE",
        },
    ),
)
"""From the largest. What acted on an AMD CPU with AVX-512, torch 2.13.0, seen by bits: ATen's
variable on softmax, SDPA and (`default`) normal noise, oneDNN's on convolutions and GELU, MKL's
`COMPATIBLE` on matrix products. `MKL_ENABLE_INSTRUCTIONS` changed no bit there: Intel documents
it for Intel CPUs, and MKL chooses for itself on others."""


def smaller(name: str) -> tuple[str, ...]:
    """The sets below one, from the largest; empty where torch has none or the name is unknown."""
    names = [known.name for known in INSTRUCTION_SETS]
    return tuple(names[names.index(name) + 1 :]) if name in names else ()


def limit(name: str, environment: MutableMapping[str, str] = os.environ) -> None:
    """Limit this process to a set, before it computes anything. Raises ValueError for a set that
    nothing can be limited to."""
    found = next((known for known in INSTRUCTION_SETS if known.name == name), None)
    if found is None:
        known = ", ".join(known.name for known in INSTRUCTION_SETS)
        raise ValueError(f"There is no instruction set {name!r}: choose one of {known}.")
    environment.update(found.variables)


def current() -> str:
    """The set that torch's own kernels were chosen for in this process, asked of torch."""
    # Not at the top: a process limits itself before torch is there.
    import torch

    return torch.backends.cpu.get_cpu_capability()
