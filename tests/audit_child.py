"""A process that runs one audit with real workers, made to be killed by `test_resume`."""

import sys
from pathlib import Path


def main(database: Path, model_path: Path, plan_path: Path, audit_id: str) -> None:
    from audit.execution import run_audit
    from audit.plan_file import load_plan
    from core.models import resolve
    from core.platforms import detect
    from core.store import Store
    from core.worker import open_worker

    platform = detect("cpu")
    model = resolve(str(model_path), Path("unused"))
    plan = load_plan(plan_path, model, platform)
    with Store(database) as store:
        run_audit(
            store,
            plan,
            platform,
            model,
            lambda conditions: open_worker(
                conditions,
                platform,
                pictures=store.pictures,
                lease_folder=database.parent / "leases",
            ),
            audit_id=audit_id or None,
        )


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), Path(sys.argv[3]), sys.argv[4])
