"""What is known about a configuration here, beside a picture that was made with it."""

from html import escape

from audit.evidence import evidence
from audit.front import repeats
from audit.recommendation import REQUIRED
from audit.score import DRIFT_VERDICTS, Audit
from audit.units import counted, trials
from core.request import Request
from webapp.findings import Finding
from webapp.words import DRIFT_TONES, axis_chips, chip, drift_chip, placebo_of, speed_chip

STANDINGS = (
    *DRIFT_VERDICTS,
    "baseline",
    "not compared",
    "not shown to repeat",
    "broken",
    "never audited",
)
"""What an audit may say about a picture's settings, each in one word for a list to choose from."""


def standing(finding: Finding | None) -> str:
    """One of `STANDINGS`, decided as `mark` is."""
    if finding is None:
        return "never audited"
    score = finding.score
    axes = [score.determinism[axis] for axis in REQUIRED if axis in score.determinism]
    if any(axis.verdict == "broken" for axis in axes):
        return "broken"
    if not repeats(score):
        return "not shown to repeat"
    if score.key == finding.audit.baseline:
        return "baseline"
    return "not compared" if score.drift is None else score.drift.verdict


def mark(finding: Finding | None) -> str:
    """The shortest true answer, to stand beside any picture."""
    if finding is None:
        return chip("never audited", "quiet", "No audit has rerun these settings where it was made")
    score, told = finding.score, " ".join(evidence(finding.score))
    axes = [score.determinism[axis] for axis in REQUIRED if axis in score.determinism]
    if failing := next((axis for axis in axes if axis.verdict == "broken"), None):
        return chip(f"broken {trials(failing)}", "bad", told)
    if not repeats(score):
        return chip("not shown to repeat", "care", told)
    held = trials(min(axes, key=lambda axis: axis.trials))
    if score.key == finding.audit.baseline:
        return chip(f"held {held} · the baseline", "good", told)
    if score.drift is None:
        return chip(f"held {held} · not compared", "care", told)
    return chip(f"held {held} · {score.drift.verdict}", DRIFT_TONES[score.drift.verdict], told)


def badge(finding: Finding | None, request: Request) -> str:
    """Determinism with its counts, drift and speed; or that nobody has looked yet."""
    if finding is None:
        return (
            '<section class="sp-card" id="evidence"><h2 class="sp-title">Can it be trusted?</h2>'
            f"<p>{chip('never audited here', 'care')}</p>"
            '<p class="sp-hint">No audit on this platform has rerun these settings yet, so nobody '
            "knows whether they repeat bit for bit or how far they drift from the baseline. "
            '<a href="./audit">Start an audit</a>.</p></section>'
        )
    audit, score = finding.audit, finding.score
    speed = speed_chip(score.time_ratio, placebo_of(audit))
    role = "these settings are the baseline" if score.key == audit.baseline else ""
    sentences = "".join(f"<li>{escape(sentence)}</li>" for sentence in evidence(score))
    audited, made = _measured_on(audit, request)
    elsewhere = (
        f'<p class="sp-hint">The audit made pictures of {audited}; this one has {made}.</p>'
        if audited != made
        else ""
    )
    unfinished = "" if audit.complete else " " + chip("audit not complete", "care")
    return (
        '<section class="sp-card" id="evidence"><h2 class="sp-title">Can it be trusted?</h2>'
        f"<p>{axis_chips(score)}</p>"
        f"<p>{chip(role, 'mine') if role else f'{drift_chip(score.drift)} {speed}'}"
        f"{unfinished}</p>{elsewhere}"
        f'<details><summary class="sp-note">the evidence</summary><ul class="sp-list">{sentences}'
        f'</ul></details><p class="sp-hint"><a href="./audit?run={escape(audit.audit_id)}">'
        f"Audit {escape(audit.audit_id)}</a>, plan {escape(audit.plan)}, "
        f"{escape(audit.started_at[:10])}</p></section>"
    )


def _measured_on(audit: Audit, request: Request) -> tuple[str, str]:
    """What the audit's pictures were like, and what this one was asked to be."""
    both = (
        (audit.width, audit.height, audit.num_inference_steps),
        (request.width, request.height, request.num_inference_steps),
    )
    audited, made = (f"{w} × {h} px and {counted(steps, 'step')}" for w, h, steps in both)
    return audited, made
