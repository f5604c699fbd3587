"""Which pictures of an audit follow their prompts: the counts, their intervals, and every door."""

import io
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from audit.answers import answers
from audit.document import document, read_document
from audit.evidence import evidence
from audit.measurement import Measurement
from audit.metrics import Rgb
from audit.plan import PlannedRun
from audit.prompt_evidence import CAVEAT, HEADING
from audit.prompt_followed import BesideBaseline, PromptFollowed
from audit.prompt_judge import Aspect, PromptJudge, load_judge
from audit.prompt_scoring import judge_of
from audit.prompt_words import Asked
from audit.report import render
from audit.score import Audit, Score
from audit.scoring import score
from audit.statistics import mcnemar
from audit.table import tables
from core.optimization import Configuration
from core.request import Model
from tests.audit_records import BASELINE, PLATFORM, Records, configuration, request
from tests.conftest import Script
from tests.test_prompt_judge import CARD, RED, ByColour, picture
from webapp.row_card import card as row_card
from webapp.scores_card import table as scores_card

POCKET = Path(__file__).parent.parent / "data" / "pocket"
MERGED = configuration(token_merging="seeded:0.5")
DISC, SQUARE = picture((40, 80, 40, 80, RED)), picture((40, 80, 40, 80, (220, 220, 250)))
"""What `ByColour` calls a red disc, and what it calls no disc."""


class Counting(PromptJudge):
    """A judge that counts how often it is asked."""

    asked = 0

    def verdicts(self, picture: Rgb, wanted: Asked) -> dict[Aspect, bool]:
        self.asked += 1
        return super().verdicts(picture, wanted)


@pytest.fixture
def judge() -> Counting:
    return Counting(CARD, ByColour())


def row(
    records: Records, chosen: Configuration, shown: Sequence[Rgb], prompt: str = "a disc"
) -> None:
    """A row that repeats, with one picture per cluster."""
    for cluster, array in enumerate(shown):
        asked = replace(request(cluster), prompt=prompt)
        for label, repeat in (("a", 0), ("a", 1), ("b", 0)):
            records.add(
                "determinism",
                chosen,
                cluster,
                f"{cluster}/{label}",
                [array],
                requests=(asked,),
                repeat=repeat,
            )


def judged(records: Records, judge: PromptJudge | None, *candidates: Configuration) -> Audit:
    return score(
        records.plan(*candidates),
        records.planned,
        records.runs,
        PLATFORM,
        load_picture=records.load,
        audit_id="audit-1",
        started_at="2026-01-01T00:00:00+00:00",
        judge=judge,
    )


def of(audit: Audit, chosen: Configuration = BASELINE) -> Score:
    return next(row for row in audit.scores if row.key == chosen.key and not row.placebo)


def found(row: Score) -> PromptFollowed:
    assert row.prompt_followed is not None
    return row.prompt_followed


@pytest.fixture
def audit(judge: Counting) -> Audit:
    """The baseline follows in five of six; merging loses two of those and wins the sixth."""
    records = Records()
    row(records, BASELINE, [DISC] * 5 + [SQUARE])
    row(records, MERGED, [SQUARE] * 2 + [DISC] * 4)
    return judged(records, judge, MERGED)


def test_pictures_are_counted_once_per_prompt_and_seed(audit: Audit, judge: Counting) -> None:
    base = found(of(audit))
    assert (base.followed, base.of, base.unread, base.beside_baseline) == (5, 6, 0, None)
    assert base.ci95 == pytest.approx((0.3588, 0.9958), abs=1e-4)
    assert [one.missing for one in base.pictures] == [()] * 5 + [("object",)]
    assert judge.asked == 2, "equal pixels are judged once, in whichever row they are"


def test_a_candidate_stands_beside_the_baseline_picture_by_picture(audit: Audit) -> None:
    merged = found(of(audit, MERGED))
    assert (merged.followed, merged.of) == (4, 6)
    beside = merged.beside_baseline
    assert beside is not None
    assert (beside.pairs, beside.baseline_followed) == (6, 5)
    assert (beside.lost, beside.won) == (2, 1)
    assert beside.mcnemar_p == 1.0


