"""One row of an audit up close: its evidence, its pictures beside the baseline's, its witnesses."""

from html import escape

from audit.drift import worst_first
from audit.evidence import evidence
from audit.score import Audit, Comparison, Score, Witness
from audit.units import counted, similarity
from core.optimizations import SLOTS
from webapp.comparer import Pair, comparer
from webapp.run_card import effects
from webapp.scores_card import names
from webapp.words import AXIS_NAMES, DRIFT_TONES


def card(audit: Audit, score: Score) -> str:
    """Everything about one row. Reads picture files, so not for an event loop."""
    title = names(audit)[score.key] + (" again (placebo)" if score.placebo else "")
    sentences = "".join(f"<li>{escape(sentence)}</li>" for sentence in evidence(score))
    warnings = "".join(
        f'<p class="sp-alert">{escape(sentence)}</p>'
        for sentence in (*score.notes, *score.failures)
    )
    use = ""
    if score.available and not score.placebo:
        use = (
            f'<p class="sp-actions"><a class="sp-plain" href="./?use={_key(score)}">'
            "Use these settings</a></p>"
        )
    return (
        '<section class="sp-card" id="row"><h2 class="sp-title" tabindex="-1">'
        f"{escape(title)}</h2>{warnings}"
        f'<ul class="sp-list">{sentences}</ul>{use}{_kernels(score)}'
        f"{_pictures(audit, score)}{_witnesses(audit, score)}</section>"
    )


def _key(score: Score) -> str:
    return escape(score.key.replace(" ", "+"))


def _pictures(audit: Audit, score: Score) -> str:
    if score.drift is None:
        return ""
    pairs = [pair(comparison) for comparison in worst_first(score.drift)]
    label = "Baseline and this setting"
    shown = comparer(pairs, ("baseline", "this setting"), (audit.width, audit.height), label)
    return f'<h3 class="sp-title">Beside the baseline, the worst first</h3>{shown}'


def pair(comparison: Comparison) -> Pair:
    """A picture beside the baseline's, with its verdict and its figures."""
    figures = (
        "every pixel equal"
        if comparison.verdict == "bit-exact"
        else f"SSIM {similarity(comparison.ssim)}, worst tile "
        f"{similarity(comparison.ssim_worst_tile)}, ΔE2000 up to "
        f"{comparison.delta_e_worst_tile:.1f} in a tile, channels up to {comparison.max_abs} of 255"
    )
    return Pair(
        first=comparison.baseline_picture,
        second=comparison.candidate_picture,
        word=comparison.verdict,
        tone=DRIFT_TONES[comparison.verdict],
        caption=f"{comparison.prompt}, seed {comparison.seed}: {figures}",
    )


def _witnesses(audit: Audit, score: Score) -> str:
    return "".join(
        f'<details class="sp-more"><summary>Witness of “{AXIS_NAMES[axis]}”: broken, '
        f"{counted(verdict.failures, 'trial')} of {verdict.trials} gave other bits</summary>"
        f"{_witness(audit, verdict.witness, AXIS_NAMES[axis])}</details>"
        for axis, verdict in score.determinism.items()
        if verdict.witness is not None
    )


def _witness(audit: Audit, witness: Witness, axis: str) -> str:
    step = witness.first_differing_step
    parts = f"; they part at step {step}" if step else "; their noise differs" if step == 0 else ""
    pair = Pair(
        first=witness.picture_a,
        second=witness.picture_b,
        word="witness",
        tone="bad",
        caption=f"{witness.prompt}, seed {witness.seed}: {witness.difference}{parts}",
    )
    size = (audit.width, audit.height)
    return comparer([pair], ("one time", "another time"), size, f"Witness: {axis}")


def _kernels(score: Score) -> str:
    """What was counted while it ran, behind a click."""
    if score.effective is None:
        return ""
    return (
        '<details class="sp-more" id="kernels"><summary>What really ran: operators and counts'
        f"</summary>{effects(score.effective, SLOTS, '')}</details>"
    )
