"""What would make an option available that this machine cannot run, as one sentence."""

from collections.abc import Mapping

from core.optimization import Optimization
from core.platforms import Platform

REMEDIES: Mapping[str, str] = {
    "cpu": "Start Seedproof where torch sees no GPU: these are for pictures made on a CPU.",
    "cuda": "With such a GPU in the machine, install the build of torch that was made for it.",
    "mps": "On a Mac with an Apple GPU, install a torch that was built with Metal.",
    "cudnn": "The builds of torch for NVIDIA and AMD GPUs bring what is missing.",
    "tf32": "NVIDIA's generations Ampere, Ada, Hopper and Blackwell have it.",
    "own-memory": "Without one there is nowhere to move parts to: a smaller precision, slices and "
    "tiles save memory everywhere.",
    "float32": "Reinstall torch for this device: it could not compute in its usual format.",
    "bfloat16": "Use another device, or a newer torch: this one does not compute in bf16 here.",
    "float16": "Use another device, or a newer torch: this one does not compute in fp16 here.",
}
"""By capability of `core.platforms.CAPABILITIES`."""


def remedy(option: Optimization, platform: Platform) -> str:
    """How to get an option that is not available here; empty where its reason says all there is.

    A probe that failed says itself what is missing, a package for instance.
    """
    unmet = (name for name in sorted(option.needs) if platform.capabilities.get(name))
    return next((REMEDIES[name] for name in unmet), "")
