"""Which axes a platform can vary at all."""

from audit.score import AXES, Axis
from core.instruction_sets import smaller
from core.platforms import Platform


def not_applicable(platform: Platform) -> dict[Axis, str]:
    """The axes that cannot be varied on this platform, each with the one sentence why."""
    reasons = {axis: _why_not(axis, platform) for axis in AXES}
    return {axis: reason for axis, reason in reasons.items() if reason}


def _why_not(axis: Axis, platform: Platform) -> str:
    if axis == "threads" and platform.cores == 1:
        return "there is one core, and no second thread that could share its work"
    if axis == "instruction-set" and platform.device != "cpu":
        return f"pictures are computed on {platform.device}, and only a CPU's kernels have sets"
    if axis == "instruction-set" and not smaller(platform.instruction_set):
        return f"torch has no smaller kernels here than {platform.instruction_set}"
    return ""
