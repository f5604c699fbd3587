"""The standard plan, as `seedproof audit` runs it, to its end with three recommendations."""

import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

from audit.plan import Plan
from audit.schedule import expand
from audit.score import AXES, GOALS
from core.platforms import Platform
from core.store import Store
from tests.soak import say
from tests.test_resume import ROOT, assert_intact


def run_standard(folder: Path) -> dict[str, Any]:
    """Begin the plan in this folder, or continue what is there; figures of the finished audit."""
    database = folder / "seedproof.db"
    with Store(database) as store:
        begun = [entry.id for entry in store.audits()]
    which = ["--resume", begun[0]] if begun else ["--plan", "standard"]
    say(f"seedproof audit {' '.join(which)}")
    done = subprocess.run(
        [sys.executable, "-m", "webapp", "audit", *which, "--json", "--db", str(database)],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        text=True,
        check=False,
    )
    if done.returncode:
        return {"problems": [f"seedproof audit ended with code {done.returncode}"]}
    document = json.loads(done.stdout)
    (folder / "audit.json").write_text(done.stdout, encoding="utf-8")
    assert_intact(database)
    with Store(database) as store:
        audit_id = document["audit_id"]
        planned = expand(store.plan(audit_id, Plan), store.platform(audit_id, Platform))
        missing = {entry.identity for entry in planned} - store.identities(audit_id)
    return {
        "audit": audit_id,
        "runs": document["runs_done"],
        "seconds": round(document["seconds"]),
        "verdicts": {
            axis: dict(Counter(row["determinism"][axis]["verdict"] for row in rows(document)))
            for axis in AXES
        },
        "drift": {row["key"]: row["drift"] and row["drift"]["verdict"] for row in rows(document)},
        "failures": {row["key"]: row["failures"] for row in rows(document) if row["failures"]},
        "recommended": {goal: document["recommendations"][goal]["key"] for goal in GOALS},
        "problems": [
            *(["the audit is not complete"] if not document["complete"] else []),
            *([f"{len(missing)} planned runs are missing"] if missing else []),
            *(
                f"nothing is recommended for {goal}"
                for goal in GOALS
                if document["recommendations"][goal]["key"] is None
            ),
        ],
    }


def rows(document: dict[str, Any]) -> list[dict[str, Any]]:
    """The configurations that this platform can do."""
    return [row for row in document["scores"] if row["available"]]
