"""What a device allows, in words: every sentence follows from a fact, on machines made up here."""

from dataclasses import replace
from typing import Any

import pytest

from core.hardware import GENERATIONS, Hardware, cpu_flags, in_words, look
from core.platforms import Platform, detect
from tests.fake_engine import PLATFORM

GB = 10**9
AVX2 = frozenset({"avx2", "fma"})
SERVER = frozenset({"avx2", "avx512f", "avx512_bf16", "amx_tile", "amx_bf16", "amx_int8"})


def cpu(instruction_set: str = "AVX512", **changes: Any) -> Platform:
    return replace(PLATFORM, instruction_set=instruction_set, **changes)


def gpu(name: str = "NVIDIA GeForce RTX 4090", memory: int = 24 * GB) -> Platform:
    return replace(
        PLATFORM, device="cuda:0", device_name=name, memory_bytes=memory, dtype="float16"
    )


def words(platform: Platform, **facts: Any) -> str:
    return " ".join(in_words(platform, Hardware(**facts)))


@pytest.mark.parametrize(
    ("instruction_set", "flags", "said", "not_said"),
    [
        ("AVX512", SERVER, ["16 float32 numbers", "(AMX) for bf16 and int8", "multiplies bf16"],
         ["did not choose", "no bf16"]),
        ("AVX2", AVX2, ["8 float32 numbers", "no bf16 arithmetic", "no fp16 arithmetic"],
         ["AMX", "AVX-512"]),
        ("AVX2", SERVER, ["has AVX-512 as well, which torch did not choose"], ["16 float32"]),
        ("DEFAULT", frozenset({"asimd", "asimdhp", "bf16"}), ["its DEFAULT kernels",
         "multiplies bf16"], ["fp16 arithmetic", "AVX"]),
        ("AVX512", None, ["this system does not tell"], ["bf16"]),
    ],
)  # fmt: skip
def test_cpus(
    instruction_set: str, flags: frozenset[str] | None, said: list[str], not_said: list[str]
) -> None:
    text = words(cpu(instruction_set), cpu_flags=flags)
    for clause in said:
        assert clause in text
    for clause in not_said:
        assert clause not in text


@pytest.mark.parametrize(
    ("capability", "name", "units"),
    [
        ((6, 1), "GeForce GTX 1080", "6.1, older than Volta: no tensor cores"),
        ((7, 0), "Tesla V100", "7.0, Volta: tensor cores for fp16."),
        ((7, 5), "Tesla T4", "7.5, Turing: tensor cores for fp16 and int8."),
        ((7, 5), "GeForce GTX 1660 Ti", "7.5, Turing: no tensor cores"),
        ((8, 6), "RTX 3090", "8.6, Ampere: tensor cores for fp16, bf16, TF32 and int8."),
        ((8, 9), "RTX 4090", "8.9, Ada: tensor cores for fp16, bf16, TF32, int8 and fp8."),
        ((9, 0), "H100", "9.0, Hopper: "),
        ((12, 0), "RTX 5090", "12.0, Blackwell: "),
    ],
)
def test_generations_of_tensor_cores(capability: tuple[int, int], name: str, units: str) -> None:
    text = words(gpu(name), compute_capability=capability)
    assert units in text
    early = (7, 0) <= capability < (8, 0) and "tensor cores for" in units
    assert ("No bf16 units" in text) == early
    assert ("layerwise-casting=fp8" in text) == (capability >= (8, 9))


def test_generations_are_in_order() -> None:
    assert [g.since for g in GENERATIONS] == sorted(g.since for g in GENERATIONS)


def test_an_amd_gpu_is_not_given_nvidias_units() -> None:
    text = words(gpu("AMD Instinct MI300X"))
    assert "does not tell" in text
    assert "tensor cores" not in text


@pytest.mark.parametrize(
    ("platform", "said"),
    [
        (gpu(), ["24.00 GB of memory, 20.00 GB of it free now", "2.13 GB in float16",
                 "leaves 21.87 GB"]),
        (gpu(memory=2 * GB), ["more than there is: offload keeps"]),
        (cpu(memory_bytes=8 * GB), ["8.00 GB of memory", "4.27 GB in float32", "leaves 3.73 GB"]),
        (cpu(memory_bytes=4 * GB), ["more than there is: layerwise-casting"]),
    ],
)  # fmt: skip
def test_memory_is_weighed_against_the_weights_of_sd15(platform: Platform, said: list[str]) -> None:
    text = words(platform, free_bytes=20 * GB, compute_capability=(8, 9))
    for clause in said:
        assert clause in text


def test_unified_memory_frees_nothing_by_offload() -> None:
    apple = replace(PLATFORM, device="mps", memory_bytes=12 * GB, dtype="float16")
    text = words(apple, free_bytes=5 * GB)
    assert "The GPU may use 12.00 GB of memory; the machine has 5.00 GB free now." in text
    assert "moving parts out of the GPU frees none" in text
    assert "offload keeps" not in text


def test_flags_are_read_from_either_kind_of_cpu() -> None:
    x86 = "processor\t: 0\nmodel name\t: AMD\nflags\t\t: fpu avx2 avx512f\n"
    arm = "processor\t: 0\nFeatures\t: fp asimd bf16\nCPU part\t: 0xd40\n"
    assert cpu_flags(x86) == {"fpu", "avx2", "avx512f"}
    assert cpu_flags(arm) == {"fp", "asimd", "bf16"}
    assert cpu_flags("processor\t: 0\n") is None


def test_this_machine_is_looked_at() -> None:
    platform = detect("cpu")
    hardware = look(platform)
    assert hardware.compute_capability is None
    assert 0 < (hardware.free_bytes or 0) <= platform.memory_bytes
    assert platform.instruction_set in in_words(platform, hardware)[0]
