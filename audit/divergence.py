"""Where two runs that should agree first part."""

from audit.metrics import max_abs, ssim
from audit.pictures import LoadPicture, pixels
from audit.score import Axis, Witness
from audit.trials import Pair, Runs
from audit.units import similarity
from core.run import Environment, Picture


def equal(a: Picture, b: Picture) -> bool:
    """Whether two pictures count as the same: final latents and RGB, bit for bit."""
    return a.latents_sha256 == b.latents_sha256 and a.pixels_sha256 == b.pixels_sha256


def first_differing_step(a: Picture, b: Picture) -> int | None:
    """0 where the noise differs, else the first step (from 1) after which the latents do.

    None where steps were not captured, and where all agree, so that only decoding differs.
    """
    if a.noise_sha256 != b.noise_sha256:
        return 0
    steps = zip(a.step_sha256s, b.step_sha256s, strict=False)
    return next((n for n, (first, second) in enumerate(steps, 1) if first != second), None)


def witness(axis: Axis, pair: Pair, runs: Runs, load: LoadPicture) -> Witness:
    """What to look at to believe that an axis is broken."""
    found = pair.pictures(runs)
    if found is None:
        raise ValueError("a witness needs two finished runs")
    a, b = found
    return Witness(
        run_a=pair.first.identity,
        run_b=pair.second.identity,
        prompt=a.request.prompt,
        seed=a.request.seed,
        picture_a=a.path,
        picture_b=b.path,
        first_differing_step=first_differing_step(a, b),
        difference=f"{_conditions(axis, pair, runs)}: {_apart(a, b, load)}",
    )


def parting(witness: Witness, steps: int) -> str:
    """The first differing step in words; `steps` is the number of denoising steps."""
    step = witness.first_differing_step
    if step is None:
        return "no differing step was recorded"
    return "the initial noise differs" if step == 0 else f"first parted at step {step} of {steps}"


def _conditions(axis: Axis, pair: Pair, runs: Runs) -> str:
    first, second = (runs[entry.identity].environment for entry in (pair.first, pair.second))
    sizes = [len(entry.job.requests) for entry in (pair.first, pair.second)]
    match axis:
        case "same-process":
            return f"call 1 and call {pair.second.repeat + 1} in one process"
        case "fresh-process":
            return f"two new processes ({_came(first)} and {_came(second)})"
        case "after-other-work":
            return f"a new process and one after {second.calls_before} other job(s)"
        case "batch-size":
            return f"alone and as picture {pair.second_picture + 1} of {sizes[1]}"
        case "batch-position":
            places = (pair.first_picture + 1, pair.second_picture + 1)
            return f"picture {places[0]} and picture {places[1]} of {sizes[1]}"
        case "threads":
            return f"{first.threads} and {second.threads} threads"
        case "instruction-set":
            return f"{first.instruction_set} and {second.instruction_set} kernels"


def _came(environment: Environment) -> str:
    return {"same": "this one", "forked": "forked", "exec": "exec'd"}[environment.process]


def _apart(a: Picture, b: Picture, load: LoadPicture) -> str:
    if a.pixels_sha256 == b.pixels_sha256:
        return "equal pixels from different final latents"
    if a.latents_sha256 == b.latents_sha256:
        cause = "equal final latents, decoded differently; "
    else:
        cause = ""
    try:
        first, second = pixels(a, load), pixels(b, load)
        return (
            f"{cause}at most {max_abs(first, second):.0f} of 255 levels apart, "
            f"SSIM {similarity(ssim(first, second))}"
        )
    except (OSError, ValueError) as error:
        return f"{cause}different pixels (not measured: {error})"
