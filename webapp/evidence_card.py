"""What is known about a configuration here, beside a picture that was made with it."""

from html import escape

from audit.evidence import evidence
from webapp.findings import Finding
from webapp.words import axis_chips, chip, drift_chip, placebo_of, speed_chip


def badge(finding: Finding | None) -> str:
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
    unfinished = "" if audit.complete else " " + chip("audit not complete", "care")
    return (
        '<section class="sp-card" id="evidence"><h2 class="sp-title">Can it be trusted?</h2>'
        f"<p>{axis_chips(score)}</p>"
        f"<p>{chip(role, 'mine') if role else f'{drift_chip(score.drift)} {speed}'}"
        f"{unfinished}</p>"
        f'<details><summary class="sp-note">the evidence</summary><ul class="sp-list">{sentences}'
        f'</ul></details><p class="sp-hint"><a href="./audit?run={escape(audit.audit_id)}">'
        f"Audit {escape(audit.audit_id)}</a>, plan {escape(audit.plan)}, "
        f"{escape(audit.started_at[:10])}</p></section>"
    )
