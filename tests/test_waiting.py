"""Threads that wait for each other let others have their core, unless the user said otherwise."""

import os
import subprocess
import sys

import pytest

from webapp.places import REPOSITORY
from webapp.waiting import SPINS, share_cores


@pytest.mark.parametrize(
    ("said", "then"),
    [
        ({}, {"GOMP_SPINCOUNT": SPINS}),
        ({"GOMP_SPINCOUNT": "7"}, {"GOMP_SPINCOUNT": "7"}),
        ({"OMP_WAIT_POLICY": "active"}, {"OMP_WAIT_POLICY": "active"}),
    ],
)
def test_what_a_user_says_stands(said: dict[str, str], then: dict[str, str]) -> None:
    environment = dict(said)
    share_cores(environment)
    assert environment == then


def test_the_terminal_sets_it_before_torch_is_loaded() -> None:
    code = (
        "import sys, os\n"
        "import webapp.cli as cli\n"
        "assert 'torch' not in sys.modules\n"
        "cli._exit_code = lambda work: print(os.environ['GOMP_SPINCOUNT'])\n"
        "cli.main([])\n"
    )
    clean = {k: v for k, v in os.environ.items() if k not in ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT")}
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=REPOSITORY,
        env=clean,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.strip() == SPINS, done.stderr
