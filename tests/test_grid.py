"""Grids: what people type, the jobs it becomes, and the figures that come of them."""

import json
from pathlib import Path
from types import SimpleNamespace

import pytest
from PIL import Image

from audit.grid_figures import CellFigures, document, figures
from audit.pictures import load_picture
from core.grid import MOST_PICTURES, Grid, grid
from core.grid_axis import FIELDS, KINDS, axis, kind, parsed, put
from core.grid_values import numbers, texts, whole_numbers
from core.optimizations import SLOTS, configure
from core.request import MOST_SEED, Request
from core.run import Run
from tests.fake_engine import PLATFORM, Behaviour, FakeEngine
from tests.test_pages import POCKET
from webapp.grid_sheet import sheet, words

REQUEST = Request(
    prompt="a red apple",
    negative_prompt="red fog",
    prompt_syntax="a1111",
    model=POCKET,
    seed=7,
)


@pytest.mark.parametrize(
    ("line", "values"),
    [
        ("1, 2,3", "1 2 3"),
        ("1-5", "1 2 3 4 5"),
        ("1-9(+2)", "1 3 5 7 9"),
        ("1-10 (+3)", "1 4 7 10"),
        ("10-5 (-3)", "10 7"),
        ("5-3", "5 4 3"),
        ("1-10[4]", "1 4 7 10"),
        ("1-10 [5]", "1 3 5 7 10"),
        ("-3--1", "-3 -2 -1"),
        ("3", "3"),
        ("7, 1-3", "7 1 2 3"),
        ("5-5", "5"),
    ],
)
def test_whole_numbers_are_read_as_people_type_them(line: str, values: str) -> None:
    assert whole_numbers(line) == tuple(values.split())


@pytest.mark.parametrize(
    ("line", "values"),
    [
        ("1-2 (+0.25)", "1 1.25 1.5 1.75 2"),
        ("0-1[5]", "0 0.25 0.5 0.75 1"),
        ("0-0.3(+0.1)", "0 0.1 0.2 0.3"),
        (".5, 7", "0.5 7"),
        ("1-3", "1 2 3"),
    ],
)
def test_numbers_are_read_as_people_type_them(line: str, values: str) -> None:
    assert numbers(line) == tuple(values.split())


def test_texts_with_commas_are_quoted() -> None:
    assert texts('apple, "pear, green",  plum ,') == ("apple", "pear, green", "plum")


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("", "There is no value"),
        (" , ", "There is no value"),
        ("eight", "is not a number"),
        ("nan", "is not a number"),
        ("inf", "is not a number"),
        ("8.5", "not a whole number"),
        ("1-2(+0.5)", "not of whole numbers"),
        ("1-9(-2)", "leads away"),
        ("1-9(+0)", "leads away"),
        ("1-100000000", "one axis takes at most"),
        ("1-9[0]", "at least one"),
        ("1-9[999999999]", "one axis takes at most"),
        ("1-80, 1-80", "leave some"),
        ('"open', "not closed"),
    ],
)
def test_what_cannot_be_read_is_one_sentence(line: str, words: str) -> None:
    with pytest.raises(ValueError, match=words.replace("(", r"\(")) as error:
        whole_numbers(line)
    assert "\n" not in str(error.value)


