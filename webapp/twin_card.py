"""A picture beside its shadow twin: what its own settings did to it."""

from html import escape

from audit.twin import Twin
from audit.verdicts import meaning
from core.run import Run
from webapp.comparer import comparer
from webapp.row_card import pair
from webapp.words import DRIFT_TONES, chip

WORDS = {
    "bit-exact": "same pixels",
    "rounding": "rounding moved",
    "perceptually-identical": "looks the same",
    "fine-detail": "fine detail moved",
    "visibly-changed": "visibly changed",
    "different": "another picture",
}
"""What a verdict says of one picture beside what the baseline made of the same request."""


def mark(twin: Twin | None) -> str:
    """The shortest true answer, to stand beside a picture; empty where nothing was compared."""
    verdict = None if twin is None else twin.verdict
    if verdict is None:
        return ""
    told = f"Against the baseline, rerun once while the server was idle: {meaning(verdict)}"
    return chip(WORDS[verdict], DRIFT_TONES[verdict], told)


def card(run: Run, twin: Twin | None, *, expected: bool) -> str:
    """The slider, and what it shows; or when it will be there; or why it will not be."""
    if twin is None:
        if not expected:
            return ""
        inside = (
            f"<p>{chip('waiting for an idle moment')}</p>"
            '<p class="sp-hint">When nobody needs the machine, this picture is made again with the '
            "baseline's settings and compared: reload the page then, or look into History.</p>"
        )
    elif twin.verdict is None:
        inside = f'<p class="sp-hint">Nothing was compared. {escape(twin.reason)}</p>'
    else:
        first = run.job.requests[0]
        shown = comparer(
            [pair(one) for one in twin.pictures],
            ("baseline", "yours"),
            (first.width, first.height),
            "The baseline's picture and yours",
        )
        inside = (
            f"<p>{mark(twin)}</p>{shown}"
            '<p class="sp-hint">One rerun of this request with the baseline\'s settings. '
            "Whether the settings repeat, only an audit can tell.</p>"
        )
    return (
        '<section class="sp-card" id="twin"><h2 class="sp-title">Beside the baseline</h2>'
        f"{inside}</section>"
    )