@pytest.mark.parametrize(
    ("lost", "won", "p"),
    [(0, 0, 1), (1, 1, 1), (5, 0, 0.0625), (0, 6, 0.03125), (9, 1, 0.021484375)],
)
def test_mcnemar_is_a_coin_for_each_picture_that_changed(lost: int, won: int, p: float) -> None:
    assert mcnemar(lost, won) == pytest.approx(p)


def test_words_the_judge_does_not_know_are_not_judged(judge: Counting) -> None:
    records = Records()
    row(records, BASELINE, [DISC] * 6, prompt="a disc, ultra detailed")
    (only,) = judged(records, judge).scores
    assert only.prompt_followed is None
    assert "does not know the words" in only.prompt_unjudged
    some = Records()
    row(some, BASELINE, [DISC] * 6)
    for entry in some.planned:
        if entry.cluster > 3:
            reword(some, entry, "a (disc:1.3)")
    part = found(of(judged(some, judge)))
    assert (part.followed, part.of, part.unread) == (4, 4, 2)
    assert any("2 pictures not judged" in said for said in evidence(of(judged(some, judge))))


def reword(records: Records, entry: PlannedRun, prompt: str) -> None:
    made = records.runs[entry.identity].pictures[0]
    asked = replace(made.request, prompt=prompt)
    records.change(entry, pictures=(replace(made, request=asked),))


def test_a_picture_that_is_gone_is_left_out_and_said(judge: Counting) -> None:
    records = Records()
    row(records, BASELINE, [DISC] * 6)
    row(records, MERGED, [DISC] * 5 + [SQUARE])
    gone = records.runs[records.find("determinism", MERGED, label="5/a", repeat=0).identity]
    del records.files[gone.pictures[0].path or Path()]
    row_ = of(judged(records, judge, MERGED), MERGED)
    assert (found(row_).followed, found(row_).of) == (5, 5)
    assert any("seed 105 not judged" in note for note in row_.notes)


def test_without_a_judge_nothing_is_said_and_nothing_fails() -> None:
    records = Records()
    row(records, BASELINE, [DISC] * 6)
    audit = judged(records, None)
    assert of(audit).prompt_followed is None
    assert of(audit).prompt_unjudged
    for text in (terminal(audit), render(audit, records.load), scores_card(audit)):
        assert HEADING not in text
        assert CAVEAT not in text
    assert not any("judge" in said for said in evidence(of(audit)))
    assert "follow their prompts: not of 1 of 1" in render(audit, records.load)


def terminal(audit: Audit) -> str:
    console = Console(width=100, file=io.StringIO(), color_system=None)
    for table in tables(audit):
        console.print(table)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_every_door_shows_the_counts_beside_the_baselines(audit: Audit) -> None:
    page, shown, told = render(audit, Records().load), scores_card(audit), terminal(audit)
    assert max(len(line.rstrip()) for line in told.splitlines()) <= 100
    line = next(line for line in told.splitlines() if "22.3 % to 95.7 %" in line)
    assert line.split() == [
        *("token-merging=seeded:0.5", "4", "of", "6", "22.3", "%", "to", "95.7", "%"),
        *("5", "of", "6", "2", "1"),
    ]
    for text in (page, shown, told):
        words = " ".join(text.replace("\N{NO-BREAK SPACE}", " ").split())
        for piece in (HEADING, "5 of 6", "4 of 6", "35.9 % to 99.6 %", CAVEAT):
            assert piece in words, piece
        assert "quality" not in words
    for text in (page, shown):
        assert "2 lost, 1 won" in text
    sentences = " ".join(evidence(of(audit, MERGED)))
    assert (
        "sees all that the prompt asks for in 4 of 6 pictures (95 %: 22.3 % to 95.7 %); of the "
        "baseline's in 5 of 6: 2 lost, 1 won. Not seen: object with seed 100; object with seed 101."
    ) in sentences
    assert "4 of 6 pictures" in row_card(audit, of(audit, MERGED))


