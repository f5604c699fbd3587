"""Where an audit stands, the list of all of them, and what a plan would do."""

from collections.abc import Sequence
from datetime import datetime
from html import escape

from audit.changes import short_name
from audit.estimate import Costs, estimate
from audit.plan import Plan
from audit.schedule import expand
from audit.score import Audit
from audit.units import counted, duration
from core.platforms import Platform
from core.store import AuditEntry
from webapp.audits import Sitting
from webapp.words import Tone, about, chip

NONE_YET = (
    '<section class="sp-card"><div class="sp-empty sp-three"><h2>Nothing is open</h2>'
    "<p>An audit makes the same prompts and seeds again and again, under each setting, and "
    "measures three things:</p><ol><li><b>Does it repeat?</b> Equal bits in the same process, in "
    "fresh ones, in other batches.</li><li><b>Does it drift?</b> How far its pictures are from "
    "the baseline's.</li><li><b>What does it save?</b> Time and memory, taking turns on this "
    "machine.</li></ol><p>Choose a plan above and press Start, or open an earlier audit.</p>"
    "</div></section>"
)


NO_ROWS_YET = (
    '<section class="sp-card"><p class="sp-hint">Rows appear here once the first runs are judged. '
    "You may close this page: the audit goes on, and this address opens it again.</p></section>"
)


def gone(sentence: str) -> str:
    return f'<div class="sp-alert sp-bad" role="alert">{escape(sentence)}</div>'


def status(entry: AuditEntry, sitting: Sitting | None, total: int, result: Audit | None) -> str:
    """The audit's head: its state, its progress, and what a reader must know."""
    word, tone = _state(entry, sitting)
    done = sitting.done if sitting else entry.runs
    share = done / total if total else 0.0
    facts = [f"{done} of {counted(total, 'run')}"]
    if sitting and sitting.remaining is not None:
        facts.append(f"{about(sitting.remaining)} left")
    else:
        facts.append(f"{duration(entry.seconds)} of work")
    now = sitting.now if sitting and sitting.now else ""
    trouble = gone(sitting.reason) if sitting and sitting.reason else ""
    notes = "".join(f"<li>{escape(note)}</li>" for note in result.notes) if result else ""
    told = (
        f'<details><summary class="sp-note">before you read the numbers: '
        f'{counted(len(result.notes), "note")}</summary><ul class="sp-list">{notes}</ul></details>'
        if result and result.notes
        else ""
    )
    return (
        f'<section class="sp-card" data-audit="{escape(entry.id)}" data-state="{word}">{trouble}'
        f'<div class="sp-head"><h2 class="sp-title">Plan {escape(entry.name)}, '
        f"{_when(entry.started_at)}</h2>{chip(word, tone)}"
        f'<span class="sp-note">audit {escape(entry.id)}</span></div>'
        f'<div class="sp-progress sp-wide"><p role="status"><span class="sp-figures">'
        f'{" · ".join(facts)}</span><span class="sp-note">{escape(now)}</span></p>'
        f'<div class="sp-bar-track"><span style="width:{share:.1%}"></span></div></div>{told}'
        "</section>"
    )


def _state(entry: AuditEntry, sitting: Sitting | None) -> tuple[str, Tone]:
    if sitting and sitting.state in ("running", "stopping"):
        return sitting.state, "mine"
    if entry.finished_at:
        return "complete", "good"
    if sitting and sitting.state == "failed":
        return "failed", "bad"
    return "not complete", "care"


def listing(entries: Sequence[AuditEntry], running: str | None) -> str:
    """Earlier audits, the latest first, each a link that can be kept."""
    if not entries:
        return '<p class="sp-hint">No audit yet. The first one appears here.</p>'
    rows = "".join(
        f'<li><a href="./audit?run={escape(entry.id)}">{escape(entry.name)}</a> '
        f'{_listed(entry, running)}<span class="sp-note sp-figures">{_when(entry.started_at)} · '
        f"{counted(entry.runs, 'run')} · {duration(entry.seconds)}</span></li>"
        for entry in entries[:30]
    )
    return f'<ul class="sp-audits" id="audits">{rows}</ul>'


def _listed(entry: AuditEntry, running: str | None) -> str:
    if entry.id == running:
        return chip("running", "mine")
    return chip("complete", "good") if entry.finished_at else chip("not complete", "care")


def promise(plan: Plan, platform: Platform, costs: Costs | None = None) -> str:
    """What a plan will do here, before anybody presses Start."""
    planned = expand(plan, platform)
    cost = estimate(planned, costs)
    first = plan.requests[0]
    rows = ", ".join(
        escape(short_name(configuration, plan.baseline)) for configuration in plan.runnable
    )
    skipped = "".join(
        f"<li>left out here: {escape(key)} ({escape(reason)})</li>"
        for key, reason in plan.skipped.items()
    )
    without = f'<ul class="sp-list sp-hint">{skipped}</ul>' if skipped else ""
    return (
        f'<p class="sp-lead">{escape(plan.summary)}</p><p class="sp-figures"><b>'
        f"{counted(cost.runs, 'run')}, {about(cost.seconds)}</b>: "
        f"{counted(len(plan.runnable), 'configuration')} × "
        f"{len(plan.requests)} prompts with a seed each, {first.width} × {first.height} px, "
        f"{counted(first.num_inference_steps, 'step')}.</p>"
        f'<p class="sp-hint">{rows}</p>{without}'
    )


def _when(moment: str) -> str:
    """A stored moment in the server's own time."""
    return datetime.fromisoformat(moment).astimezone().strftime("%-d %b %Y, %H:%M")