def test_every_slot_and_the_usual_fields_can_be_varied() -> None:
    assert {slot.name for slot in SLOTS} <= {known.name for known in KINDS}
    fields = {known.field for known in FIELDS if known.field}
    assert {"seed", "num_inference_steps", "guidance_scale", "sampler", "width"} <= fields
    assert all(hasattr(REQUEST, field) for field in fields)


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("Steps", "steps"),
        ("num_inference_steps", "steps"),
        ("CFG Scale", "guidance-scale"),
        ("Prompt S/R", "prompt"),
        ("token_merging", "token-merging"),
        ("RNG", "noise-source"),
    ],
)
def test_axes_have_the_names_people_know(name: str, found: str) -> None:
    assert kind(name).name == found


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("steps", "a name and its values"),
        ("magic=1", "no axis 'magic'"),
        ("steps=fast", "Steps: 'fast'"),
        ("sampler=magic", "Unknown sampler"),
        ("size=128", "width x height"),
        ("prompt=apple", "first what is searched for"),
    ],
)
def test_an_axis_that_cannot_be_is_one_sentence(text: str, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        parsed(text)


def test_names_are_written_as_they_are_known() -> None:
    assert parsed("sampler=euler a,ddim").values == ("Euler a", "DDIM")
    assert parsed("size=128X192, 64 × 64").values == ("128x192", "64x64")
    assert parsed("token-merging=0.1-0.5[3], fixed:0.5").values == (
        "0.1",
        "0.3",
        "0.5",
        "fixed:0.5",
    )


def test_values_are_put_where_they_belong() -> None:
    prompts = axis("prompt", "red, green")
    assert put(REQUEST, {}, prompts, "green")[0].prompt == "a green apple"
    assert put(REQUEST, {}, prompts, "green")[0].negative_prompt == "green fog"
    size = put(REQUEST, {}, axis("size", "128x192"), "128x192")[0]
    assert (size.width, size.height) == (128, 192)
    assert put(REQUEST, {}, axis("steps", "8"), "8")[0].num_inference_steps == 8
    assert put(REQUEST, {"precision": "bf16"}, axis("attention", "none"), "none") == (
        REQUEST,
        {"precision": "bf16", "attention": "none"},
    )


def made(*axes: str, against: str = "first", request: Request = REQUEST) -> Grid:
    return grid(
        request,
        {},
        tuple(parsed(text) for text in axes),
        PLATFORM,
        against="baseline" if against == "baseline" else "first",
    )


def test_x_runs_across_y_down_and_z_below() -> None:
    cells = made("steps=4,8", "attention=sdp,none", "seed=1-2").cells
    assert [cell.place for cell in cells][:4] == [(0, 0, 0), (1, 0, 0), (0, 1, 0), (1, 1, 0)]
    asked = [cell.job.requests[0] for cell in cells]
    assert [request.num_inference_steps for request in asked] == [4, 8] * 4
    assert [request.seed for request in asked] == [1] * 4 + [2] * 4
    assert [c.job.configuration.get("attention") for c in cells][:4] == ["sdp"] * 2 + ["none"] * 2
    assert len({cell.job.id for cell in cells}) == 8
    assert {cell.reference for cell in cells} == {cells[0].job.id}


@pytest.mark.parametrize(
    ("axes", "words"),
    [
        ((), "needs an axis"),
        (("steps=4,8", "steps=4"), "Two axes vary steps"),
        (("seed=1-50", "steps=4,8,12"), "150 pictures; a grid has at most"),
        (("attention=sdp,xformers",), "attention xformers cannot be made: .*this is a fake CPU"),
        (("attention=sdp,magic",), "magic cannot be made: attention has no option"),
        (("steps=0",), "steps 0 cannot be made"),
        (("steps=4,5000",), "steps 5000 cannot be made"),
        (("seed=-1",), "A seed is a whole number"),
        ((f"seed={MOST_SEED + 1}",), "A seed is a whole number"),
        (("width=100",), "multiple of"),
        (("prompt=pear,plum",), "stands in neither prompt"),
        (("prompt=apple,<lora:ink:1>",), "loads no networks"),
    ],
)
def test_a_grid_that_cannot_be_made_is_one_sentence(axes: tuple[str, ...], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        made(*axes)


def test_two_prompt_axes_replace_one_after_the_other() -> None:
    asked = [c.job.requests[0].prompt for c in made("prompt=red,green", "prompt=apple,pear").cells]
    assert asked == ["a red apple", "a green apple", "a red pear", "a green pear"]


def test_against_the_baseline_every_request_has_one_picture_of_it() -> None:
    """Cells of the baseline are it themselves; only what no cell makes is made besides."""
    plan = made("attention=none,sdp", "seed=1-2", against="baseline")
    assert not plan.references
    by_id = {job.id: job for job in plan.jobs}
    for cell in plan.cells:
        reference = by_id[cell.reference]
        assert reference.configuration == configure({}, PLATFORM)
        assert reference.requests == cell.job.requests
    plan = made("attention=none,doggettx", "seed=1-3", against="baseline")
    assert len(plan.references) == 3
    assert len(plan.jobs) == 9
    assert {job.id for job in plan.jobs[:3]} == {job.id for job in plan.references}
    with pytest.raises(ValueError, match="60 cells and 60 pictures of the baseline"):
        made("attention=none", "seed=1-60", against="baseline")
    assert len(made("seed=1-50", "steps=4,8").cells) == MOST_PICTURES


def test_what_one_pipeline_makes_is_made_together() -> None:
    """Every precision is a pipeline of its own: row by row, each picture would load one."""
    plan = made("precision=fp32,bf16", "seed=1-3")
    assert [job.configuration.get("precision") for job in plan.jobs] == ["fp32"] * 3 + ["bf16"] * 3


def run_all(plan: Grid, engine: FakeEngine) -> dict[str, Run]:
    watch = SimpleNamespace(on_step=lambda event: None, cancelled=lambda: False)
    return {job.id: engine.run(job, watch) for job in plan.jobs}


def found(plan: Grid, runs: dict[str, Run]) -> list[CellFigures | None]:
    return [figures(cell, runs, load_picture) for cell in plan.cells]


def test_cells_carry_drift_time_and_the_first_differing_step(tmp_path: Path) -> None:
    plan = made("attention=sdp,none", "size=128x128,64x64")
    engine = FakeEngine(
        pictures=tmp_path, behaviours={"attention=none": Behaviour(levels=1, slowdown=2)}
    )
    runs = run_all(plan, engine)
    first, rounded, smaller, _ = found(plan, runs)
    assert first is not None
    assert rounded is not None
    assert smaller is not None
    assert first.is_reference
    assert first.comparison is None
    assert rounded.comparison is not None
    assert rounded.comparison.verdict == "rounding"
    assert rounded.first_differing_step == 2
    assert (rounded.seconds or 0) > (first.seconds or 0) > 0
    assert smaller.comparison is None
    assert "Another size" in smaller.why_not


def test_a_failed_reference_and_a_failed_cell_say_so(tmp_path: Path) -> None:
    plan = made("attention=sdp,none")
    for fails, told in (("sdp", "was not made"), ("none", "out of luck")):
        engine = FakeEngine(
            pictures=tmp_path, behaviours={f"attention={fails}": Behaviour(fails="out of luck")}
        )
        cell = found(plan, run_all(plan, engine))[1]
        assert cell is not None
        assert told in cell.why_not
        assert cell.comparison is None
    assert found(plan, {}) == [None, None]


def test_the_sheet_has_every_picture_and_the_document_every_figure(tmp_path: Path) -> None:
    plan = made("seed=1-2", "attention=sdp,none", "steps=2,3")
    runs = run_all(plan, FakeEngine(pictures=tmp_path))
    last = plan.cells[-1].job.id
    del runs[last]
    known = {cell.job.id: figures(cell, runs, load_picture) for cell in plan.cells}
    image = sheet(plan, runs, known)
    colours = image.crop((162, 60, 290, 188)).tobytes()
    path = runs[plan.cells[0].job.id].pictures[0].path
    assert path is not None
    with Image.open(path) as picture:
        assert colours == picture.tobytes()
    assert words(plan.cells[-1], known[last]) == ("not made yet", "")
    told = json.loads(json.dumps(document(plan, runs, known)))
    assert len(told["cells"]) == 8
    assert told["cells"][1]["drift"]["verdict"] == "different"
    assert told["cells"][1]["labels"][0] == {"axis": "seed", "value": "2"}
    assert told["cells"][0]["path"] == str(path)
    assert told["cells"][7]["outcome"] is None
    assert str(tmp_path) not in json.dumps(document(plan, runs, known, paths=False))


def test_large_pictures_are_shown_smaller(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = made("seed=1-2")
    runs = run_all(plan, FakeEngine(pictures=tmp_path))
    known = {cell.job.id: figures(cell, runs, load_picture) for cell in plan.cells}
    full = sheet(plan, runs, known).height
    monkeypatch.setattr("webapp.grid_sheet.MOST_PIXELS", 2 * 64 * 64)
    assert sheet(plan, runs, known).height == full - 64


def test_the_terminal_makes_a_grid(
    capsys: pytest.CaptureFixture[str], tiny_model_path: Path, tmp_path: Path
) -> None:
    from webapp.cli import main

    def call(*arguments: str) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as exit_:
            main(("grid", *arguments, "--db", str(tmp_path / "s.db")))
        captured = capsys.readouterr()
        return int(exit_.value.code or 0), captured.out, captured.err

    out = tmp_path / "grid.png"
    common = ("a cat", "--model", str(tiny_model_path), "--width", "64", "--height", "64")
    code, told, err = call(
        *common, "--x", "steps=1,2", "--y", "attention=sdp,none", "--out", str(out), "--json"
    )
    record = json.loads(told)
    assert code == 0, err
    assert "picture 4 of 4, step 2 of 2" in err
    assert [cell["labels"][0]["value"] for cell in record["cells"]] == ["1", "2", "1", "2"]
    assert record["cells"][0]["is_reference"]
    assert record["cells"][2]["drift"]["verdict"] in ("bit-exact", "rounding")
    assert all(cell["seconds"] > 0 for cell in record["cells"])
    with Image.open(out) as image:
        assert image.width > 2 * 168
    for wrong, sentence in (
        (("--x", "steps"), "a name and its values"),
        ((), "needs an axis"),
        (("--x", "steps=1", "--out", str(tmp_path / "a.gif")), "takes a .png file"),
        (("--x", "steps=1", "--against", "me"), "first or baseline"),
    ):
        code, told, err = call(*common, *wrong)
        assert (code, told) == (2, "")
        assert sentence in err
        assert len(err.strip().splitlines()) == 1
