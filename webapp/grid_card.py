"""A grid as the page shows it: a table of pictures, each with its drift and its time."""

from collections.abc import Sequence
from datetime import datetime
from html import escape

from audit.grid_figures import CellFigures
from audit.units import counted, similarity
from core.grid import Cell, Grid
from core.kept_grids import GridEntry
from core.run import Run
from webapp.grids import GridState
from webapp.run_card import image, url
from webapp.words import DRIFT_TONES, chip, seconds

EMPTY = (
    '<section class="sp-card sp-empty"><h2>Nothing is varied yet</h2><ol>'
    "<li>Choose what X varies, the attention for instance.</li>"
    "<li>Write its values as a list, <b>8, 20</b>, or a range, <b>1-5</b>.</li>"
    "<li>Press Make the grid: cells appear as they are made, each with how far its picture is "
    "from the first one and how long it took.</li></ol></section>"
)


def status(state: GridState, name: str) -> str:
    """Where the grid stands, and what its figures are worth."""
    total = len(state.grid.jobs)
    if state.working:
        word = chip("running", "mine")
    elif state.missing:
        word = chip(f"{len(state.missing)} not made", "care")
    else:
        word = chip("complete", "good")
    told = {
        "first": "Drift is measured against the first cell.",
        "baseline": "Drift is measured against each cell’s own picture without optimizations.",
    }[state.grid.against]
    refused = ""
    if state.refused and state.missing and not state.working:
        refused = f'<div class="sp-alert sp-bad" role="alert">{escape(state.refused)}</div>'
    return (
        f'<section class="sp-card" data-grid="{escape(state.id)}"><div class="sp-head">'
        f'<h2 class="sp-title">{escape(name)}</h2>{word}</div>'
        f'<div class="sp-progress sp-wide"><p role="status"><span class="sp-figures">'
        f"{state.done} of {counted(total, 'picture')}</span></p>"
        f'<div class="sp-bar-track"><span style="width:{state.done / total:.1%}"></span></div>'
        f'</div><p class="sp-hint">{told} Times are of one run each: enough for large differences; '
        f'for small ones there is the <a href="./audit">audit</a>.</p>{refused}</section>'
    )


def table(state: GridState) -> str:
    """X across, Y down, one table below the other for Z; cells that are not there yet are empty."""
    grid = state.grid
    cells = {cell.place: cell for cell in grid.cells}
    levels = range(len(grid.axes[2].values)) if len(grid.axes) > 2 else range(1)
    return "".join(_level(state, grid, cells, z) for z in levels)


def _level(state: GridState, grid: Grid, cells: dict[tuple[int, ...], Cell], z: int) -> str:
    across = grid.axes[0]
    headings = "".join(f'<th scope="col">{_label(across.name, v)}</th>' for v in across.values)
    rows = ""
    for y in range(len(grid.axes[1].values)) if len(grid.axes) > 1 else range(1):
        head = _label(grid.axes[1].name, grid.axes[1].values[y]) if len(grid.axes) > 1 else ""
        places = [(x, y, z)[: len(grid.axes)] for x in range(len(across.values))]
        tds = "".join(_cell(state, cells[place]) for place in places)
        side = f'<th scope="row">{head}</th>' if head else ""
        rows += f"<tr>{side}{tds}</tr>"
    corner = "<td></td>" if len(grid.axes) > 1 else ""
    title = ""
    if len(grid.axes) > 2:
        title = f"<caption>{_label(grid.axes[2].name, grid.axes[2].values[z])}</caption>"
    return (
        f'<div class="sp-card"><div class="sp-scroll"><table class="sp-grid">{title}<thead><tr>'
        f"{corner}{headings}</tr></thead><tbody>{rows}</tbody></table></div></div>"
    )


def _label(name: str, value: str) -> str:
    return f"{escape(name)} <b>{escape(value)}</b>"


def _cell(state: GridState, cell: Cell) -> str:
    run, known = state.runs.get(cell.job.id), state.figures[cell.job.id]
    asked = cell.job.requests[0]
    shape = f'style="aspect-ratio: {asked.width} / {asked.height}"'
    if run is None:
        words = "in line" if state.working else "not made"
        return f'<td><div class="sp-grid-wait" {shape}>{words}</div></td>'
    return f"<td>{_picture(state, cell, run, shape)}{_words(cell, known)}</td>"


def _picture(state: GridState, cell: Cell, run: Run, shape: str) -> str:
    path = run.pictures[0].path if run.pictures else None
    if path is None or not path.is_file():
        return f'<div class="sp-grid-wait" {shape}>{escape(run.outcome)}</div>'
    labels = ", ".join(f"{name} {value}" for name, value in state.grid.labels(cell))
    shown = image(url(path), cell.job.requests[0], escape(labels), lazy=True)
    return f'<a href="./?run={escape(cell.job.id)}" title="Open: {escape(labels)}">{shown}</a>'


def _words(cell: Cell, known: CellFigures | None) -> str:
    if known is None:
        return '<p class="sp-note">compared later</p>'
    if known.seconds is None:
        return f'<p class="sp-note">{escape(known.why_not)}</p>'
    time = f'<span class="sp-note sp-figures">{seconds(known.seconds)}</span>'
    more = "".join(
        f"<p>{chip(f'{slot}: no effect', 'bad')}</p>" for slot in known.without_effect
    ) + "".join(f'<p class="sp-note">{escape(note)}</p>' for note in known.notes)
    if known.is_reference:
        return f"<p>{chip('compared with', 'mine')} {time}</p>{more}"
    if known.comparison is None:
        return f"<p>{chip('not compared', 'quiet', known.why_not)} {time}</p>{more}"
    compared = known.comparison
    step = known.first_differing_step
    parted = "" if step is None else f", parted at step {step}" if step else ", other noise"
    hint = (
        f"SSIM {similarity(compared.ssim)}, worst tile {similarity(compared.ssim_worst_tile)}, "
        f"ΔE2000 {compared.delta_e_mean:.2f}, at most {compared.max_abs} levels{parted}"
    )
    word = chip(compared.verdict, DRIFT_TONES[compared.verdict], hint)
    figure = "" if compared.verdict == "bit-exact" else f"SSIM {similarity(compared.ssim)}"
    link = (
        f'<a class="sp-note" href="./compare?a={escape(cell.reference)}&amp;'
        f'b={escape(cell.job.id)}">compare</a>'
    )
    return f'<p>{word} {time}</p><p class="sp-note sp-figures">{figure} {link}</p>{more}'


def listing(entries: Sequence[GridEntry]) -> str:
    """Earlier grids, the latest first, each a link that can be kept."""
    if not entries:
        return ""
    rows = "".join(
        f'<li><a href="./grid?grid={escape(entry.id)}">{escape(entry.name)}</a> '
        f'<span class="sp-note sp-figures">{_when(entry.created_at)}</span></li>'
        for entry in entries
    )
    return (
        '<section class="sp-card"><h2 class="sp-title">Your grids</h2>'
        f'<ul class="sp-audits">{rows}</ul></section>'
    )


def _when(moment: str) -> str:
    return datetime.fromisoformat(moment).astimezone().strftime("%-d %b %Y, %H:%M")
