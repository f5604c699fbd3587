"""An audit in a terminal of 100 columns, in the same words as everywhere."""

from collections.abc import Mapping, Sequence

from rich.table import Table
from rich.text import Text

from audit.articles_table import articles, bare_table
from audit.changes import short_name
from audit.platforms_table import platforms
from audit.prompt_evidence import CAVEAT, any_judged, bounds, of_judged
from audit.score import AXES, Audit, Axis, AxisVerdict, Score
from audit.units import counted, drift_words, gigabytes, percent, seconds
from core.optimization import Configuration

Names = Mapping[str, str]

PLACEBO = "placebo (baseline again)"
NAME_WIDTH = 28
"""Characters of a name that are not folded."""
FEW_AXES = 4
"""How many axes leave names and cells as much room as they like."""


def tables(audit: Audit) -> tuple[Table, ...]:
    """All configurations; the axes that somebody tried; prompts, where they were judged; the
    answers; platforms; beside whose figures."""
    baseline = next(
        (row.configuration for row in audit.scores if row.key == audit.baseline), Configuration()
    )
    names = {row.key: short_name(row.configuration, baseline) for row in audit.scores}
    tried = [axis for axis in AXES if any(_said(row, axis) for row in audit.scores)]
    axes = (_agreement(audit, names, tried),) if tried else ()
    prompts = (_prompts(audit, names),) if any_judged(audit) else ()
    told = (_configurations(audit, names), *axes, *prompts)
    return (*told, _answers(audit, names), *platforms(audit), *articles(audit))


def _keep_names_whole(table: Table, names: Names) -> None:
    """Other columns give way first, unless a name is very long."""
    table.columns[0].min_width = min(NAME_WIDTH, max(map(len, (*names.values(), PLACEBO))))


def _configurations(audit: Audit, names: Names) -> Table:
    columns = ("configuration", "effect", "drift", "time ÷ baseline", "n", "s/picture", "peak")
    table = bare_table(
        f"Plan {audit.plan} on {audit.platform.device_name}: {audit.runs_done} of "
        f"{counted(audit.runs_planned, 'run')}",
        *columns,
    )
    missing = []
    for row in audit.scores:
        if not row.available:
            missing.append(f"not available: {names[row.key]}: {row.why_not}")
            continue
        table.add_row(
            _name(row, names),
            Text(row.effect or "no run"),
            Text(drift_words(row.drift).replace(" (", "\n(") if row.drift else "not compared"),
            Text(_time(row)),
            Text(str(row.time_ratio.pairs) if row.time_ratio else ""),
            Text(seconds(row.seconds_median).removesuffix(" s") if row.seconds_median else ""),
            Text(gigabytes(row.peak_memory_bytes) if row.peak_memory_bytes else ""),
        )
    _keep_names_whole(table, names)
    table.caption = Text("\n".join(missing)) if missing else None
    return table


def _time(row: Score) -> str:
    if row.time_ratio is None:
        return "not timed"
    low, high = row.time_ratio.ci95
    return f"{row.time_ratio.median:.2f} ({low:.2f}–{high:.2f})"


def _agreement(audit: Audit, names: Names, axes: Sequence[Axis]) -> Table:
    """Agreeing trials of all, and the failure rate that so many still allow."""
    table = bare_table("Agreement with itself: trials that agree, fails at most (95 %)")
    table.add_column("configuration", overflow="fold")
    for axis in axes:
        table.add_column(axis.replace("-", "-\n", 1), overflow="fold")
    for row in audit.scores:
        if row.available:
            narrow = len(axes) > FEW_AXES
            cells = (Text(_cell(row.determinism.get(axis), narrow)) for axis in axes)
            table.add_row(_name(row, names), *cells)
    if len(axes) <= FEW_AXES:
        _keep_names_whole(table, names)
    return table


def _cell(verdict: AxisVerdict | None, narrow: bool) -> str:
    """Word and count in one line, or in two where many columns have to share the width."""
    word = verdict.verdict if verdict else "unverified"
    if verdict is None or not verdict.trials or verdict.p_upper95 is None:
        return word.replace("-", "-\n")
    agree, between = verdict.trials - verdict.failures, "\n" if narrow else " "
    return f"{word}{between}{agree}/{verdict.trials}\n≤ {percent(verdict.p_upper95)}"


def _prompts(audit: Audit, names: Names) -> Table:
    columns = ("configuration", "pictures", "95 %", "baseline", "lost", "won")
    table = bare_table("Follows its prompt", *columns)
    for row in audit.scores:
        if not row.available:
            continue
        if (found := row.prompt_followed) is None:
            table.add_row(_name(row, names), Text(f"not judged: {row.prompt_unjudged}"))
            continue
        beside = found.beside_baseline
        counts = (
            (f"{beside.baseline_followed} of {beside.pairs}", str(beside.lost), str(beside.won))
            if beside
            else ()
        )
        table.add_row(_name(row, names), *map(Text, (of_judged(found), bounds(found), *counts)))
    _keep_names_whole(table, names)
    table.caption = Text(CAVEAT)
    return table


def _answers(audit: Audit, names: Names) -> Table:
    table = bare_table("Recommended here", "goal", "configuration", "why")
    for goal, answer in audit.recommendations.items():
        name = names[answer.key] if answer.key else "none"
        table.add_row(goal, Text(name), Text(answer.reason))
    return table


def _name(row: Score, names: Names) -> Text:
    return Text(PLACEBO if row.placebo else names[row.key])


def _said(row: Score, axis: Axis) -> bool:
    """Whether there is more to say than that nobody tried."""
    verdict = row.determinism.get(axis)
    return verdict is not None and (verdict.trials > 0 or verdict.verdict == "not-applicable")