def test_the_document_has_the_counts_and_is_read_back(audit: Audit) -> None:
    made = json.loads(json.dumps(document(audit)))
    merged = next(row for row in made["scores"] if row["key"] == MERGED.key)
    assert merged["prompt_followed"]["followed"] == 4
    assert merged["prompt_followed"]["beside_baseline"]["mcnemar_p"] == 1.0
    assert merged["prompt_followed"]["pictures"][0]["missing"] == ["object"]
    assert read_document(made) == audit
    for row in made["scores"]:
        del row["prompt_followed"], row["prompt_unjudged"]
    older = read_document(made)
    assert [row.prompt_followed for row in older.scores] == [None, None]
    for key in ("scores", "controls", "platform"):
        with pytest.raises(ValueError, match="not what `seedproof audit --json` writes"):
            read_document({name: value for name, value in made.items() if name != key})


def test_a_models_judge_says_how_good_it_is_or_why_there_is_none(tmp_path: Path) -> None:
    ours, said = judge_of(Model(name="pocket", path=POCKET, digest="d" * 64))
    assert ours is not None
    assert f"{ours.accepted.right} of {ours.accepted.of} with their own captions" in said
    foreign = Model(name="foreign", path=tmp_path, digest="d" * 64)
    assert judge_of(foreign) == (
        None,
        "Whether pictures follow their prompts was not judged: this model comes without a judge.",
    )
    (tmp_path / "judge").mkdir()
    (tmp_path / "judge" / "judge.json").write_text("{")
    broken, why = judge_of(foreign)
    assert broken is None
    assert "its judge cannot be read" in why


def test_the_shipped_judge_tells_a_pictures_prompt_from_another(script: Script) -> None:
    """On pictures that the shipped model made: the card's grid."""
    judge, prompts = load_judge(POCKET), script("sheets").GRID
    assert judge is not None
    sheet = np.asarray(Image.open(POCKET / "grid.png").convert("RGB"))
    side = 128
    across = sheet.shape[1] // side
    cut = [
        sheet[i // across * side : (i // across + 1) * side, i % across * side :][:, :side]
        for i in range(len(prompts))
    ]
    own = [judge.follows(*pair) for pair in zip(cut, prompts, strict=True)]
    other = [judge.follows(*pair) for pair in zip(cut, prompts[1:] + prompts[:1], strict=True)]
    assert None not in own
    assert sum(map(bool, own)) > len(own) / 2
    assert sum(map(bool, other)) <= 1


@pytest.mark.parametrize(
    ("followed_before", "lost", "won", "agrees"),
    [
        (60, 0, 0, True),
        (58, 0, 0, None),
        (0, 0, 0, None),
        (20, 6, 0, False),
        (20, 5, 0, None),
        (20, 7, 6, None),
        (20, 0, 6, None),
    ],
)
def test_a_claim_about_prompts_needs_counts_that_chance_does_not_make(
    audit: Audit, followed_before: int, lost: int, won: int, agrees: bool | None
) -> None:
    merged = of(audit, MERGED)
    beside = BesideBaseline(
        pairs=100,
        baseline_followed=followed_before,
        lost=lost,
        won=won,
        mcnemar_p=mcnemar(lost, won),
    )
    changed = replace(merged, prompt_followed=replace(found(merged), beside_baseline=beside))
    rows = tuple(changed if row is merged else row for row in audit.scores)
    asked = Measurement(kind="follows", row={"token-merging": "*:*"})
    (answer,) = answers(replace(audit, scores=rows), asked)
    assert answer.agrees is agrees
    assert f"{lost} lost that and {won} won it" in answer.sentence


def test_a_claim_about_prompts_is_open_where_nobody_judged() -> None:
    records = Records()
    row(records, BASELINE, [DISC] * 6)
    row(records, MERGED, [SQUARE] * 6)
    asked = Measurement(kind="follows", row={"token-merging": "*:*"})
    (answer,) = answers(judged(records, None, MERGED), asked)
    assert answer.agrees is None
    assert "not judged, this audit had no judge" in answer.sentence
