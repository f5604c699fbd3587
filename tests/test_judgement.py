"""A complete audit keeps its result, whatever a later version would plan."""

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
        monkeypatch.setattr(judgement, "expand", lambda plan, platform: ())
        assert judge(store, audit_id) == whole
