"""Presets and styles: kept per owner, in and out as styles.csv, filled into the form."""

import csv
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from core.history import NOBODY
from core.presets import MOST_PRESETS, Preset, preset_of, with_preset
from core.request import Request
from core.store import Store
from core.styles import MOST_BYTES, Style, checked, read_csv, with_style, write_csv
from tests.fake_engine import MODEL
from tests.test_pages import (  # noqa: F401, a fixture
    EVIL,
    FORM,
    NO_REQUEST,
    SECRET,
    made,
    services,
)
from webapp import visitors
from webapp.generate_page import GeneratePage
from webapp.services import Services

ANN, BOB, MINE = "visitor:ann", "visitor:bob", visitors.owner(SECRET)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store(tmp_path / "seedproof.db") as store:
        yield store


def preset(name: str, **changes: Any) -> Preset:
    return preset_of(name, Request(prompt="secret", model=MODEL, **changes), {"attention": "none"})


def test_a_preset_has_settings_and_says_nothing_of_a_picture(store: Store) -> None:
    kept = preset(" fast  one ", seed=5, num_inference_steps=8, sampler="DDIM")
    store.save_preset(kept, ANN)
    (found,) = store.presets(ANN)
    assert found == kept
    assert found.name == "fast one"
    assert "secret" not in str(found)
    assert "seed" not in found.fields
    other = Request(prompt="a cat", model=MODEL, seed=9, num_inference_steps=30)
    filled = with_preset(other, found)
    assert (filled.prompt, filled.seed) == ("a cat", 9)
    assert (filled.num_inference_steps, filled.sampler) == (8, "DDIM")
    with pytest.raises(ValueError, match="it has magic"):
        with_preset(other, Preset(name="old", fields={"magic": 1}))


def test_presets_are_ones_own_renamed_deleted_and_survive(store: Store, tmp_path: Path) -> None:
    for name in ("b", "a"):
        store.save_preset(preset(name), ANN)
    store.save_preset(preset("a", num_inference_steps=3), BOB)
    assert [one.name for one in store.presets(ANN)] == ["a", "b"]
    assert not store.rename_preset("b", "c", BOB)
    assert not store.delete_preset("b", BOB)
    with pytest.raises(ValueError, match="There is a 'a' already"):
        store.rename_preset("b", "a", ANN)
    assert store.rename_preset("b", "c", ANN)
    store.save_preset(preset("a", num_inference_steps=4), ANN)
    assert store.delete_preset("c", ANN)
    with Store(store.path) as again:
        assert [one.fields["num_inference_steps"] for one in again.presets(ANN)] == [4]
        assert [one.fields["num_inference_steps"] for one in again.presets(BOB)] == [3]


def test_nothing_is_kept_for_nobody_nor_without_a_name_nor_without_end(store: Store) -> None:
    with pytest.raises(ValueError, match="keeps no secret"):
        store.save_preset(preset("a"), NOBODY)
    for name in ("", "  ", "x" * 81):
        with pytest.raises(ValueError, match="1 to 80 characters"):
            preset(name)
    for number in range(MOST_PRESETS):
        store.save_preset(preset(str(number)), ANN)
    store.save_preset(preset("0"), ANN)
    with pytest.raises(ValueError, match="delete some first"):
        store.save_preset(preset("one more"), ANN)
    assert store.presets(NOBODY) == ()


@pytest.mark.parametrize(
    ("prompt", "piece", "together"),
    [
        ("a cat", "ink drawing", "a cat, ink drawing"),
        ("a cat", "ink drawing of {prompt}, fine", "ink drawing of a cat, fine"),
        ("", "ink", "ink"),
        ("a cat", "", "a cat"),
        ("a {prompt} cat", "", "a {prompt} cat"),
    ],
)
def test_a_style_goes_around_or_after_a_prompt(prompt: str, piece: str, together: str) -> None:
    assert with_style(prompt, piece) == together


