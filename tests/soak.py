"""`make soak`: what takes hours, run by hand. Each part prints its figures as one JSON line.

    python -m tests.soak [kills] [standard] [mixed] [load] [--kills N] [--minutes M] [--folder DIR]

Exits 1 where something was lost, repeated or left behind, or where memory grew.
"""

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

Figures = dict[str, Any]
PARTS = ("kills", "standard", "mixed", "load")


def main() -> int:
    parser = argparse.ArgumentParser(prog="soak", description=__doc__)
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"of {', '.join(PARTS)}; all")
    parser.add_argument("--kills", type=int, default=50, help="how often an audit is killed")
    parser.add_argument("--minutes", type=float, default=60.0, help="how long the app is used")
    parser.add_argument("--clients", type=int, default=50, help="how many people ask at once")
    parser.add_argument("--load-minutes", type=float, default=5.0, help="how long they ask")
    parser.add_argument("--seed", type=int, default=0, help="of everything that is random")
    parser.add_argument("--folder", type=Path, help="kept; without it a temporary one")
    wanted = parser.parse_args()
    if unknown := set(wanted.parts) - set(PARTS):
        parser.error(f"no part is called {', '.join(sorted(unknown))}: {', '.join(PARTS)}")
    with tempfile.TemporaryDirectory(prefix="seedproof-soak-") as temporary:
        folder = wanted.folder or Path(temporary)
        parts: dict[str, Callable[[Path], Figures]] = {
            "kills": lambda place: _kills(place, wanted.kills, wanted.seed),
            "standard": _standard,
            "mixed": lambda place: _mixed(place, wanted.minutes, wanted.seed),
            "load": lambda place: _load(place, wanted.load_minutes, wanted.clients),
        }
        failed = False
        for name in wanted.parts or PARTS:
            place = folder / name
            place.mkdir(parents=True, exist_ok=True)
            began = time.monotonic()
            figures = parts[name](place)
            minutes = round((time.monotonic() - began) / 60, 1)
            print(json.dumps({"part": name, "minutes": minutes, **figures}), flush=True)
            failed = failed or bool(figures["problems"])
    return int(failed)


def _kills(folder: Path, count: int, seed: int) -> Figures:
    from tests.soak_kills import kill_often

    return kill_often(folder, count, seed)


def _standard(folder: Path) -> Figures:
    from tests.soak_standard import run_standard

    return run_standard(folder)


def _mixed(folder: Path, minutes: float, seed: int) -> Figures:
    from tests.soak_mixed import use
    from webapp.waiting import share_cores

    share_cores(os.environ)

    return use(folder, minutes, seed)


def _load(folder: Path, minutes: float, clients: int) -> Figures:
    from tests.soak_load import load

    return load(folder, minutes, clients)


def say(text: str) -> None:
    """How it goes, on standard error."""
    print(f"{time.strftime('%H:%M:%S')} {text}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
