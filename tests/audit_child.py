"""A process that runs one audit with real workers, made to be killed: `test_resume`, `soak`."""

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def main(
    database: Path, model_path: Path, plan_path: Path, audit_id: str, dies_in_write: int = 0
) -> None:
    """`dies_in_write`: which of its transactions, from 1, is the last thing it does; 0 for none."""
    from audit.execution import run_audit
    from audit.plan_file import load_plan
    from core.models import resolve
    from core.platforms import detect
    from core.store import Store
    from core.worker import open_worker

    class Mortal(Store):
        left = dies_in_write

        @contextmanager
        def _writing(self) -> Iterator[object]:  # type: ignore[override]
            with super()._writing() as db:
                yield db
                self.left -= 1
                if self.left == 0:
                    os.kill(os.getpid(), signal.SIGKILL)

    platform = detect("cpu")
    model = resolve(str(model_path), Path("unused"))
    plan = load_plan(plan_path, model, platform)
    with Mortal(database) as store:
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
    main(
        Path(sys.argv[1]),
        Path(sys.argv[2]),
        Path(sys.argv[3]),
        *sys.argv[4:5],
        *map(int, sys.argv[5:]),
    )
