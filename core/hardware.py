"""What a device's memory and matrix units allow, in plain words, from facts that were looked at.

Generations of tensor cores are those of NVIDIA's CUDA C++ Programming Guide (compute capabilities)
and of its architecture whitepapers; names of CPU abilities are Linux's, from /proc/cpuinfo.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil
import torch

from core.platforms import Platform
from core.sizes import gigabytes

_CPUINFO = Path("/proc/cpuinfo")
SD15_NUMBERS = 860 * 10**6 + 123 * 10**6 + 84 * 10**6
"""Weights of Stable Diffusion 1.5: UNet, text encoder and VAE."""


@dataclass(frozen=True, kw_only=True)
class Hardware:
    """Facts about one device, beside those of its `Platform`."""

    cpu_flags: frozenset[str] | None = None
    """As Linux names them; None where this system does not tell."""
    compute_capability: tuple[int, int] | None = None
    """Of an NVIDIA GPU."""
    free_bytes: int | None = None
    """Of the device's memory, at this moment."""


@dataclass(frozen=True, kw_only=True)
class Generation:
    """NVIDIA GPUs from this compute capability on, until the next."""

    since: tuple[int, int]
    name: str
    formats: str
    """What its tensor cores multiply; empty where it has none."""


GENERATIONS: tuple[Generation, ...] = (
    Generation(since=(0, 0), name="older than Volta", formats=""),
    Generation(since=(7, 0), name="Volta", formats="fp16"),
    Generation(since=(7, 5), name="Turing", formats="fp16 and int8"),
    Generation(since=(8, 0), name="Ampere", formats="fp16, bf16, TF32 and int8"),
    Generation(since=(8, 9), name="Ada", formats="fp16, bf16, TF32, int8 and fp8"),
    Generation(since=(9, 0), name="Hopper", formats="fp16, bf16, TF32, int8 and fp8"),
    Generation(since=(10, 0), name="Blackwell", formats="fp16, bf16, TF32, int8, fp8 and fp4"),
)
_WITHOUT_TENSOR_CORES = ("GTX 16", "MX450", "MX550", "T400", "T500", "T600", "T1000", "T1200")
"""Turing GPUs that NVIDIA built without them, by their names."""


def look(platform: Platform) -> Hardware:
    """Read the facts of the platform's device."""
    device = torch.device(platform.device)
    if device.type == "cuda":
        nvidia = torch.version.hip is None
        return Hardware(
            compute_capability=torch.cuda.get_device_capability(device) if nvidia else None,
            free_bytes=torch.cuda.mem_get_info(device)[0],
        )
    flags = cpu_flags(_CPUINFO.read_text()) if _CPUINFO.exists() else None
    return Hardware(cpu_flags=flags, free_bytes=psutil.virtual_memory().available)


def cpu_flags(cpuinfo: str) -> frozenset[str] | None:
    """From the text of /proc/cpuinfo; x86 calls the line `flags`, ARM `Features`."""
    for line in cpuinfo.splitlines():
        name, colon, value = line.partition(":")
        if colon and name.strip() in ("flags", "Features"):
            return frozenset(value.split())
    return None


def in_words(platform: Platform, hardware: Hardware) -> tuple[str, ...]:
    """One sentence a fact: matrix units first, then memory."""
    kind = torch.device(platform.device).type
    units = {"cpu": _cpu_units, "cuda": _gpu_units, "mps": _apple_units}
    return (*units[kind](platform, hardware), *_memory(platform, hardware, kind))


def _cpu_units(platform: Platform, hardware: Hardware) -> Iterator[str]:
    widths = {"AVX512": 16, "AVX2": 8}
    if width := widths.get(platform.instruction_set):
        yield (
            f"torch computes with {platform.instruction_set} kernels: {width} float32 numbers in "
            "one instruction."
        )
    else:
        yield f"torch computes with its {platform.instruction_set} kernels."
    flags = hardware.cpu_flags
    if flags is None:
        yield "Which matrix units this CPU has, this system does not tell."
        return
    if "avx512f" in flags and platform.instruction_set == "AVX2":
        yield "The CPU has AVX-512 as well, which torch did not choose here."
    if "amx_tile" in flags:
        formats = [name for flag, name in _AMX.items() if flag in flags]
        listed = " and ".join(formats)
        yield f"It has matrix units (AMX) for {listed}." if listed else "It has matrix units (AMX)."
    if flags & _BF16_FLAGS:
        yield "It multiplies bf16 in hardware, so that precision=bf16 can save time and memory."
    else:
        yield "It has no bf16 arithmetic: precision=bf16 saves memory and may cost much time."
    if not flags & _FP16_FLAGS:
        yield "It has no fp16 arithmetic: precision=fp16 is for GPUs."


_AMX = {"amx_bf16": "bf16", "amx_fp16": "fp16", "amx_int8": "int8"}
_BF16_FLAGS = frozenset({"avx512_bf16", "amx_bf16", "bf16"})
_FP16_FLAGS = frozenset({"avx512_fp16", "amx_fp16", "asimdhp"})


def _gpu_units(platform: Platform, hardware: Hardware) -> Iterator[str]:
    capability = hardware.compute_capability
    if capability is None:
        yield "An AMD GPU: which matrix units it has, torch does not tell."
        return
    generation = [known for known in GENERATIONS if known.since <= capability][-1]
    number = f"compute capability {capability[0]}.{capability[1]}"
    bare = generation.name == "Turing" and any(
        name in platform.device_name for name in _WITHOUT_TENSOR_CORES
    )
    if bare or not generation.formats:
        yield (
            f"{number}, {generation.name}: no tensor cores, so that precision=fp16 saves memory "
            "and hardly any time."
        )
        return
    yield f"{number}, {generation.name}: tensor cores for {generation.formats}."
    if "bf16" not in generation.formats:
        yield "No bf16 units: choose fp16, and fp32 where its range is too small."
    if "fp8" in generation.formats:
        yield "layerwise-casting=fp8 stores weights in 8 bits; it computes in the chosen precision."


def _apple_units(platform: Platform, hardware: Hardware) -> Iterator[str]:
    yield "An Apple GPU by Metal: fp16 takes half of fp32's memory; it has no TF32 and no fp8."


def _memory(platform: Platform, hardware: Hardware, kind: str) -> Iterator[str]:
    whose = {"cpu": "The machine", "cuda": "The GPU", "mps": "The GPU may use"}[kind]
    has = "" if kind == "mps" else " has"
    free = hardware.free_bytes
    now = "" if free is None else f", {gigabytes(free)} of it free now"
    if kind == "mps":
        now = "" if free is None else f"; the machine has {gigabytes(free)} free now"
    yield f"{whose}{has} {gigabytes(platform.memory_bytes)} of memory{now}."
    bytes_each = 4 if platform.dtype == "float32" else 2
    weights = SD15_NUMBERS * bytes_each
    rest = platform.memory_bytes - weights
    size = f"The weights of a Stable Diffusion 1.5 take {gigabytes(weights)} in {platform.dtype}"
    if rest > 0:
        yield f"{size}, which leaves {gigabytes(rest)} at most for pictures."
    elif kind == "cuda":
        yield f"{size}, more than there is: offload keeps parts in the computer's memory."
    else:
        yield f"{size}, more than there is: layerwise-casting stores the UNet's in 8 or 16 bits."
    if kind == "mps":
        yield "It shares the computer's memory, so that moving parts out of the GPU frees none."
