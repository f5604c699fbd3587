"""The load test's own judgement: who was served out of turn."""

from tests.soak_load import Served, unfair


def served(owner: int, asked: float, started: float) -> Served:
    return Served(owner, (asked, asked + 0.1), (started, started + 0.1))


def test_turns_in_order_are_fair() -> None:
    rounds = [served(owner, 0, 1 + owner + 3 * turn) for turn in range(3) for owner in range(3)]
    assert unfair(rounds) == []


def test_twice_in_one_turn_is_not() -> None:
    jobs = [served(1, 0, 2), served(1, 0, 4), served(2, 0.5, 6)]
    assert unfair(jobs) == ["1 was served 2 times while 2 waited"]


def test_what_the_clock_cannot_tell_is_no_charge() -> None:
    jobs = [served(1, 0, 0.55), served(1, 0, 4), served(2, 0.5, 6)]
    assert unfair(jobs) == []
