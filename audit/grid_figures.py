"""What a grid's cells cost and how far each is from the one it is compared with."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from audit.divergence import first_differing_step
from audit.drift import compare
from audit.pictures import LoadPicture
from audit.score import Comparison
from core.grid import Cell, Grid
from core.run import Outcome, Run


@dataclass(frozen=True, kw_only=True)
class CellFigures:
    """One cell whose job has ended."""

    outcome: Outcome
    seconds: float | None = None
    """Denoising and decoding, of this one run; None where there is no picture."""
    is_reference: bool = False
    """Whether others are compared with it, and it with nothing."""
    comparison: Comparison | None = None
    """None where nothing was compared; `why_not` then says why."""
    first_differing_step: int | None = None
    """From 1; 0 where the noise differs, None where no step was recorded to differ."""
    why_not: str = ""
    without_effect: tuple[str, ...] = ()
    """Settings that were asked for and did nothing, or fell back; what was counted decides."""
    notes: tuple[str, ...] = ()
    """Why the picture was made with other settings than its cell's, where it was."""


def figures(cell: Cell, runs: Mapping[str, Run], load: LoadPicture) -> CellFigures | None:
    """None while the cell, or what it is compared with, is not there yet."""
    run, reference = runs.get(cell.job.id), runs.get(cell.reference)
    if run is None or reference is None:
        return None
    if run.outcome != "ok" or not run.pictures:
        return CellFigures(outcome=run.outcome, why_not=run.reason or "No picture was made.")
    made = CellFigures(
        outcome="ok",
        seconds=run.timings.picture,
        is_reference=cell.reference == cell.job.id,
        without_effect=tuple(s.slot for s in run.effective.slots if s.effect != "applied"),
        notes=run.job.notes,
    )
    if made.is_reference:
        return made
    why_not, comparison, step = "", None, None
    if reference.outcome != "ok" or not reference.pictures:
        why_not = "What it would be compared with was not made."
    elif _size(run) != _size(reference):
        why_not = "Another size than what it would be compared with."
    else:
        try:
            comparison = compare(reference.pictures[0], run.pictures[0], load)
            step = first_differing_step(reference.pictures[0], run.pictures[0])
        except (OSError, ValueError) as error:
            why_not = f"Not compared: {error}."
    return replace(made, comparison=comparison, first_differing_step=step, why_not=why_not)


def document(
    grid: Grid,
    runs: Mapping[str, Run],
    found: Mapping[str, CellFigures | None],
    *,
    paths: bool = True,
) -> dict[str, object]:
    """The grid as one JSON document; cells that are not there yet have no outcome.

    Without `paths` it names no file: where a server keeps its pictures is nobody's business.
    """
    return {
        "axes": [{"name": axis.name, "values": list(axis.values)} for axis in grid.axes],
        "against": grid.against,
        "cells": [
            {
                **_cell(grid, cell, runs.get(cell.job.id), found[cell.job.id]),
                **({"path": _path(runs.get(cell.job.id))} if paths else {}),
            }
            for cell in grid.cells
        ],
    }


def _cell(grid: Grid, cell: Cell, run: Run | None, known: CellFigures | None) -> dict[str, object]:
    request = cell.job.requests[0]
    picture = run.pictures[0] if run and run.pictures else None
    compared = known.comparison if known else None
    return {
        "labels": [{"axis": name, "value": value} for name, value in grid.labels(cell)],
        "id": cell.job.id,
        "compared_with": cell.reference,
        "seed": request.seed,
        "configuration": cell.job.configuration.as_dict(),
        "outcome": run.outcome if run else None,
        "pixels_sha256": picture.pixels_sha256 if picture else None,
        "seconds": known.seconds if known else None,
        "peak_memory_bytes": run.memory.peak_bytes if run else None,
        "is_reference": known.is_reference if known else False,
        "drift": {
            "verdict": compared.verdict,
            "ssim": compared.ssim,
            "ssim_worst_tile": compared.ssim_worst_tile,
            "delta_e_mean": compared.delta_e_mean,
            "delta_e_worst_tile": compared.delta_e_worst_tile,
            "phash": compared.phash,
            "max_abs": compared.max_abs,
        }
        if compared
        else None,
        "first_differing_step": known.first_differing_step if known else None,
        "why_not": known.why_not if known else "",
        "without_effect": list(known.without_effect) if known else [],
        "notes": list(known.notes) if known else [],
    }


def _size(run: Run) -> tuple[int, int]:
    return run.pictures[0].request.width, run.pictures[0].request.height


def _path(run: Run | None) -> str | None:
    path = run.pictures[0].path if run and run.pictures else None
    return str(path) if path else None
