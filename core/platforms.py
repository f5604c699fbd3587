"""What this machine is and what it can really do, each ability tried by a call."""

import hashlib
import importlib.metadata
import platform as host
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import torch

from core.instruction_sets import current

LIBRARIES = ("torch", "diffusers", "transformers", "tomesd", "xformers", "numpy")


@dataclass(frozen=True, kw_only=True)
class Platform:
    """A machine as seen from this process, on one device.

    `capabilities` maps every name in `CAPABILITIES` to None where a real call succeeded, else to
    the reason it did not, in one sentence.
    """

    device: str
    """A torch device string: `cpu`, `cuda:0`, `mps`."""
    device_name: str
    memory_bytes: int
    """Memory of the device; the machine's own on a CPU."""
    cores: int
    """Physical cores this process may use."""
    threads: int
    """torch's default number of threads inside one operator."""
    instruction_set: str
    """What torch's CPU kernels were chosen for, for example `AVX512`."""
    system: str
    versions: Mapping[str, str] = field(default_factory=dict)
    capabilities: Mapping[str, str | None] = field(default_factory=dict)
    dtype: str = "float32"
    """The precision everybody uses on such a device: float16 on CUDA and MPS, float32 on a CPU."""
    answers: Mapping[str, str | None] = field(default_factory=dict)
    """What `core.optimizations.availability` answered, by `slot=name`, in a process that had the
    device, for processes that do not; empty where every process may ask the device itself."""

    def why_not(self, needs: frozenset[str]) -> str | None:
        """The first reason some need is unmet, or None where all are met."""
        for name in sorted(needs):
            if name not in self.capabilities:
                return f"this platform does not know the capability {name!r}"
            if reason := self.capabilities[name]:
                return reason
        return None

    @property
    def fingerprint(self) -> str:
        """Changes whenever pixels or timings could: device, cores, kernels, libraries."""
        parts = (
            self.device,
            self.device_name,
            str(self.memory_bytes // 10**9),
            str(self.cores),
            str(self.threads),
            self.instruction_set,
            self.system,
            *(f"{name}={version}" for name, version in sorted(self.versions.items())),
        )
        return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]


def _cuda(device: torch.device) -> None:
    if device.type != "cuda":
        raise RuntimeError("needs an NVIDIA or AMD GPU that torch can use")
    torch.ones(1, device=device).add_(1)


def _cpu(device: torch.device) -> None:
    if device.type != "cpu":
        raise RuntimeError("needs a platform that computes on the CPU")
    torch.ones(1, device=device).add_(1)


def _cudnn(device: torch.device) -> None:
    if device.type != "cuda" or not torch.backends.cudnn.is_available():
        raise RuntimeError("needs a GPU whose convolutions cuDNN or MIOpen computes")
    _works_in(torch.float32)(device)


def _tf32(device: torch.device) -> None:
    """A product large enough for tensor cores, with TF32 allowed for it."""
    if (
        device.type != "cuda"
        or torch.version.hip is not None
        or torch.cuda.get_device_capability(device) < (8, 0)
    ):
        raise RuntimeError("needs an NVIDIA GPU of compute capability 8.0 or newer (Ampere)")
    matmul = torch.backends.cuda.matmul
    former, former_allowed = matmul.fp32_precision, matmul.allow_tf32
    matmul.allow_tf32 = True
    try:
        x = torch.ones(1024, 1024, device=device)
        (x @ x).sum().item()
    finally:
        matmul.allow_tf32 = former_allowed
        matmul.fp32_precision = former


def _mps(device: torch.device) -> None:
    if device.type != "mps":
        raise RuntimeError("needs an Apple GPU (Metal)")
    torch.ones(1, device=device).add_(1)


def _own_memory(device: torch.device) -> None:
    if device.type != "cuda":
        raise RuntimeError("needs a GPU with memory of its own beside the CPU's")
    torch.ones(1).to(device).cpu()


def _works_in(dtype: torch.dtype) -> Callable[[torch.device], None]:
    def probe(device: torch.device) -> None:
        x = torch.ones(1, 8, 8, 8, device=device, dtype=dtype)
        w = torch.ones(8, 8, 3, 3, device=device, dtype=dtype)
        y = torch.nn.functional.conv2d(x, w, padding=1)
        (y.flatten(2) @ y.flatten(2).transpose(1, 2)).softmax(-1).sum().item()

    return probe


CAPABILITIES: tuple[tuple[str, Callable[[torch.device], None]], ...] = (
    ("cpu", _cpu),
    ("cuda", _cuda),
    ("mps", _mps),
    ("cudnn", _cudnn),
    ("tf32", _tf32),
    ("own-memory", _own_memory),
    ("float32", _works_in(torch.float32)),
    ("bfloat16", _works_in(torch.bfloat16)),
    ("float16", _works_in(torch.float16)),
)
"""Each name with the call that proves it. A new ability is one line here."""


def one_sentence(error: BaseException) -> str:
    """The first line of an error, with its type where it says nothing."""
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__


def detect(
    device: str | None = None, threads: int | None = None, instruction_set: str | None = None
) -> Platform:
    """Look at this machine. Probes run here, when called, and never at import.

    `threads` and `instruction_set` are what a process had, or would have, before somebody changed
    it: a platform stays the same platform whatever one job's conditions are.
    """
    target = torch.device(device or _best_device())
    capabilities: dict[str, str | None] = {}
    for name, probe in CAPABILITIES:
        try:
            probe(target)
        except Exception as error:
            capabilities[name] = one_sentence(error)
        else:
            capabilities[name] = None
    name, memory = _device_name_and_memory(target)
    return Platform(
        device=str(target),
        device_name=name,
        memory_bytes=memory,
        cores=len(psutil.Process().cpu_affinity()) if host.system() == "Linux" else _cores(),
        threads=threads or torch.get_num_threads(),
        instruction_set=instruction_set or current(),
        system=f"{host.system()} {host.machine()}",
        versions=library_versions(),
        capabilities=capabilities,
        dtype="float32" if target.type == "cpu" else "float16",
    )


def library_versions() -> dict[str, str]:
    """Installed versions of the libraries that decide pixels, and Python's."""
    versions = {"python": host.python_version()}
    for name in LIBRARIES:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    versions["torch"] = torch.__version__
    return versions


def _best_device() -> str:
    if torch.cuda.is_available():
        return "cuda:0"
    if torch.backends.mps.is_available():
        return "mps"
    return "cpu"


def _cores() -> int:
    return psutil.cpu_count(logical=False) or 1


def _device_name_and_memory(device: torch.device) -> tuple[str, int]:
    if device.type == "cuda":
        properties = torch.cuda.get_device_properties(device)
        return properties.name, properties.total_memory
    if device.type == "mps":
        return f"Apple GPU ({host.processor()})", torch.mps.recommended_max_memory()
    return _cpu_name(), psutil.virtual_memory().total


def _cpu_name() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return host.processor() or host.machine()