def test_the_file_of_another_program_is_read() -> None:
    """As AUTOMATIC1111 writes it: a mark of UTF-8, quotes, rows that only head a group."""
    file = (
        "\ufeffname,prompt,negative_prompt\r\n"
        "--- Drawings ---,,\r\n"
        'Ink,"{prompt}, ink, ""fine""",photo\r\n'
        'Fog,,"clear,\nsharp"\r\n'
    )
    assert read_csv(file.encode()) == (
        Style(name="Ink", prompt='{prompt}, ink, "fine"', negative_prompt="photo"),
        Style(name="Fog", prompt="", negative_prompt="clear,\nsharp"),
    )
    older = b"name,text\nInk,ink drawing\n"
    assert read_csv(older) == (Style(name="Ink", prompt="ink drawing"),)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "first line has to be"),
        (b"a,b\n1,2\n", "first line has to be"),
        (b"\xff\xfe\x00", "not UTF-8"),
        (b"name,prompt\n", "first line has to be"),
        (b"name,prompt\na,\n", "no style"),
        (b"name,prompt\n" + b"x" * MOST_BYTES, "at most 1000 kB"),
        (b"name,prompt\na," + b"x" * 5001 + b"\n", "longer than 5000"),
        (b'name,prompt\na,"open\n', "not a styles.csv"),
    ],
)
def test_what_is_no_styles_file_is_one_sentence(data: bytes, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        read_csv(data)


NASTY = ("=cmd|' /C calc'!A0", "+1+1", "-2", "@SUM(A1)", "\tx", "'=1", "''=1", " =1", "'quoted'")


def test_no_cell_is_a_formula_and_every_style_comes_back() -> None:
    styles = tuple(
        Style(name=f"{number} {text.strip()}", prompt=text, negative_prompt=f"{text},{text}")
        for number, text in enumerate(NASTY)
    ) + tuple(checked(Style(name=text, prompt="x")) for text in NASTY[:4])
    written = write_csv(styles)
    for row in csv.reader(io.StringIO(written)):
        for cell in row:
            assert not cell.lstrip(" ").startswith(("=", "+", "-", "@", "\t", "\r")), cell
    assert read_csv(written.encode()) == styles


def test_styles_are_kept_all_or_none(store: Store) -> None:
    store.save_styles([Style(name="a", prompt="x")], ANN)
    with pytest.raises(ValueError, match="is empty"):
        store.save_styles([Style(name="b", prompt="y"), Style(name="c")], ANN)
    assert [style.name for style in store.styles(ANN)] == ["a"]
    assert store.styles(BOB) == store.styles(NOBODY) == ()
    assert store.rename_style("a", "z", ANN)
    assert store.delete_style("z", ANN)
    assert store.styles(ANN) == ()


@pytest.fixture
def page(services: Services) -> GeneratePage:  # noqa: F811
    return made(lambda: GeneratePage(services))


ALL = (*FORM, "Automatic", "CPU", 0.3, "11", "", 1)


def test_a_preset_fills_the_form_but_for_prompts_and_seeds(page: GeneratePage) -> None:
    form, presets = page.form, page.form.presets
    told = presets._save_preset(form, "mine", list(ALL), MINE)[3]
    assert "Saved as mine" in told
    other = ["a fox", "fog", "plain", "99", 30, 7.0, 64, 64, "DDIM", {}]
    other += ["Karras", "NV", 0.0, "12", "", 2]
    *values, told = presets._use_preset(form, "mine", other, MINE)
    assert "filled in" in told
    assert values[:2] == ["a fox", "fog"]
    assert values[3] == "99"
    assert values[12:14] == [0.0, "12"]
    assert values[2] == "a1111"
    assert values[4:9] == [4, 5.0, 128, 128, "Euler"]
    assert values[9]["attention"] == "none"
    assert values[10:12] == ["Automatic", "CPU"]
    assert "update" in str(presets._use_preset(form, "mine", other, "visitor:another")[0]), (
        "a stranger's"
    )


def test_a_preset_that_cannot_run_here_is_refused_in_one_sentence(
    page: GeneratePage,
    services: Services,  # noqa: F811
) -> None:
    for name, fields, settings, words in (
        ("a", {}, {"attention": "xformers"}, "xformers cannot run here"),
        ("b", {"width": 100}, {}, "multiple of"),
        ("c", {"magic": 1}, {}, "does not know"),
    ):
        services.store.save_preset(Preset(name=name, fields=fields, settings=settings), MINE)
        *values, told = page.form.presets._use_preset(page.form, name, list(ALL), MINE)
        assert words in told
        assert all("update" in str(value) for value in values)


def test_styles_come_from_a_file_and_go_into_the_prompts(
    page: GeneratePage, tmp_path: Path
) -> None:
    presets = page.form.presets
    file = tmp_path / "styles.csv"
    file.write_bytes(
        write_csv([Style(name=EVIL, prompt="{prompt}, ink", negative_prompt="x")]).encode()
    )
    _, styles, export, told = presets._import(str(file), SECRET, NO_REQUEST)
    assert "1 style is taken over" in told
    assert [name for name, _ in styles.choices] == [EVIL]
    assert 'download="styles.csv"' in export
    prompt, negative, told = presets._use_style(EVIL, "a cat", "fog", SECRET, NO_REQUEST)
    assert (prompt, negative) == ("a cat, ink", "fog, x")
    assert EVIL not in told
    assert 'role="alert"' in presets._save_style("", "a", "", SECRET, NO_REQUEST)[3]
    for act in (presets._renaming("style"), presets._deleting("style")):
        assert "first" in act(None, "new", SECRET, NO_REQUEST)[3]
    assert "is called new now" in presets._renaming("style")(EVIL, "new", SECRET, NO_REQUEST)[3]
    assert "deleted" in presets._deleting("style")("new", "", SECRET, NO_REQUEST)[3]
    file.write_bytes(b"nothing")
    assert "not a styles.csv" in presets._import(str(file), SECRET, NO_REQUEST)[3]
