"""A picture's file and its receipt against a rerun: is it what it says, and if not, why not."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from audit.causes import Difference, differences
from audit.divergence import equal, first_differing_step
from audit.metrics import METRICS, Rgb, measure
from audit.score import DriftVerdict, Gate
from audit.units import counted
from audit.verdicts import GATES, drift_verdict
from core.picture_file import PictureFile
from core.platforms import Platform
from core.receipt import Receipt
from core.run import Picture, Run


@dataclass(frozen=True, kw_only=True)
class Edit:
    """Where a file's pixels are not the original's."""

    pixels: int
    left: int
    top: int
    right: int
    """The first column that is not touched any more; so is `bottom` the first row."""
    bottom: int
    levels: int
    """The largest change of a channel, of 255."""


@dataclass(frozen=True, kw_only=True)
class Verification:
    """What a rerun says about a picture."""

    verdict: DriftVerdict
    """The file's pixels against the rerun's."""
    reasons: tuple[str, ...]
    metrics: dict[str, float]
    """By name, as in `audit.metrics`; empty where the two have different sizes."""
    reproduced: bool
    """Whether the rerun has the final latents and the pixels that the receipt names."""
    intact: bool | None
    """Whether the file has the pixels that the receipt names; None where its format is lossy."""
    edit: Edit | None
    """Where it was edited; None where it was not, and where that cannot be told."""
    first_differing_step: int | None
    """As in `audit.divergence`."""
    differences: tuple[Difference, ...]


def verification(
    receipt: Receipt,
    file: PictureFile,
    run: Run,
    pixels: Rgb,
    platform: Platform,
    gates: tuple[Gate, ...] = GATES,
) -> Verification:
    """Judge a finished rerun of the receipt's batch; `pixels` are its picture's."""
    made, again = receipt.picture, run.pictures[receipt.position]
    reproduced = equal(made, again)
    intact = file.pixels_sha256 == receipt.pixels_sha256
    unlike = differences(receipt, run, platform)
    metrics = _metrics(file, again, pixels)
    edit = None
    if file.lossless and not intact and again.pixels_sha256 == receipt.pixels_sha256 and metrics:
        edit = _edit(file.pixels, pixels)
    return Verification(
        verdict=drift_verdict(metrics, gates) if metrics else "different",
        reasons=(
            _rerun(made, again),
            *_file(receipt, file, intact, edit),
            *([] if reproduced else _causes(unlike)),
            *_idle(run),
        ),
        metrics=metrics,
        reproduced=reproduced,
        intact=intact if file.lossless else None,
        edit=edit,
        first_differing_step=first_differing_step(made, again),
        differences=unlike,
    )


def _metrics(file: PictureFile, again: Picture, pixels: Rgb) -> dict[str, float]:
    if file.pixels.shape != pixels.shape:
        return {}
    if file.pixels_sha256 == again.pixels_sha256:
        return {metric.name: metric.identical for metric in METRICS}
    return measure(file.pixels, pixels)


def _edit(file: Rgb, original: Rgb) -> Edit:
    apart = np.abs(file.astype(np.int16) - original.astype(np.int16)).max(axis=2)
    rows, columns = np.nonzero(apart)
    return Edit(
        pixels=len(rows),
        left=int(columns.min()),
        top=int(rows.min()),
        right=int(columns.max()) + 1,
        bottom=int(rows.max()) + 1,
        levels=int(apart.max()),
    )


def _rerun(made: Picture, again: Picture) -> str:
    """Where the rerun parts from the receipt, in one sentence."""
    steps = len(again.step_sha256s)
    parted = first_differing_step(made, again)
    if equal(made, again):
        if made.step_sha256s == again.step_sha256s and made.noise_sha256 == again.noise_sha256:
            return (
                f"The rerun has every bit that the receipt names: noise, {counted(steps, 'step')}, "
                "final latents and pixels."
            )
        return (
            "The rerun has the final latents and the pixels that the receipt names, and other "
            "noise or steps than it names."
        )
    if parted == 0:
        return (
            "The initial noise differs already: the random generator gave other numbers for this "
            "seed, or the receipt's seed is not the picture's."
        )
    ending = ", and still ends in equal pixels" if made.pixels_sha256 == again.pixels_sha256 else ""
    if parted is not None:
        return f"The rerun first parts from the receipt at step {parted} of {steps}{ending}."
    if made.latents_sha256 == again.latents_sha256:
        return "The rerun has the receipt's final latents; only their decoding to pixels differs."
    return f"The rerun has other final latents; the receipt does not say from which step{ending}."


def _file(receipt: Receipt, file: PictureFile, intact: bool, edit: Edit | None) -> Iterator[str]:
    """What was done to the file since."""
    height, width = file.pixels.shape[:2]
    if (width, height) != (receipt.request.width, receipt.request.height):
        yield (
            f"The file has {width} × {height} pixels and the picture had "
            f"{receipt.request.width} × {receipt.request.height}: it was cropped or resized."
        )
    elif not file.lossless:
        yield (
            f"The file is a lossy {file.format}: its pixels are not the original's, so it is "
            "compared by how it looks; the receipt's digest is of the lossless original."
        )
    elif edit is not None:
        where = (
            f"at column {edit.left}, row {edit.top}"
            if edit.pixels == 1
            else f"in columns {edit.left} to {edit.right - 1}, rows {edit.top} to {edit.bottom - 1}"
        )
        yield (
            f"The file was edited after it was made: {edit.pixels:,} of {width * height:,} pixels "
            f"differ, {where} (from 0), by at most {edit.levels} of 255 levels."
        )
    elif not intact:
        yield (
            "The file was edited after it was made: its pixels are not the ones that the receipt "
            "names. Which ones cannot be told, because the rerun is not the original either."
        )


def _causes(unlike: tuple[Difference, ...]) -> Iterator[str]:
    if not unlike:
        yield (
            "Nothing that the receipt records differs here, and the bits do: these settings may "
            "not repeat (an audit can tell), or the receipt was changed after the picture was made."
        )
    for difference in unlike:
        yield f"Possible cause: {difference.sentence}"


def _idle(run: Run) -> Iterator[str]:
    """Settings that are named and did nothing, or something else."""
    for slot in run.effective.slots:
        if slot.effect != "applied":
            word = "had no effect" if slot.effect == "none" else "fell back"
            yield f"{slot.slot}={slot.requested} {word} in the rerun: {slot.reason}."
