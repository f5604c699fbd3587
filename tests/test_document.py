"""The JSON of an audit: the names that other programs rely on."""

import json

from audit.document import document
from tests.audit_records import BASELINE, Records, configuration

NEAR = configuration(precision="bf16")


def test_the_document_keeps_its_names() -> None:
    records = Records()
    records.row()
    records.row(NEAR, levels=1)
    made = json.loads(json.dumps(document(records.audit(NEAR))))
    assert set(made) >= {
        "audit_id",
        "platform",
        "baseline",
        "scores",
        "controls",
        "claims",
        "side_by_side",
        "deviations",
        "recommendations",
    }
    assert set(made["claims"][0]) >= {"id", "says", "verdict", "reason", "figures"}
    assert set(made["recommendations"]) == {"exact", "same-look", "fastest"}
    row = next(row for row in made["scores"] if row["key"] == NEAR.key)
    assert row["configuration"] == NEAR.as_dict()
    assert made["baseline"] == BASELINE.key
    for name in ("effect", "effective", "inherited_from", "seconds_median", "peak_memory_bytes"):
        assert name in row
    assert set(row["determinism"]["same-process"]) >= {
        "verdict",
        "trials",
        "failures",
        "p_upper95",
        "witness",
    }
    assert set(row["drift"]["ssim"]) == {"mean", "min", "worst_tile"}
    assert set(row["drift"]) >= {"verdict", "delta_e", "phash_max", "max_abs"}
