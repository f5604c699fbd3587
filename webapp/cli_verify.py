"""`seedproof verify`: reruns a picture's receipt, and says how far the picture is from it."""

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from audit.score import DRIFT_VERDICTS
from audit.verdicts import meaning, rank
from core import picture_file
from core.foreign_metadata import LACKS, wrote
from core.models import resolve
from core.picture_file import PictureFile, Texts
from core.receipt import Receipt, load
from core.request import Following, Model, StepEvent
from core.worker import open_worker
from webapp.places import Places, places
from webapp.terminal import BadInput, interruptible, print_json, say, tell

if TYPE_CHECKING:
    from audit.verification import Verification

BARE = "carries no receipt: only a picture that Seedproof made, with its metadata kept, has one."


def add_to(app: typer.Typer) -> None:
    app.command()(verify)


def verify(
    image: Annotated[Path, typer.Argument(help="A picture: PNG, JPEG or WebP.")],
    require: Annotated[
        str, typer.Option(help=f"The farthest allowed: {', '.join(DRIFT_VERDICTS)}.")
    ] = "rounding",
    model: Annotated[str, typer.Option(help="pocket, or a folder.")] = "pocket",
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document.")] = False,
) -> None:
    """Rerun a picture's receipt; exits 1 where the picture is farther from it than allowed."""
    level = next((known for known in DRIFT_VERDICTS if known == require), None)
    if level is None:
        raise BadInput(f"Unknown level {require!r}: choose one of {', '.join(DRIFT_VERDICTS)}.")
    place = places(None)
    file = picture_file.read(image)
    receipt = receipt_in(file, image.name)
    found = _verified(receipt, file, _models(model, place), place)
    passed = rank(found.verdict) <= rank(level)
    if as_json:
        print_json(_document(receipt, file, found, require, passed))
    else:
        _show(image, found, require, passed)
    if not passed:
        raise typer.Exit(1)


def receipt_in(file: PictureFile, name: str) -> Receipt:
    """The file's receipt. Raises ValueError with one sentence where it has none of ours."""
    if file.texts.receipt:
        return load(file.texts.receipt)
    raise ValueError(f"{name} {unproved(file.texts)}")


def unproved(texts: Texts) -> str:
    """Why a picture without our receipt cannot be held against a rerun."""
    program = wrote(texts)
    if not program:
        return BARE
    return (
        f"has the settings of {program} (prompt, seed, steps …) and no receipt of Seedproof: "
        f"{LACKS[program]}, so there is nothing that a rerun could be held against."
    )


def _models(name: str, place: Places) -> list[Model]:
    """The one that is named, and the shipped one."""
    chosen = resolve(name, place.shipped_model)
    shipped = resolve("pocket", place.shipped_model)
    return [chosen] if chosen.digest == shipped.digest else [chosen, shipped]


def _verified(
    receipt: Receipt, file: PictureFile, models: list[Model], place: Places
) -> "Verification":
    """Rerun in a process of its own, whose pictures are thrown away."""
    from audit.calibration import gates_of
    from audit.pictures import load_picture, pixels
    from audit.rerun import rerun_job
    from audit.verification import verification
    from core.platforms import detect

    platform = detect()
    job = rerun_job(receipt, models, platform)
    with tempfile.TemporaryDirectory(prefix="seedproof-") as folder, interruptible() as stop:
        worker = open_worker(
            job.conditions, platform, pictures=Path(folder), lease_folder=place.leases
        )
        try:
            run = worker.run(job, Following(step=_progress, stop=stop.is_set))
        finally:
            worker.close()
        if run.outcome == "cancelled":
            raise KeyboardInterrupt
        if run.outcome != "ok":
            raise BadInput(f"The rerun failed: {run.reason}")
        again = pixels(run.pictures[receipt.position], load_picture)
    gates, _ = gates_of(run.job.requests[0].model)
    return verification(receipt, file, run, again, platform, gates)


def _progress(event: StepEvent) -> None:
    tell(f"  rerun: step {event.step} of {event.num_inference_steps}")


def _document(
    receipt: Receipt, file: PictureFile, found: "Verification", require: str, passed: bool
) -> dict[str, Any]:
    return {
        "verdict": found.verdict,
        "reasons": found.reasons,
        "metrics": found.metrics,
        "require": require,
        "passed": passed,
        "reproduced": found.reproduced,
        "intact": found.intact,
        "edit": found.edit,
        "first_differing_step": found.first_differing_step,
        "differences": found.differences,
        "format": file.format,
        "lossless": file.lossless,
        "pixels_sha256": file.pixels_sha256,
        "receipt": {
            "program": receipt.program,
            "prompt": receipt.request.prompt,
            "seed": receipt.request.seed,
            "model": receipt.request.model.name,
            "model_digest": receipt.request.model.digest,
            "configuration": receipt.configuration.as_dict(),
            "batch": len(receipt.requests),
            "position": receipt.position,
            "pixels_sha256": receipt.pixels_sha256,
        },
    }


def _show(image: Path, found: "Verification", require: str, passed: bool) -> None:
    say(f"{image.name}: {found.verdict} ({meaning(found.verdict)})")
    for reason in found.reasons:
        say(f"  {reason}")
    if found.verdict != "bit-exact" and found.metrics:
        figures = found.metrics
        say(
            f"  SSIM {figures['ssim']:.4f}, worst tile {figures['ssim_worst_tile']:.3f}, "
            f"at most {figures['max_abs']:.0f} of 255 levels"
        )
    if not passed:
        say(f"  farther than {require}, which --require allows")
