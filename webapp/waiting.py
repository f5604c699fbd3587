"""How torch's threads wait for each other, set before torch is loaded."""

from collections.abc import MutableMapping

SPINS = "2000"
"""Looks at a flag before a thread sleeps (GNU OpenMP's GOMP_SPINCOUNT).

By itself it is in the hundreds of thousands: a thread whose sibling waits for a core then burns its
own. Measured on two cores, medians of a 20-step picture: beside a process that imports torch over
and over 4.2 s instead of 7.0 s; alone 1.7, 2.0 and 1.7 s instead of 1.9, 1.8 and 1.5 s, which is
within the noise. Never sleeping late at all (OMP_WAIT_POLICY=passive) took 2.3 to 2.9 s alone.
"""


def share_cores(environment: MutableMapping[str, str]) -> None:
    """Let threads sleep soon, where the user has not said how they are to wait."""
    if "OMP_WAIT_POLICY" not in environment:
        environment.setdefault("GOMP_SPINCOUNT", SPINS)
