"""An audit's platforms on a page: this machine, those it emulates, and published ones."""

from html import escape

from audit.platform_grids import Grid, GridRow, grids, remarks
from audit.score import Audit


def platforms(audit: Audit) -> str:
    """Empty where the plan names no platforms."""
    tables = "".join(_grid(grid) for grid in grids(audit))
    if not tables:
        return ""
    lines = "".join(f"<li>{escape(sentence)}</li>" for sentence in remarks(audit))
    return (
        '<section class="sp-card" id="platforms"><h2 class="sp-title">This machine and others</h2>'
        '<p class="sp-hint">Only the first platform is this machine as it is. The others are '
        "emulated on this machine, or published by somebody else.</p>"
        f'{tables}<ul class="sp-list sp-hint">{lines}</ul></section>'
    )


def _grid(grid: Grid) -> str:
    headings = "".join(
        f'<th scope="col">{escape(name)}</th>' for name in (grid.heading, *grid.columns)
    )
    rows = "".join(_row(grid, row) for row in grid.rows)
    return (
        f'<h3 class="sp-title">{escape(grid.title)}</h3>'
        f'<p class="sp-hint">{escape(grid.caption)}</p><div class="sp-scroll">'
        f'<table class="sp-table sp-stack"><thead><tr>{headings}</tr></thead>'
        f"<tbody>{rows}</tbody></table></div>"
    )


def _row(grid: Grid, row: GridRow) -> str:
    name = f'{escape(row.name)}<div class="sp-note">{escape(row.label)}</div>'
    cells = [_cell(*lines) for lines in row.cells]
    tds = "".join(
        f'<td data-label="{escape(heading)}"><div>{cell}</div></td>'
        for heading, cell in zip((grid.heading, *grid.columns), (name, *cells), strict=True)
    )
    return f"<tr>{tds}</tr>"


def _cell(first: str, *more: str) -> str:
    notes = (f'<div class="sp-note sp-figures">{escape(line)}</div>' for line in more)
    return f"{escape(first)}{''.join(notes)}"
