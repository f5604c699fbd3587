"""One picture up close, two side by side, and several at once, without a browser."""

import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from audit.pictures import load_picture
from core.history import Generation
from core.optimizations import configure
from core.request import Job
from core.run import Run
from tests.fake_engine import PLATFORM, Behaviour, FakeEngine
from tests.test_pages import EVIL, SECRET, made, request, services  # noqa: F401, a fixture
from webapp import gallery, history_filter, pair_card, picture_card, picture_zip
from webapp.compare_page import ComparePage
from webapp.history_filter import Chosen, chosen_of
from webapp.history_page import HistoryPage
from webapp.identity import visitor
from webapp.services import Services

ME, STRANGER = visitor(SECRET), visitor("6" * 32)


class Nothing:
    def on_step(self, event: object) -> None:
        """Nobody looks."""

    def cancelled(self) -> bool:
        return False


def run(folder: Path, name: str, settings: dict[str, str] | None = None, **changes: Any) -> Run:
    engine = FakeEngine(pictures=folder, behaviours={"attention=none": Behaviour(levels=1)})
    configuration = configure(settings or {}, PLATFORM)
    asked = request(**changes)
    return engine.run(Job(id=name, requests=(asked,), configuration=configuration), Nothing())


def kept(services: Services, *runs: Run) -> None:  # noqa: F811
    for one in runs:
        services.store.add_generation(one, ME.owner)


def generation(run: Run) -> Generation:
    return Generation(run=run, made_at="2026-01-01T00:00:00+00:00")


def test_two_pictures_are_measured_and_their_parting_is_told(tmp_path: Path) -> None:
    first = run(tmp_path, "a", prompt=EVIL)
    second = run(tmp_path, "b", {"attention": "none"}, prompt=EVIL)
    shown = pair_card.card(generation(first), generation(second), load_picture)
    assert EVIL not in shown
    assert "rounding" in shown
    assert "step 2 of 4; until then all latents are equal" in shown
    assert "1 of 255 levels" in shown
    assert '<th scope="row">attention</th><td>sdp</td><td>none</td>' in shown
    assert "num inference steps" not in shown
    same = pair_card.card(generation(first), generation(first), load_picture)
    assert "bit-exact" in same
    assert "nothing: noise, latents and pixels are equal" in same
    assert "Nothing: the same request" in same


def test_what_cannot_be_known_is_said_and_not_guessed(tmp_path: Path) -> None:
    first, other = run(tmp_path, "a"), run(tmp_path, "b", seed=5)
    assert "<dd>the initial noise</dd>" in pair_card.card(
        generation(first), generation(other), load_picture
    )
    silent = replace(
        first, pictures=(replace(first.pictures[0], step_sha256s=(), latents_sha256="x"),)
    )
    assert "not known: one of them has no digests" in pair_card.card(
        generation(first), generation(silent), load_picture
    )
    larger = run(tmp_path, "c", width=64)
    shown = pair_card.card(generation(first), generation(larger), load_picture)
    assert "A has 128 × 128 pixels and B 64 × 128" in shown
    assert "SSIM" not in shown
    longer = run(tmp_path, "d", num_inference_steps=8)
    assert "num inference steps" in pair_card.card(
        generation(first), generation(longer), load_picture
    )
    path = other.pictures[0].path
    assert path is not None
    path.unlink()
    gone = pair_card.card(generation(first), generation(other), load_picture)
    assert "could not be read" in gone
    assert "picture files are gone" in gone


def test_only_ones_own_and_shared_pictures_are_compared(services: Services) -> None:  # noqa: F811
    kept(services, run(services.store.pictures, "a"), run(services.store.pictures, "b", seed=3))
    page = made(lambda: ComparePage(services))
    assert "sp-compare-stage" in page._pair("a", "b", ME)
    assert page._pair("a", "b", STRANGER) == page._pair("a", "nothing", ME) == pair_card.NOT_THERE
    assert page._pair("a", "", ME) == pair_card.EMPTY
    for name in "ab":
        services.store.share(name, ME.owner, True)
    assert "sp-compare-stage" in page._pair("a", "b", STRANGER)


