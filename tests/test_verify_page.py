"""The Verify page without a browser: what a receipt says, a rerun in the queue, a verdict."""

# ruff: noqa: F401, F811, the fixture is imported by name and asked for by name

import asyncio
import dataclasses
import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from core.optimizations import configure
from core.picture_file import Texts, encoded
from core.request import Conditions, Following, Job
from core.run import Run
from tests.fake_engine import PLATFORM, FakeEngine, FakeWorker, FakeWorkers
from tests.test_pages import EVIL, NO_REQUEST, POCKET, SECRET, made, request, services
from tests.test_verification import edited
from tests.test_verification import made as picture_of
from webapp import verify_card, visitors
from webapp.reruns import Reruns, tidy
from webapp.run_card import finished
from webapp.services import Services
from webapp.verify_page import VerifyPage


@pytest.fixture
def page(services: Services) -> VerifyPage:
    return made(lambda: VerifyPage(services))


def picture(services: Services, **changes: Any) -> tuple[Run, Path]:
    """A stored picture that carries its receipt."""
    asked = (request(seed=3, **changes), request(seed=4, **changes))
    job = Job(id="mine", requests=asked, configuration=configure({}, PLATFORM))
    run = FakeEngine(pictures=services.store.pictures).run(job, Following())
    _, path = picture_of(services.store.pictures, run)
    pictures = tuple(dataclasses.replace(one, path=path) for one in run.pictures)
    return dataclasses.replace(run, pictures=pictures), path


def put_in(page: VerifyPage, path: Path) -> tuple[Any, ...]:
    return asyncio.run(page._put_in(str(path)))


def verified(page: VerifyPage, path: Path) -> str:
    async def last() -> Any:
        return [update async for update in page._verify(str(path), SECRET, NO_REQUEST)][-1]

    card, job_id, go, cancel = asyncio.run(last())
    assert job_id == ""
    assert go.interactive
    assert not cancel.interactive
    return str(card)


def test_a_receipt_is_shown_with_every_word_escaped(services: Services, page: VerifyPage) -> None:
    _, path = picture(services, prompt=EVIL, negative_prompt=EVIL)
    card, verdict, kept, go = put_in(page, path)
    assert EVIL not in card
    assert card.count("&lt;img src=x") >= 3
    assert "picture 2 of 2 computed together" in card
    assert "the file has these pixels" in card
    assert (verdict, kept, go.interactive) == ("", str(path), True)


@pytest.mark.parametrize(
    ("texts", "sentence"),
    [
        (None, "not a whole PNG"),
        (Texts(), "carries no receipt"),
        (Texts(infotext=f"{EVIL}\nSteps: 2"), "no receipt of Seedproof"),
        (Texts(receipt=f'{{"schema": "{EVIL[:4]}"}}'), "reads 1"),
    ],
)
def test_what_has_no_receipt_is_told_and_cannot_go_on(
    page: VerifyPage, tmp_path: Path, texts: Texts | None, sentence: str
) -> None:
    path = tmp_path / "<b>.png"
    path.write_bytes(b"x" if texts is None else encoded(Image.new("RGB", (64, 64)), "PNG", texts))
    card, _, kept, go = put_in(page, path)
    assert sentence in card
    assert "<b>" not in card
    assert "<img" not in card
    assert (kept, go.interactive) == ("", False)


def test_a_rerun_gives_a_verdict_and_leaves_nothing_behind(
    services: Services, page: VerifyPage
) -> None:
    _, path = picture(services)
    assert 'data-verdict="bit-exact"' in verified(page, path)

    def edit(pixels: np.ndarray[Any, Any]) -> None:
        pixels[7, 8] ^= 255

    card = verified(page, edited(path, edit))
    assert "1 of 16,384 pixels differ, at column 8, row 7" in card
    assert "the file was edited" in card
    assert "./gradio_api/file=" in card
    assert services.store.history(visitors.owner(SECRET)).total == 0


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"num_inference_steps": 500, "width": 512, "height": 512}, "more work"),
        ({"model": dataclasses.replace(POCKET, digest="7" * 64)}, "7" * 64),
        ({"sampler": "Magic"}, "Unknown sampler"),
    ],
)
def test_what_cannot_be_rerun_is_one_sentence(
    services: Services, page: VerifyPage, changes: dict[str, Any], sentence: str
) -> None:
    _, path = picture(services, **changes)
    card = verified(page, path)
    assert sentence in card
    assert 'role="alert"' in card


def test_an_address_names_a_picture_of_this_database(services: Services, page: VerifyPage) -> None:
    run, path = picture(services)
    services.store.add_generation(run, visitors.owner(SECRET))
    assert "./verify?run=mine" in finished(run)

    def opened(**query: str) -> tuple[Any, ...]:
        visit: Any = SimpleNamespace(query_params=query)
        return asyncio.run(page._opened(SECRET, visit))

    assert opened(run="mine")[2] == str(path)
    assert "no such picture" in opened(run="nobody's")[0]
    assert opened()[0] != verify_card.EMPTY


def test_jobs_with_conditions_have_a_process_of_their_own(services: Services) -> None:
    usual, workers = FakeEngine(), FakeWorkers()
    reruns = Reruns(usual, workers)  # type: ignore[arg-type]
    job = Job(id="a", requests=(request(),), configuration=configure({}, PLATFORM))
    reruns.run(job, Following())
    assert (usual.calls, workers.events) == (1, [])
    reruns.run(dataclasses.replace(job, conditions=Conditions(process="exec")), Following())
    assert (usual.calls, workers.events) == (1, ["open 1", "run 1", "close 1"])
    assert workers.opened[0].conditions == Conditions(process="exec")


def test_only_the_latest_files_of_reruns_are_kept(tmp_path: Path) -> None:
    for number in range(5):
        file = tmp_path / f"{number}.png"
        file.write_bytes(b"")
        os.utime(file, (number, number))
    tidy(tmp_path, kept=2)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["3.png", "4.png"]
