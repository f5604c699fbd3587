"""The numerics slots: global switches of torch that decide how numbers are computed.

Each is set for one job, read inside the calls of the UNet and the VAE's decoder, and put back.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

import torch

from core.optimization import Optimization, Probe, Slot, Surround
from core.optimizations.unet_calls import watching_first_layers
from core.record import Record
from core.request import Job

if TYPE_CHECKING:
    from diffusers import StableDiffusionPipeline

Acts = Callable[[torch.Tensor], str | None]
"""Why the switch means nothing to a call with this input, or None where it acts."""


@contextmanager
def _tf32(allowed: bool, parameter: float | None) -> Iterator[None]:
    """Matrix products and cudnn's convolutions. torch keeps each switch under an old and a new name
    and refuses to read the old one where they disagree; the new one alone tells `none` from
    `ieee`. So both are put back, the old one first, because it writes the new one as well."""
    matmul: Any = torch.backends.cuda.matmul
    cudnn: Any = torch.backends.cudnn
    places = (matmul, cudnn.conv, cudnn.rnn)
    former = [place.fp32_precision for place in places]
    former_allowed = (matmul.allow_tf32, cudnn.allow_tf32)
    matmul.allow_tf32, cudnn.allow_tf32 = allowed, allowed
    try:
        yield
    finally:
        matmul.allow_tf32, cudnn.allow_tf32 = former_allowed
        for place, precision in zip(places, former, strict=True):
            place.fp32_precision = precision


def _tf32_stands(allowed: bool) -> bool:
    switches = (torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32)
    return switches == (allowed, allowed)


@contextmanager
def _cudnn(name: str, parameter: float | None) -> Iterator[None]:
    former = getattr(torch.backends.cudnn, name)
    setattr(torch.backends.cudnn, name, True)
    try:
        yield
    finally:
        setattr(torch.backends.cudnn, name, former)


def _cudnn_stands(name: str) -> bool:
    return bool(getattr(torch.backends.cudnn, name))


@contextmanager
def _deterministic(warn_only: bool, parameter: float | None) -> Iterator[None]:
    """By the one function that tells the compiler too, there and back."""
    former = torch.are_deterministic_algorithms_enabled()
    former_warn_only = torch.is_deterministic_algorithms_warn_only_enabled()
    torch.use_deterministic_algorithms(True, warn_only=warn_only)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(former, warn_only=former_warn_only)


def _deterministic_stands(warn_only: bool) -> bool:
    return torch.are_deterministic_algorithms_enabled() and (
        torch.is_deterministic_algorithms_warn_only_enabled() == warn_only
    )


def on_cuda(x: torch.Tensor) -> str | None:
    return None if x.device.type == "cuda" else f"cudnn computes nothing on {x.device.type}"


def in_float32_on_cuda(x: torch.Tensor) -> str | None:
    if x.device.type != "cuda":
        return f"there is no TF32 on {x.device.type}"
    if x.dtype != torch.float32:
        return f"TF32 stands in for float32 only, and the numbers were {x.dtype}".replace(
            "torch.", ""
        )
    return None


def everywhere(x: torch.Tensor) -> str | None:
    return None


@contextmanager
def patched(
    slot: str,
    stands: Callable[[], bool],
    acts: Acts,
    pipeline: "StableDiffusionPipeline",
    job: Job,
    parameter: float | None,
    record: Record,
) -> Iterator[None]:
    """Read the switch inside every call."""
    notes = record.slot(slot, job.configuration.get(slot))
    missing: dict[str, None] = {}

    def see(part: str, x: torch.Tensor) -> None:
        notes.counts[f"{part}_calls_{'under_it' if stands() else 'without_it'}"] += 1
        if why := acts(x):
            missing[why] = None
            notes.counts["calls_it_means_nothing_to"] += 1

    try:
        with watching_first_layers(pipeline, see):
            yield
    finally:
        counts = notes.counts
        under = counts["unet_calls_under_it"] + counts["vae_calls_under_it"]
        without = counts["unet_calls_without_it"] + counts["vae_calls_without_it"]
        if without:
            notes.conclude("fell-back", f"{without} of {under + without} calls ran without it")
        elif not under:
            notes.conclude("none", "neither the UNet nor the VAE was called")
        elif counts["calls_it_means_nothing_to"] == under:
            notes.conclude("none", "; ".join(missing))
        else:
            notes.conclude("applied")


def _option(
    slot: str,
    name: str,
    summary: str,
    changes: str,
    surround: Surround,
    stands: Callable[[], bool],
    *,
    acts: Acts = everywhere,
    needs: str = "",
    probe: Probe | None = None,
) -> Optimization:
    return Optimization(
        slot=slot,
        name=name,
        summary=summary,
        changes=changes,
        needs=frozenset({needs} if needs else ()),
        probe=probe,
        surround=surround,
        patch=partial(patched, slot, stands, acts),
    )


def _tf32_option(name: str, allowed: bool, summary: str, changes: str) -> Optimization:
    return _option(
        "tf32",
        name,
        summary,
        changes,
        partial(_tf32, allowed),
        partial(_tf32_stands, allowed),
        acts=in_float32_on_cuda,
        needs="tf32",
    )


def _cudnn_option(flag: str, summary: str, changes: str) -> Optimization:
    return _option(
        f"cudnn-{flag}",
        "on",
        summary,
        changes,
        partial(_cudnn, flag),
        partial(_cudnn_stands, flag),
        acts=on_cuda,
        needs="cudnn",
    )


def _probe_deterministic(device: torch.device, dtype: torch.dtype) -> None:
    """A matrix product: before cuBLAS works, older torch wants a variable that only the start of a
    program can set. No setting of a run can, so that it is a reason not to be available."""
    x = torch.ones(8, 8, device=device, dtype=dtype)
    with _deterministic(False, None):
        try:
            (x @ x).sum().item()
        except RuntimeError as error:
            if "CUBLAS_WORKSPACE_CONFIG" in str(error):
                raise RuntimeError(
                    "needs CUBLAS_WORKSPACE_CONFIG=:4096:8 in the environment that the program "
                    "is started in"
                ) from error
            raise


def _deterministic_option(name: str, warn_only: bool, summary: str) -> Optimization:
    return _option(
        "deterministic-algorithms",
        name,
        summary,
        "Time, on GPUs; what cuBLAS may choose is decided when the program starts, not here.",
        partial(_deterministic, warn_only),
        partial(_deterministic_stands, warn_only),
        probe=_probe_deterministic,
    )


TF32 = Slot(
    name="tf32",
    label="TF32",
    options=(
        _tf32_option(
            "on",
            True,
            "Matrix products and convolutions of float32 may round their factors to 10 bits.",
            "Rounding, about as coarse as float16's.",
        ),
        _tf32_option(
            "never",
            False,
            "No TF32 anywhere; by itself torch allows it in convolutions.",
            "Time, in convolutions of float32.",
        ),
    ),
)

CUDNN_BENCHMARK = Slot(
    name="cudnn-benchmark",
    label="cuDNN benchmark",
    options=(
        _cudnn_option(
            "benchmark",
            "cuDNN tries its convolutions on each new shape and keeps the fastest.",
            "Repeatability: what is fastest is measured anew in every process.",
        ),
    ),
)

CUDNN_DETERMINISTIC = Slot(
    name="cudnn-deterministic",
    label="cuDNN deterministic",
    options=(
        _cudnn_option(
            "deterministic",
            "cuDNN takes only convolutions that it promises to repeat bit for bit.",
            "Time.",
        ),
    ),
)

DETERMINISTIC_ALGORITHMS = Slot(
    name="deterministic-algorithms",
    label="Deterministic algorithms",
    options=(
        _deterministic_option(
            "strict",
            False,
            "torch's deterministic operators; one that has none stops the run.",
        ),
        _deterministic_option(
            "warn",
            True,
            "torch's deterministic operators; one that has none runs with a warning.",
        ),
    ),
)
