"""A complete audit keeps its result, whatever a later version would plan."""

from dataclasses import replace
from pathlib import Path

import pytest

from audit import judgement
from audit.execution import run_audit
from audit.judgement import judge
from audit.verdicts import GATES
from core.store import Store
from tests.fake_engine import MODEL, PLATFORM, FakeWorkers
from tests.test_execution import PLAN, Stop


def test_a_complete_result_stands_and_an_incomplete_one_does_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Store(tmp_path / "seedproof.db") as store:
        workers = FakeWorkers(pictures=store.pictures)
        audit_id = run_audit(store, PLAN, PLATFORM, MODEL, workers, stop=Stop(5))
        assert not judge(store, audit_id).complete
        run_audit(store, PLAN, PLATFORM, MODEL, workers, audit_id)
        whole = judge(store, audit_id)
        assert whole.complete
        assert whole.gates == GATES
        assert any("starting values: this model comes without" in note for note in whole.notes)
        assert any("not judged: this model comes without a judge" in note for note in whole.notes)
        assert all(row.prompt_followed is None for row in whole.scores)
        monkeypatch.setattr(judgement, "expand", lambda plan, platform: ())
        assert judge(store, audit_id) == whole


def test_pictures_are_judged_where_a_judge_lies_in_the_models_folder(tmp_path: Path) -> None:
    """Made-up noise, asked for as "a cat": the shipped judge reads the prompt and looks at it."""
    shipped = replace(MODEL, path=Path(__file__).parents[1] / "data" / "pocket")
    with Store(tmp_path / "seedproof.db") as store:
        workers = FakeWorkers(pictures=store.pictures)
        whole = judge(store, run_audit(store, PLAN, PLATFORM, shipped, workers))
        assert any("what this model's judge says" in note for note in whole.notes)
        counts = [row.prompt_followed for row in whole.scores]
        assert [found and found.of for found in counts] == [3] * len(counts)
        assert judge(store, whole.audit_id) == whole, "read back from the store as it was"
