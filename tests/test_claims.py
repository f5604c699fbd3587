"""Claims: what decides each kind, what leaves it open, and what has to be there at all."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from audit.answers import COMPARING, KINDS, answers
from audit.claims import Claim, Claims, JudgedClaim, Needs, judge_claims, read_claims, shown_claims
from audit.measured_counts import latent_tokens
from audit.measurement import Measurement
from audit.prompt_file import PlanError
from audit.score import Control, Score
from core.optimizations import SLOTS
from tests.audit_records import configuration, made_score
from tests.claim_records import (
    CROSS,
    MERGED,
    SELF,
    audit_with,
    axis,
    memory,
    pictures,
    seen,
    time,
)

NONE = configuration(attention="none")
SPLIT = configuration(attention="split-v1")
TOME = configuration(token_merging="fixed:0.5")
SIGMA = configuration(min_sigma="alternate:0.5")
SIX = 6
"""Pictures, or trials: all of six say more than half, five of six do not."""


def agreed(kind: str, *rows: Score, device: str = "cpu", **facts: Any) -> bool | None:
    """What the only answer says; `row` and `than` by their slots."""
    audit = audit_with(*rows, device=device)
    (answer,) = answers(audit, Measurement(kind=kind, **facts))  # type: ignore[arg-type]
    assert answer.sentence
    return answer.agrees


def verdict_of(claim: Claim, *rows: Score, device: str = "cpu") -> JudgedClaim:
    made = Claims(article={"a": "An article"}, claim=(claim,))
    (judged,) = judge_claims(audit_with(*rows, device=device), made)
    return judged


def claim(*measured: Measurement, **facts: Any) -> Claim:
    return Claim(id="x", article="a", place="p", says="s", measured=measured, **facts)


FASTER = Measurement(kind="faster", row={"attention": "none"})


@pytest.mark.parametrize(
    ("ratio", "agrees"),
    [
        (time(0.8), True),
        (time(1.2), False),
        (time(0.9, width=0.15), None),
        (time(0.99), None),
        (time(0.8, pairs=5), None),
        (None, None),
    ],
)
def test_a_speed_needs_an_interval_that_stands_apart(ratio: Any, agrees: bool | None) -> None:
    row = replace(made_score(NONE), time_ratio=ratio)
    assert agreed("faster", row, row={"attention": "none"}) is agrees


def test_what_the_placebo_strays_is_no_difference() -> None:
    audit = audit_with(made_score(NONE, ratio=0.9), placebo=0.15)
    (answer,) = answers(audit, FASTER)
    assert answer.agrees is None
    (limit,) = answers(audit, replace(FASTER, kind="takes-at-least", limit=0.89))
    assert limit.agrees is None


@pytest.mark.parametrize(
    ("kind", "ratio", "agrees"),
    [
        ("takes-at-most", time(0.4), True),
        ("takes-at-most", time(0.6), False),
        ("takes-at-most", time(0.5, width=0.1), None),
        ("takes-at-most", time(0.4, pairs=5), None),
        ("takes-at-least", time(0.6), True),
        ("takes-at-least", time(0.4), False),
        ("alike", time(1.01), True),
        ("alike", time(1.2), False),
        ("alike", time(1.01, width=0.2), None),
        ("alike", time(1.01, pairs=5), None),
    ],
)
def test_a_limit_must_lie_outside_the_interval(kind: str, ratio: Any, agrees: bool | None) -> None:
    row = replace(made_score(NONE), time_ratio=ratio)
    assert agreed(kind, row, row={"attention": "none"}, limit=0.5) is agrees


@pytest.mark.parametrize(
    ("ours", "agrees"),
    [
        (memory(900), True),
        (memory(1100), False),
        (memory(990), None),
        (memory(900, spread=150), None),
        (memory(900, runs=5), None),
        (None, None),
    ],
)
def test_memory_needs_ranges_apart(ours: Any, agrees: bool | None) -> None:
    row = replace(made_score(NONE), memory_range=ours)
    assert agreed("lighter", row, row={"attention": "none"}) is agrees


def test_a_placebo_of_other_memory_widens_what_means_nothing() -> None:
    audit = audit_with(replace(made_score(NONE), memory_range=memory(900)))
    strayed = tuple(
        replace(row, memory_range=memory(880)) if row.placebo else row for row in audit.scores
    )
    asked = Measurement(kind="lighter", row={"attention": "none"})
    (answer,) = answers(replace(audit, scores=strayed), asked)
    assert answer.agrees is None


@pytest.mark.parametrize(
    ("verdict", "repeats", "may_differ", "differs"),
    [
        (axis("held", 59), True, False, False),
        (axis("held", SIX), None, None, False),
        (axis("unverified", 4), None, None, None),
        (axis("broken", SIX, 1), False, True, None),
        (axis("broken", SIX, SIX), False, True, True),
    ],
)
def test_repeating_is_decided_by_bounds_and_witnesses(
    verdict: Any, repeats: bool | None, may_differ: bool | None, differs: bool | None
) -> None:
    held = axis("held", 59)
    row = replace(made_score(NONE), determinism={"same-process": held, "fresh-process": verdict})
    chosen = {"attention": "none"}
    assert agreed("repeats", row, row=chosen) is repeats
    assert agreed("may-differ", row, row=chosen) is may_differ
    assert agreed("differs", row, row=chosen) is differs


def test_an_axis_that_nobody_tried_leaves_it_open() -> None:
    row = replace(made_score(NONE), determinism={"same-process": axis("held", 300)})
    assert agreed("repeats", row, row={"attention": "none"}) is None
    assert agreed("repeats", row, row={"attention": "none"}, axes=("same-process",)) is True


@pytest.mark.parametrize(
    ("far", "changes", "keeps"),
    [(SIX, True, False), (SIX - 1, None, None), (1, None, None), (0, False, True)],
)
def test_changes_need_more_than_half_of_the_pictures(
    far: int, changes: bool | None, keeps: bool | None
) -> None:
    found = [("different", 0.5)] * far + [("rounding", 0.99)] * (SIX - far)
    row = pictures(TOME, *found)  # type: ignore[arg-type]
    chosen = {"token-merging": "*:*"}
    assert agreed("changes", row, row=chosen) is changes
    assert agreed("keeps", row, row=chosen) is keeps
    assert agreed("changes", row, row=chosen, at_least="rounding") is True


@pytest.mark.parametrize(
    ("far", "total", "agrees"), [(1, SIX, True), (0, SIX, None), (0, 59, False), (0, 0, None)]
)
def test_one_picture_shows_what_may_happen(far: int, total: int, agrees: bool | None) -> None:
    found = [("different", 0.5)] * far + [("rounding", 0.99)] * (total - far)
    row = pictures(TOME, *found) if found else replace(made_score(TOME), drift=None)  # type: ignore[arg-type]
    assert agreed("may-change", row, row={"token-merging": "*:*"}) is agrees


def test_four_pictures_are_too_few() -> None:
    row = pictures(TOME, *[("different", 0.5)] * 4)
    assert agreed("changes", row, row={"token-merging": "*:*"}) is None


def test_what_one_bit_does_as_well_is_not_the_settings_doing() -> None:
    row = pictures(TOME, *[("different", 0.5)] * SIX)
    assert row.drift is not None
    row = replace(row, drift=replace(row.drift, not_attributable=True))
    assert agreed("changes", row, row={"token-merging": "*:*"}) is None
    assert agreed("keeps", row, row={"token-merging": "*:*"}) is None


@pytest.mark.parametrize(("nearer", "agrees"), [(SIX, True), (SIX - 1, None), (0, False)])
def test_closer_is_counted_by_pictures(nearer: int, agrees: bool | None) -> None:
    far = pictures(TOME, *[("different", 0.5)] * SIX)
    near = pictures(
        SIGMA,
        *[("fine-detail", 0.9)] * nearer,
        *[("different", 0.4)] * (SIX - nearer),
    )
    chosen = {"row": {"min-sigma": "*:*"}, "than": {"token-merging": "*:0.5"}}
    assert agreed("closer", far, near, **chosen) is agrees


def test_a_prompt_that_has_several_pictures_counts_once_by_its_worst() -> None:
    one = pictures(TOME, *[("different", 0.5)] * SIX)
    assert one.drift is not None
    six_of_one = tuple(replace(c, prompt="one", seed=1) for c in one.drift.pictures)
    row = replace(one, drift=replace(one.drift, pictures=six_of_one))
    assert agreed("changes", row, row={"token-merging": "*:*"}) is None


def test_counts_decide_what_was_done() -> None:
    skipped = seen(made_score(SIGMA), unet_calls_unguided=3.0)
    all_guided = seen(made_score(SIGMA), unet_calls_unguided=0.0)
    chosen = {"row": {"min-sigma": "*:*"}, "slot": "min-sigma", "count": "unet_calls_unguided"}
    assert agreed("counted", skipped, **chosen) is True
    assert agreed("uncounted", skipped, **chosen) is False
    assert agreed("counted", all_guided, **chosen) is False
    assert agreed("counted", seen(made_score(SIGMA)), **chosen) is None


def merged_row(tokens_out: float, *shapes: Any) -> Score:
    return seen(
        made_score(TOME),
        {"attention": shapes},
        tokens_in=6 * 1024.0,
        tokens_out=tokens_out,
        merge_calls=6.0,
        self_attention_calls=14.0,
    )


def test_merging_is_of_the_pictures_tokens() -> None:
    chosen = {"row": {"token-merging": "*:*"}}
    assert agreed("merges-the-prompt", merged_row(6 * 512, MERGED, CROSS), **chosen) is False
    words = replace(CROSS, keys=40)
    assert agreed("merges-the-prompt", merged_row(6 * 512, SELF, words), **chosen) is True
    assert agreed("merges-the-prompt", seen(made_score(TOME)), **chosen) is None


@pytest.mark.parametrize(
    ("tokens_out", "agrees"), [(6 * 512, True), (6 * 513, True), (6 * 600, False)]
)
def test_a_ratio_is_a_share_of_the_tokens(tokens_out: float, agrees: bool) -> None:
    row = merged_row(tokens_out, MERGED, CROSS)
    assert agreed("merges-its-ratio", row, row={"token-merging": "*:*"}) is agrees


@pytest.mark.parametrize(
    ("ratio", "agrees"),
    [
        (time(1.2), True),
        (time(0.8), False),
        (time(1.2, width=0.25), None),
        (time(1.01), None),
        (time(1.2, pairs=5), None),
    ],
)
def test_what_a_control_costs_is_an_interval(ratio: Any, agrees: bool | None) -> None:
    asked = Measurement(kind="control-costs", control="prompt-length")
    audit = audit_with()
    (answer,) = answers(audit, asked)
    assert (answer.agrees, answer.missing) == (None, True)
    control = Control(name="prompt-length", what="it", drift=None, time_ratio=ratio)
    (answer,) = answers(replace(audit, controls=(*audit.controls, control)), asked)
    assert answer.agrees is agrees


def test_the_names_of_shapes_are_read_as_the_engine_writes_them() -> None:
    assert latent_tokens(audit_with()) == 1024


def test_a_setting_that_did_nothing_says_nothing() -> None:
    row = replace(made_score(NONE, ratio=0.5), effect="fell-back")
    assert agreed("faster", row, row={"attention": "none"}) is None
    assert agreed("faster", row, row={}, than={"attention": "none"}) is None
    failed = replace(made_score(NONE, ratio=0.5), effect=None)
    assert agreed("faster", failed, row={"attention": "none"}) is None


def test_the_baseline_counts_although_its_effect_may_be_none() -> None:
    audit = audit_with(made_score(NONE, ratio=2.0))
    scores = (replace(audit.scores[0], effect="none"), *audit.scores[1:])
    (answer,) = answers(replace(audit, scores=scores), replace(FASTER, row={}, than=FASTER.row))
    assert answer.agrees is True


def test_every_pair_of_rows_is_compared() -> None:
    rows = made_score(NONE, ratio=1.5), made_score(SPLIT, ratio=1.3)
    asked = Measurement(kind="faster", row={"attention": "sdp"}, than={"attention": "*"})
    found = list(answers(audit_with(*rows), asked))
    assert [answer.agrees for answer in found] == [True, True], "and not the baseline with itself"


def test_one_answer_refutes_and_all_confirm() -> None:
    both = Measurement(kind="faster", row={"attention": "[!s]*"})
    split = Measurement(kind="faster", row={"attention": "split-v1"})
    fast, slow, alike = (made_score(NONE, ratio=r) for r in (0.8, 1.2, 1.0))
    other = made_score(SPLIT, ratio=0.7)
    assert verdict_of(claim(both, split), fast, other).verdict == "confirmed"
    judged = verdict_of(claim(both, split), slow, other)
    assert judged.verdict == "refuted"
    assert judged.figures[0].startswith("attention=none: 1.20 ×"), "what decides comes first"
    judged = verdict_of(claim(both, split), alike, other)
    assert judged.verdict == "not testable here"
    assert judged.reason == "Undecided: the figures leave 1 comparison of 2 open."


def test_where_one_is_enough_one_confirms_and_all_refute() -> None:
    both = claim(
        Measurement(kind="faster", row={"attention": "none"}),
        Measurement(kind="faster", row={"attention": "split-v1"}),
        holds_if="any",
    )
    fast, slow = made_score(NONE, ratio=0.8), made_score(NONE, ratio=1.2)
    other = made_score(SPLIT, ratio=1.3)
    assert verdict_of(both, fast, other).verdict == "confirmed"
    assert verdict_of(both, slow, other).verdict == "refuted"
    assert verdict_of(both, made_score(NONE), other).verdict == "not testable here"


def test_a_row_that_is_not_here_is_a_need_and_a_refutation_stands_without_it() -> None:
    both = claim(FASTER, Measurement(kind="faster", row={"attention": "xformers"}))
    judged = verdict_of(both, made_score(NONE, ratio=0.8))
    assert judged.verdict == "not testable here"
    assert judged.reason == "Needs what is not here: a row with attention=xformers."
    gone = replace(
        made_score(configuration(attention="xformers")), available=False, why_not="needs a GPU"
    )
    judged = verdict_of(both, made_score(NONE, ratio=0.8), gone)
    assert judged.reason == "Needs what is not here: attention=xformers: needs a GPU."
    assert verdict_of(both, made_score(NONE, ratio=1.2), gone).verdict == "refuted"


def test_needs_come_before_figures() -> None:
    fast = made_score(NONE, ratio=0.8)
    gpu = claim(FASTER, needs=Needs(device="cuda"))
    judged = verdict_of(gpu, fast)
    assert judged.verdict == "not testable here"
    assert judged.reason == "Needs an NVIDIA or AMD GPU; this audit is of a cpu."
    assert judged.figures == ()
    assert verdict_of(gpu, fast, device="cuda:0").verdict == "confirmed"
    many = claim(FASTER, needs=Needs(tokens=4096))
    reason = "Needs 4,096 latent tokens in self-attention; here 1,024."
    assert verdict_of(many, fast).reason == reason
    assert verdict_of(claim(FASTER, needs=Needs(tokens=1024)), fast).verdict == "confirmed"
    other = claim(needs=Needs(other="a judge"))
    assert verdict_of(other, fast).reason == "Needs a judge."


def test_a_kernel_that_did_not_run_cannot_be_judged() -> None:
    efficient = "_scaled_dot_product_efficient_attention"
    needs = Needs(operator="_scaled_dot_product_efficient", of={"attention": "none"})
    asked = claim(FASTER, needs=needs)
    row = made_score(NONE, ratio=0.8)
    flash = seen(row, operators=("_scaled_dot_product_flash_attention", "mul"))
    judged = verdict_of(asked, flash)
    assert judged.verdict == "not testable here"
    assert judged.reason.endswith("of attention's own ran _scaled_dot_product_flash_attention.")
    assert verdict_of(asked, seen(row, operators=(efficient,))).verdict == "confirmed"


def test_a_may_claim_about_sdp_is_never_decided_on_a_cpu() -> None:
    judged = {one.id: one for one in judge_claims(audit_with())}
    for name in ("sdp-may-differ", "sdp-no-mem-repeats", "invokeai-best-on-a-mac"):
        assert judged[name].verdict == "not testable here"
        assert "this audit is of a cpu" in judged[name].reason


def test_claims_are_shown_where_one_is_decided() -> None:
    assert shown_claims(audit_with()) == ()
    merged = merged_row(6 * 512, MERGED, CROSS)
    shown = {one.id: one.verdict for one in shown_claims(audit_with(merged))}
    assert shown["merging-works-on-the-prompt"] == shown["merging-joins-words"] == "refuted"
    assert shown["merging-ratio-is-a-share"] == "confirmed"


def test_every_claim_of_the_file_names_what_there_is() -> None:
    slots = {slot.name: {option.name for option in slot.options} for slot in SLOTS}
    claims = read_claims()
    assert {one.article for one in claims.claim} == set(claims.article)
    for one in claims.claim:
        for asked in one.measured:
            assert asked.than or asked.row or asked.control
            assert not asked.than or asked.kind in COMPARING
            for slot, text in (*asked.row.items(), *asked.than.items(), *one.needs.of.items()):
                name = text.partition(":")[0]
                assert slot in slots, one.id
                assert "*" in name or name in slots[slot], f"{one.id}: {slot}={text}"
    assert set(KINDS) == {asked.kind for one in claims.claim for asked in one.measured}


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (("place =", "plaice ="), "claim.1.plaice is not a key"),
        (('kind = "faster"', 'kind = "nicer"'), "claim.1.measured.1.kind should be 'repeats'"),
        (('article = "a"', 'article = "b"'), "x is of an unknown article, 'b'"),
        (('measured = [{ kind = "faster" }]', ""), "x has no measurement, and nothing says why"),
    ],
)
def test_a_wrong_file_of_claims_is_a_sentence(
    tmp_path: Path, change: tuple[str, str], sentence: str
) -> None:
    text = (
        '[article]\na = "An article"\n[[claim]]\nid = "x"\narticle = "a"\nplace = "p"\n'
        'says = "s"\nmeasured = [{ kind = "faster" }]\n'
    )
    path = tmp_path / "claims.toml"
    path.write_text(text)
    assert read_claims(path).claim[0].id == "x"
    wrong = tmp_path / "wrong.toml"
    wrong.write_text(text.replace(*change))
    with pytest.raises(PlanError, match=sentence):
        read_claims(wrong)
