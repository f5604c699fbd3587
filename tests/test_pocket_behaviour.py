"""Which orders of real models an audit of the shipped one shows, and what its card says of them."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from audit.document import document
from audit.score import Audit, DriftVerdict, Score, TimeRatio
from tests.audit_records import BASELINE, Records, configuration
from tests.claim_records import audit_with, pictures, time
from tests.conftest import Script

SIX = 6
LEAST, BF16, SIGMA, MORE, TIME = range(5)
"""Places of the orders."""


def row(ssim: float, ratio: float | TimeRatio = 1.0, **slots: str) -> Score:
    """Six pictures of one SSIM, and a time."""
    word: DriftVerdict = "rounding" if ssim > 0.9999 else "fine-detail"
    made = pictures(configuration(**slots), *[(word, ssim)] * SIX)
    taken = ratio if isinstance(ratio, TimeRatio) else time(ratio)
    drift = made.drift and replace(made.drift, ssim_mean=ssim, ssim_min=ssim)
    return replace(made, drift=drift, time_ratio=taken)


def as_reported(**changes: Score) -> Audit:
    """Every order holds, unless a row is another."""
    rows = {
        "none": row(0.99999, 1.4, attention="none"),
        "split": row(0.99995, 1.2, attention="split-v1"),
        "bf16": row(0.998, 0.8, precision="bf16"),
        "low": row(0.99, 0.96, min_sigma="alternate:0.3"),
        "high": row(0.98, 0.9, min_sigma="alternate:0.7"),
        "less": row(0.96, 0.9, token_merging="seeded:0.3"),
        "half": row(0.94, 0.8, token_merging="seeded:0.5"),
        "more": row(0.9, 0.7, token_merging="seeded:0.7"),
    }
    return audit_with(*(rows | changes).values())


def verdicts(script: Script, audit: Audit) -> list[str]:
    found = script("behaviour").behaviour(audit)
    return [order["verdict"] for order in found["orders"]]


def test_a_model_that_does_as_reported_holds_every_order(script: Script) -> None:
    found = script("behaviour").behaviour(as_reported())
    assert [order["verdict"] for order in found["orders"]] == ["holds"] * 5
    assert [len(order["agree"]) for order in found["orders"]] == [12, 5, 6, 3, 4]
    assert not any(order["against"] or order["open"] for order in found["orders"])
    names = [line[0] for line in found["rows"]]
    assert names[0] == "attention=sdp (baseline)"
    assert names[-1] == "token-merging=seeded:0.7"


@pytest.mark.parametrize(
    ("changed", "place"),
    [
        ({"low": row(0.999999, min_sigma="alternate:0.3")}, LEAST),
        ({"bf16": row(0.985, precision="bf16")}, BF16),
        ({"high": row(0.95, min_sigma="all:0.7")}, SIGMA),
        ({"more": row(0.95, 0.7, token_merging="seeded:0.7")}, MORE),
        ({"more": row(0.9, 0.9, token_merging="seeded:0.7")}, TIME),
        ({"less": row(0.96, 1.1, token_merging="seeded:0.3")}, TIME),
    ],
)
def test_one_comparison_against_it_refutes_an_order(
    script: Script, changed: dict[str, Score], place: int
) -> None:
    audit = as_reported(**changed)
    said = verdicts(script, audit)
    assert said[place] == "does not hold"
    order = script("behaviour").behaviour(audit)["orders"][place]
    text = script("behaviour").text(script("behaviour").behaviour(audit))
    assert order["against"][0] in text
    assert order["why"] in text
    assert text.count("Does not hold:") == said.count("does not hold")


def test_what_cannot_be_told_apart_is_left_open(script: Script) -> None:
    said = verdicts(script, as_reported(half=row(0.94, 0.9, token_merging="seeded:0.5")))
    assert said == ["holds"] * 4 + ["left open"]


def test_rows_that_are_not_there_decide_nothing(script: Script) -> None:
    gone = replace(row(0.5, attention="xformers"), available=False, why_not="needs a GPU")
    assert verdicts(script, as_reported(gone=gone)) == ["holds"] * 5
    few = audit_with(row(0.9999, attention="none"), row(0.99, precision="bf16"))
    assert verdicts(script, few) == ["holds"] + ["not in this audit"] * 4


def test_the_reason_names_the_tokens_that_were_counted(script: Script) -> None:
    found = script("behaviour").behaviour(as_reported())
    assert "at most 1,024 tokens here, and 4,096 in" in found["orders"][TIME]["why"]


def test_the_command_reads_an_audit_that_was_scored_and_writes_what_the_card_tells(
    script: Script, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    behaviour, card = script("behaviour"), script("card")
    near, far = configuration(precision="bf16"), configuration(token_merging="seeded:0.5")
    records = Records()
    records.row()
    records.row(near, levels=1)
    records.row(far, levels=60)
    whole = records.audit(near, far)
    stored, out = tmp_path / "audit.json", tmp_path / "evaluation" / behaviour.FILE
    stored.write_text(json.dumps(document(whole)))
    monkeypatch.setattr("sys.argv", ["behaviour.py", str(stored), "--out", str(out)])
    behaviour.main()
    found = json.loads(out.read_text())
    assert [line[0] for line in found["rows"]] == [
        f"attention={BASELINE.get('attention')} (baseline)",
        "precision=bf16",
        "token-merging=seeded:0.5",
    ]
    assert found["orders"][BF16]["verdict"] == "holds"
    assert (
        "closer to the baseline than token-merging=seeded:0.5 in 6 of 6 pictures"
        in (found["orders"][BF16]["agree"][0])
    )
    assert capsys.readouterr().out.strip() == behaviour.text(found)

    monkeypatch.setattr(card, "POCKET", tmp_path)
    monkeypatch.setattr(card, "digest", lambda folder: found["weights"])
    assert card.behaved() == behaviour.text(found)
    monkeypatch.setattr(card, "digest", lambda folder: "0" * 64)
    with pytest.raises(SystemExit, match=r"of other weights: run behaviour\.py"):
        card.behaved()

    stored.write_text(json.dumps(document(replace(whole, complete=False))))
    with pytest.raises(SystemExit, match="it is not complete"):
        behaviour.main()
    stored.write_text("[]")
    with pytest.raises(SystemExit, match="not what `seedproof audit --json` writes"):
        behaviour.main()
