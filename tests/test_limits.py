"""What one person may ask for: each limit with a sentence, from a file that may have mistakes."""

from dataclasses import replace
from pathlib import Path

import pytest

from core.optimizations import configure
from core.request import Following, Job, Request
from core.store import Store
from tests.fake_engine import MODEL, PLATFORM, FakeEngine
from webapp.limits import Limits, OverLimit, read_limits

LIMITS = Limits(width=256, height=192, num_inference_steps=30, batch_size=2, stored_bytes=5_000_000)


def job(count: int = 1, **changes: int) -> Job:
    asked = replace(
        Request(prompt="a panda", model=MODEL, num_inference_steps=4),
        **changes,  # type: ignore[arg-type]
    )
    requests = tuple(replace(asked, seed=seed) for seed in range(count))
    return Job(id="one", requests=requests, configuration=configure({}, PLATFORM))


def refused(asked: Job, stored: int = 0) -> str:
    with pytest.raises(OverLimit) as error:
        LIMITS.refuse(asked, lambda: stored)
    return str(error.value)


def test_each_limit_says_what_is_too_much_and_what_to_do() -> None:
    assert "at most 256 pixels wide, not 264: choose a smaller" in refused(job(width=264))
    assert "at most 192 pixels high, not 200" in refused(job(height=200))
    assert "at most 30 steps, not 31: choose fewer" in refused(job(num_inference_steps=31))
    assert "at most 2 pictures, not 3" in refused(job(3))
    told = refused(job(), stored=5_000_000)
    assert told.startswith("Your pictures take 5.0 MB of the 5.0 MB")
    assert "delete some on the History page" in told


def test_at_its_limits_a_job_may_be_asked_for() -> None:
    most = job(2, width=256, height=192, num_inference_steps=30)
    LIMITS.refuse(most, lambda: 4_999_999)
    huge = job(99, width=8192, height=8192, num_inference_steps=999)
    Limits().refuse(huge, lambda: pytest.fail("nothing limits the disk, so nobody counts"))


def test_a_form_says_them_beforehand() -> None:
    assert LIMITS.sentence == "On this server at most: 256 pixels wide, 192 pixels high, 30 steps."
    assert Limits().sentence == ""


def test_a_file_is_read_and_its_mistakes_are_named(tmp_path: Path) -> None:
    file = tmp_path / "limits.toml"
    file.write_text('width = 512\nwaiting_jobs = 3\nstored_bytes = "1.5 GB"\n')
    assert read_limits(file) == Limits(width=512, waiting_jobs=3, stored_bytes=1_500_000_000)
    for text, sentence in (
        ("steps = 3", "'steps', which is no limit: width, height"),
        ("width = 0", "width in .* whole number from 1, not 0"),
        ("width = true", "not True"),
        ('width = "2GB"', "not '2GB'"),
        ('stored_bytes = "2 apples"', 'such as "2GB", not'),
        ('stored_bytes = "0.1"', "stored_bytes"),
        ("width =", "cannot be read"),
    ):
        file.write_text(text)
        with pytest.raises(ValueError, match=sentence):
            read_limits(file)


def test_what_one_keeps_is_counted_by_file(tmp_path: Path) -> None:
    with Store(tmp_path / "seedproof.db") as store:
        engine = FakeEngine(pictures=store.pictures)
        run = engine.run(job(2), Following())
        for number in range(2):
            one = replace(run, job=replace(run.job, id=f"job {number}"))
            store.add_generation(one, "account:ben")
        paths = {picture.path for picture in run.pictures if picture.path is not None}
        assert len(paths) == 2
        size = sum(path.stat().st_size for path in paths)
        assert store.stored_bytes("account:ben") == size > 0
        assert store.stored_bytes("account:cat") == 0
        for path in paths:
            assert store.shows("account:ben", path.name)
            assert not store.shows("account:cat", path.name)
        store.delete_generation("job 0", "account:ben")
        assert store.stored_bytes("account:ben") == size
        store.delete_generation("job 1", "account:ben")
        assert store.stored_bytes("account:ben") == 0
        assert not any(store.shows("account:ben", path.name) for path in paths)