def test_a_picture_opens_for_others_only_when_shared_and_without_controls(
    services: Services,  # noqa: F811
) -> None:
    kept(services, run(services.store.pictures, "a", prompt=EVIL))
    page = made(lambda: HistoryPage(services))
    mine = page._card("a", ME)
    assert EVIL not in mine
    assert 'data-share="on"' in mine
    assert page._card("a", STRANGER) == page._card("nothing", ME) == picture_card.NOT_THERE
    share = lambda store, name, owner: store.share(name, owner, True)  # noqa: E731
    page._changed("a", share, Chosen(), 1, STRANGER)
    assert page._card("a", STRANGER) == picture_card.NOT_THERE
    card, *_ = page._changed("a", share, Chosen(), 1, ME)
    assert 'data-share="off"' in card
    shown = page._card("a", STRANGER)
    assert "<img" in shown
    assert "data-share" not in shown
    assert "sp-tags" not in shown
    assert page._wall(Chosen(), 1, STRANGER.owner)[0] == gallery.NONE_YET


def test_tags_are_told_in_one_sentence_where_they_cannot_be(services: Services) -> None:  # noqa: F811
    kept(services, run(services.store.pictures, "a"))
    page = made(lambda: HistoryPage(services))
    tag = lambda store, name, owner: store.change_tags([name], owner, add="a,b")  # noqa: E731
    card, filters, *_ = page._changed("a", tag, Chosen(), 1, ME)
    assert "A tag is 1 to 40 characters without a comma" in card
    assert 'name="tag"' not in filters
    wall, _, _, filters, told, _ = page._act("tag", ["a"], EVIL, Chosen(), 1, ME.owner)
    assert "1 picture tagged." in told
    assert "<img src=x" not in wall + filters
    assert 'name="tag"' in filters


def test_what_is_found_can_be_tagged_and_deleted_as_a_whole(services: Services) -> None:  # noqa: F811
    pictures = services.store.pictures
    kept(services, *(run(pictures, str(n), seed=n, prompt=f"a {n % 2}") for n in range(6)))
    page = made(lambda: HistoryPage(services))
    told = page._act("tag", None, "odd", Chosen(words="a 1"), 1, ME.owner)[4]
    assert "3 pictures tagged." in told
    assert page._act("delete", None, "", Chosen(tag="odd"), 1, STRANGER.owner)[4].count(
        "0 pictures"
    )
    assert "3 pictures deleted." in page._act("delete", None, "", Chosen(tag="odd"), 1, ME.owner)[4]
    assert services.store.history(ME.owner).total == 3
    assert "1 picture deleted." in page._act("delete", ["0"], "", Chosen(), 1, ME.owner)[4]


def test_pictures_are_downloaded_with_their_receipts_and_by_their_owner_only(
    services: Services,  # noqa: F811
) -> None:
    one, other = (run(services.store.pictures, name, seed=n) for n, name in enumerate("ab"))
    kept(services, one, other)
    page = made(lambda: HistoryPage(services))
    button = page._act("zip", ["a", "b", "nothing"], "", Chosen(), 1, ME.owner)[5]
    with zipfile.ZipFile(button.value["path"]) as file:
        data = {file.read(name) for name in file.namelist()}
    assert data == {r.pictures[0].path.read_bytes() for r in (one, other) if r.pictures[0].path}
    refused = page._act("zip", ["a"], "", Chosen(), 1, STRANGER.owner)
    assert "None of these pictures" in refused[4]
    too_many = page._act("zip", [str(n) for n in range(501)], "", Chosen(), 1, ME.owner)
    assert "at most 500 pictures, not 501" in too_many[4]


def test_a_download_that_is_too_large_is_refused_before_it_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(picture_zip, "MOST_BYTES", 10)
    with pytest.raises(ValueError, match="choose fewer"):
        picture_zip.write_zip([run(tmp_path, "a")], tmp_path / "x.zip")
    assert not (tmp_path / "x.zip").exists()


def test_a_history_is_narrowed_by_what_audits_say(services: Services) -> None:  # noqa: F811
    kept(services, run(services.store.pictures, "a", prompt=EVIL))
    page = made(lambda: HistoryPage(services))
    assert "never audited (1)" in page._filters(Chosen(), ME.owner)
    assert "data-shot" in page._wall(Chosen(verdict="never audited"), 1, ME.owner)[0]
    shown = page._wall(Chosen(verdict="bit-exact"), 1, ME.owner)[0]
    assert "0 pictures of yours, as chosen" in shown
    assert "choose “any” again" in shown
    assert page._filters(Chosen(), STRANGER.owner) == ""
    wild = chosen_of({"sampler": EVIL, "tag": 5, "magic": "x"}, EVIL)
    assert wild == Chosen(words=EVIL, sampler=EVIL)
    assert EVIL not in page._filters(wild, ME.owner) + page._wall(wild, 1, ME.owner)[0]
    assert history_filter.lists(Chosen(), (), {}, services.findings) == ""
