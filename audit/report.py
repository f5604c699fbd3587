"""One HTML file that a person reads: nothing beside it, nothing fetched, nothing that runs."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from audit import prompt_evidence, units
from audit.album import Album, Strip
from audit.changes import changes, short_name
from audit.claims import CLAIM_CLASSES, CLAIM_MEANINGS, shown_claims
from audit.divergence import parting
from audit.drift import worst_first
from audit.evidence import agreements
from audit.metrics import METRICS
from audit.pictures import GAIN, LoadPicture
from audit.platform_grids import grids, remarks
from audit.plots import NARROW, WIDE, speed_against_drift
from audit.recommendation import MEANINGS, REQUIRED
from audit.score import AXES, GOALS, Audit, Axis, Comparison, Score, Witness
from audit.side_by_side import side_by_side
from audit.verdicts import DETERMINISM_MEANINGS, GATES
from core.optimization import Configuration

SHOWN = 3
"""Pictures shown per configuration, the worst ones; the table covers all."""

_HERE = Path(__file__).parent


@dataclass(frozen=True, kw_only=True)
class _Gallery:
    """One configuration's differing pictures, the worst first."""

    row: Score
    pictures: tuple[tuple[Comparison, Strip], ...]
    hidden: int


@dataclass(frozen=True, kw_only=True)
class _Exhibit:
    """One broken axis, with the two pictures that should have been equal."""

    row: Score
    axis: Axis
    witness: Witness
    strip: Strip


def write_report(audit: Audit, path: Path, load_picture: LoadPicture) -> None:
    """Write the report; pictures are read through `load_picture`, missing ones are said to be."""
    path.parent.mkdir(parents=True, exist_ok=True)
    # A prompt may hold what UTF-8 cannot: a lone surrogate becomes a question mark.
    path.write_bytes(render(audit, load_picture).encode("utf-8", "replace"))


def render(audit: Audit, load_picture: LoadPicture) -> str:
    """The page as text. Every value goes through the template's escaping, prompts above all."""
    environment = Environment(
        loader=FileSystemLoader(_HERE),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals["units"] = units
    environment.globals["prompts"] = prompt_evidence
    environment.filters["tight"] = _tight
    album = Album(load_picture)
    rows = [row for row in audit.scores if row.available]
    baseline = next(
        (row.configuration for row in audit.scores if row.key == audit.baseline), Configuration()
    )
    names = {row.key: short_name(row.configuration, baseline) for row in audit.scores}
    galleries = [_gallery(row, album) for row in rows if row.drift and _differs(row)]
    return environment.get_template("report.html").render(
        audit=audit,
        rows=rows,
        unavailable=[row for row in audit.scores if not row.available],
        names=names,
        changes={row.key: changes(row.configuration, baseline) for row in audit.scores},
        required=REQUIRED,
        tried=[axis for axis in AXES if not all(_is_open(row, axis) for row in rows)],
        untried=[axis for axis in AXES if all(_is_open(row, axis) for row in rows)],
        more=[m for m in METRICS if any(row.drift and m.name in row.drift.more for row in rows)],
        labels={metric.name: metric.label for metric in METRICS},
        goals=[(goal, MEANINGS[goal], audit.recommendations[goal]) for goal in GOALS],
        plots=[
            speed_against_drift(audit.scores, audit.baseline, names, layout)
            for layout in (WIDE, NARROW)
        ],
        equal=[row for row in rows if row.drift and not _differs(row)],
        galleries=galleries,
        exhibits=list(_exhibits(rows, album)),
        parting=parting,
        judged=prompt_evidence.any_judged(audit),
        unmeasured=list(_unmeasured(audit)),
        gates=audit.gates or GATES,
        determinism_meanings=DETERMINISM_MEANINGS,
        gain=GAIN,
        sides=side_by_side(audit),
        agreements=agreements,
        platform_grids=grids(audit),
        platform_remarks=remarks(audit),
        claims=shown_claims(audit),
        claim_classes=CLAIM_CLASSES,
        claim_meanings=CLAIM_MEANINGS,
        album=album.sources,
        css=Markup((_HERE / "report.css").read_text(encoding="utf-8")),
    )


def _tight(sentence: str) -> str:
    """No line break between a figure and its unit."""
    return re.sub(r"(?<=\d) (?=[%×]|s\b|[GM]B\b|px\b)", "\N{NO-BREAK SPACE}", sentence)


def _differs(row: Score) -> bool:
    return row.drift is not None and row.drift.verdict != "bit-exact"


def _gallery(row: Score, album: Album) -> _Gallery:
    ordered = [c for c in worst_first(row.drift) if c.verdict != "bit-exact"] if row.drift else []
    return _Gallery(
        row=row,
        pictures=tuple(
            (comparison, album.strip(comparison.baseline_picture, comparison.candidate_picture))
            for comparison in ordered[:SHOWN]
        ),
        hidden=max(0, len(ordered) - SHOWN),
    )


def _exhibits(rows: list[Score], album: Album) -> Iterator[_Exhibit]:
    for row in rows:
        for axis, verdict in row.determinism.items():
            if verdict.witness is not None:
                yield _Exhibit(
                    row=row,
                    axis=axis,
                    witness=verdict.witness,
                    strip=album.strip(verdict.witness.picture_a, verdict.witness.picture_b),
                )


def _unmeasured(audit: Audit) -> Iterator[str]:
    """What a reader might think was tried, and was not."""
    rows = [row for row in audit.scores if row.available and not row.placebo]
    for axis in AXES:
        open_rows = [row for row in rows if _is_open(row, axis)]
        if len(open_rows) == len(rows):
            yield f"{axis}: on no configuration."
        elif open_rows:
            yield f"{axis}: not on {len(open_rows)} of {len(rows)} configurations."
    if untimed := sum(row.time_ratio is None for row in rows):
        yield f"Speed: not of {untimed} of {len(rows)} configurations."
    for control in audit.controls:
        if control.drift is None and control.time_ratio is None:
            yield f"The {control.name} control: no runs, so its noise floor is unknown."
    if unjudged := sum(row.prompt_followed is None for row in rows):
        of = f"{unjudged} of {len(rows)} configurations"
        yield f"Whether the pictures follow their prompts: not of {of}."
    yield "Other machines, other devices, other library versions, other models and sizes."
    yield "LPIPS and other learned metrics; how people judge the pictures."


def _is_open(row: Score, axis: Axis) -> bool:
    """Unverified with no trial at all."""
    verdict = row.determinism.get(axis)
    return verdict is None or (verdict.verdict == "unverified" and not verdict.trials)
