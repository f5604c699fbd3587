"""An audit's platforms in a terminal: this machine, those it emulates, and published ones."""

from collections.abc import Iterator

from rich.table import Table
from rich.text import Text

from audit.articles_table import bare_table
from audit.platform_grids import Grid, grids, remarks
from audit.score import Audit


def platforms(audit: Audit) -> Iterator[Table]:
    """Nothing where the plan names no platforms."""
    for grid in grids(audit):
        yield _grid(grid)
    if said := remarks(audit):
        made = bare_table("Read the platforms with this in mind")
        made.add_column("", overflow="fold")
        made.show_header = False
        for sentence in said:
            made.add_row(Text(sentence))
        yield made


def _grid(grid: Grid) -> Table:
    made = bare_table(f"{grid.title}. {grid.caption}", grid.heading)
    for column in grid.columns:
        made.add_column(Text(column), overflow="fold")
    for row in grid.rows:
        cells = (Text("\n".join(lines)) for lines in row.cells)
        made.add_row(Text(f"{row.name}\n({row.label})"), *cells)
    made.padding = (0, 1, 1, 0)
    return made
