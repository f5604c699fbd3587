import base64
import io
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from audit.album import Album
from audit.front import pareto_front
from audit.metrics import METRICS, Metric
from audit.pictures import data_uri, difference_map, load_picture
from audit.plots import NARROW, WIDE, speed_against_drift
from audit.report import render, write_report
from audit.score import AXES, Audit, Axis, AxisVerdict, Score
from audit.table import tables
from tests.audit_records import BASELINE, Records, configuration, made_score, request, scene

MERGED = configuration(token_merging="seeded:0.5")
LOW = configuration(precision="bf16")
MISSING = configuration(attention="xformers")
HOSTILE = (
    "</bdi><script>alert('x')</script> \" onload=alert(1) "
    "<img src=http://evil.example/a.png> {{ 7*7 }}"
)


def records() -> Records:
    found = Records()
    found.row()
    found.row(placebo=True)
    found.row(MERGED, levels=9, seconds=0.8)
    found.row(LOW, levels=1, seconds=0.6)
    for cluster in range(6):
        found.add(
            "ulp-nudge", BASELINE, cluster, f"{cluster}/nudge", [scene(cluster) + np.uint8(1)]
        )
    found.disturb(found.find("determinism", MERGED, cluster=2, repeat=1), differs_from=3)
    return found


def audit_of(found: Records) -> Audit:
    return found.audit(MERGED, LOW, MISSING, skipped={MISSING.key: "needs a <b>GPU</b>"})


@pytest.fixture(scope="module")
def page() -> str:
    found = records()
    return render(audit_of(found), found.load)


def test_the_words_are_explained_by_the_gates_in_force() -> None:
    found = records()
    audit = audit_of(found)
    changed = next(gate for gate in audit.gates if gate.verdict == "visibly-changed")
    tightened = replace(changed, at_least={**changed.at_least, "ssim": 0.876})
    gates = tuple(tightened if gate == changed else gate for gate in audit.gates)
    assert "SSIM ≥ 0.876" in render(replace(audit, gates=gates), found.load)
    older = render(replace(audit, gates=()), found.load)
    assert "SSIM ≥ 0.876" not in older
    assert "SSIM ≥ 0.8," in older


class _Reader(HTMLParser):
    """Collects tags with their attributes, and checks that they are closed in order."""

    VOID = frozenset({"meta", "wbr", "br", "img", "link", "input"})

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str]]] = []
        self.open: list[str] = []
        self.text = ""
        self.feed(page)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, {name: value or "" for name, value in attrs}))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, {name: value or "" for name, value in attrs}))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] != "style":
            self.text += data


def text(page: str) -> str:
    return re.sub(r"\s+", " ", _Reader(page).text.replace("\N{NO-BREAK SPACE}", " "))


def test_the_page_is_well_formed_and_self_contained(page: str) -> None:
    tags = _Reader(page).tags
    names = {name for name, _ in tags}
    assert names.isdisjoint({"script", "link", "iframe", "object", "embed", "form", "base", "img"})
    for name, attributes in tags:
        for attribute, value in attributes.items():
            assert not attribute.startswith("on")
            if attribute in ("href", "src", "xlink:href"):
                assert value.startswith(("#", "data:image/")), (name, value[:40])
    assert "url(" not in page
    assert "@import" not in page
    assert "http://" not in page
    assert "https://" not in page
    (policy,) = [a["content"] for n, a in tags if a.get("http-equiv") == "Content-Security-Policy"]
    assert policy.startswith("default-src 'none'")


def test_every_picture_is_embedded_once_and_every_reference_has_one(page: str) -> None:
    tags = _Reader(page).tags
    images = [attributes for name, attributes in tags if name == "image"]
    ids = [image["id"] for image in images]
    used = {attributes["href"][1:] for name, attributes in tags if name == "use"}
    assert len({image["href"] for image in images}) == len(images)
    assert used == set(ids)
    pictures = [a for _, a in tags if a.get("class") == "picture"]
    assert len(pictures) > len(images), "the baseline's are shown again and again"
    assert all(picture["role"] == "img" and picture["aria-label"] for picture in pictures)


def test_hostile_prompts_are_text() -> None:
    found = records()
    audit = audit_of(found)

    def poisoned(score: Score) -> Score:
        drift = score.drift and replace(
            score.drift, pictures=tuple(replace(c, prompt=HOSTILE) for c in score.drift.pictures)
        )
        determinism = {
            axis: replace(v, witness=v.witness and replace(v.witness, prompt=HOSTILE))
            for axis, v in score.determinism.items()
        }
        return replace(score, drift=drift, determinism=determinism, notes=(HOSTILE,))

    audit = replace(
        audit,
        scores=tuple(poisoned(score) for score in audit.scores),
        notes=(HOSTILE,),
        model_name=HOSTILE,
        platform=replace(audit.platform, device_name=HOSTILE),
    )
    page = render(audit, found.load)
    reader = _Reader(page)
    assert {"script", "img"}.isdisjoint(name for name, _ in reader.tags)
    assert not any("onload" in attributes for _, attributes in reader.tags)
    assert reader.text.count(HOSTILE) > 10
    labels = [attributes.get("aria-label", "") for _, attributes in reader.tags]
    assert any(HOSTILE in label for label in labels)


def test_a_configuration_cannot_inject_either() -> None:
    found = Records()
    found.row()
    wild = configuration(attention="<svg onload=alert(1)>")
    found.row(wild, levels=2)
    page = render(found.audit(wild), found.load)
    assert "<svg onload" not in page
    assert not any("onload" in attributes for _, attributes in _Reader(page).tags)


def test_a_prompt_that_utf8_cannot_hold_is_written(tmp_path: Path) -> None:
    found = records()
    audit = audit_of(found)
    write_report(
        replace(audit, notes=("half a \ud83d pair",)), tmp_path / "a" / "r.html", found.load
    )
    assert "half a ? pair" in (tmp_path / "a" / "r.html").read_text(encoding="utf-8")


def test_the_same_audit_gives_the_same_file(tmp_path: Path) -> None:
    found = records()
    for name in ("one", "two"):
        write_report(audit_of(found), tmp_path / name, found.load)
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()


def test_the_reader_finds_what_was_asked_for(page: str) -> None:
    told = text(page)
    for piece in (
        "What each setting costs on a made-up CPU",
        "The same prompts and seeds, made again under 3 configurations",
        "114 of 114 runs",
        "Keep the baseline",
        "The fastest of 2 that qualify: 0.60 × the baseline's time per picture.",
        "held in 6 of 6 independent trials each; fails at most 39.3 % of the time (95 %)",
        "broken 5 of 6 agree",
        "needs a <b>GPU</b>",
        "call 1 and call 2 in one process: at most 20 of 255 levels apart",
        "first parted at step 3 of 4",
        "other-seed",
        "Not run.",
        "instruction-set: on no configuration.",
        "seedproof audit --plan by hand",
        "ΔE2000, worst 16 px tile ≤ 3",
        "the baseline's in all pictures of: baseline (6), the placebo (6)",
    ):
        assert piece in told, piece


def test_a_new_metric_reaches_the_report_by_its_line_in_metrics(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    mean = Metric(
        name="mean_level",
        label="Mean level",
        unit="levels",
        better="lower",
        identical=0.0,
        function=lambda a, b: float(np.abs(a.astype(float) - b).mean()),
    )
    for module in ("metrics", "drift", "report"):
        monkeypatch.setattr(f"audit.{module}.METRICS", (*METRICS, mean))
    found = records()
    audit = audit_of(found)
    (row,) = [score for score in audit.scores if score.configuration == LOW]
    assert row.drift is not None
    assert row.drift.more["mean_level"] == 1.0
    assert "Mean level" in text(render(audit, found.load))
    assert "1 levels" in text(render(audit, found.load))


def test_the_worst_picture_comes_first(page: str) -> None:
    start = page.index('id="pictures"')
    gallery = page[page.index("token-merging", start) : page.index("</article>", start)]
    seeds = re.findall(r"seed (\d+)</span>", gallery)
    found = records()
    (row,) = [s for s in audit_of(found).scores if s.configuration == MERGED]
    assert row.drift is not None
    worst = min(row.drift.pictures, key=lambda c: (c.ssim_worst_tile, c.ssim))
    assert seeds[0] == str(worst.seed)
    assert len(seeds) == 3


def test_missing_files_are_said_to_be_missing() -> None:
    found = records()
    audit = audit_of(found)
    found.files.clear()
    page = render(audit, found.load)
    assert "no file" in page
    assert "<image" not in page


def test_an_audit_without_any_run_is_still_a_page() -> None:
    found = records()
    found.runs.clear()
    told = text(render(audit_of(found), found.load))
    assert "Not complete. 114 of 114 runs are missing" in told
    assert "no answer" in told
    assert "Speed against drift" not in told


def test_tables_name_their_columns_for_screen_readers(page: str) -> None:
    tags = _Reader(page).tags
    cells = [
        attributes for name, attributes in tags if name == "td" and "colspan" not in attributes
    ]
    assert cells
    assert all(cell.get("data-label") and cell["role"] == "cell" for cell in cells)
    assert all(a.get("scope") in ("col", "row") for name, a in tags if name == "th")
    assert len([1 for name, _ in tags if name == "caption"]) == len(
        [1 for name, _ in tags if name == "table"]
    )


def test_the_difference_map_is_eight_times_the_difference() -> None:
    a, b = np.full((4, 4, 3), 100, np.uint8), np.full((4, 4, 3), 103, np.uint8)
    b[0, 0] = (0, 255, 100)
    apart = difference_map(a, b)
    assert apart[1, 1].tolist() == [24, 24, 24]
    assert apart[0, 0].tolist() == [255, 255, 0]
    assert (difference_map(b, a) == apart).all()


def test_small_pictures_are_embedded_without_loss_and_without_metadata(tmp_path: Path) -> None:
    path = tmp_path / "picture.png"
    array = scene(1)
    image = Image.fromarray(array)
    image.info["parameters"] = "a secret prompt"
    image.save(path)
    uri = data_uri(load_picture(path))
    decoded = Image.open(io.BytesIO(base64.b64decode(uri.split(",")[1])))
    assert uri.startswith("data:image/png")
    assert (np.asarray(decoded) == array).all()
    assert decoded.info == {}
    assert data_uri(np.zeros((300, 20, 3), np.uint8)).startswith("data:image/webp")


def test_an_album_keeps_each_picture_once() -> None:
    found = Records()
    one = found.picture(request(0), scene(0)).path
    two = found.picture(request(1), scene(1)).path
    album = Album(found.load)
    first, again = album.strip(one, two), album.strip(one, one)
    assert first.first == again.second
    assert len(album.sources) == 4, "two pictures, their difference, and the black one"
    assert album.strip(None, two).difference is None


def test_the_front_is_what_nothing_closer_beats() -> None:
    near = made_score(configuration(a="1"), verdict="fine-detail", ratio=0.7)
    slower = made_score(configuration(b="1"), verdict="fine-detail", ratio=0.8)
    farther = made_score(configuration(c="1"), verdict="visibly-changed", ratio=0.75)
    far = made_score(configuration(d="1"), verdict="visibly-changed", ratio=0.5)
    tied = made_score(configuration(e="1"), verdict="different", ratio=0.495)
    wild = made_score(configuration(f="1"), verdict="rounding", ratio=0.1, word="broken")
    scores = (made_score(), near, slower, farther, far, tied, wild)
    assert pareto_front(scores, BASELINE.key) == (BASELINE.key, near.key, far.key)
    assert pareto_front(scores[::-1], BASELINE.key) == (BASELINE.key, near.key, far.key)


def test_the_plot_has_every_compared_and_timed_row_inside_its_frame() -> None:
    scores = (
        made_score(),
        made_score(LOW, verdict="fine-detail", ratio=0.4),
        made_score(MERGED, verdict="different", ratio=3.0, word="broken"),
        replace(made_score(MISSING), time_ratio=None),
        replace(made_score(), placebo=True),
    )
    names = {score.key: score.key for score in scores}
    for layout in (WIDE, NARROW):
        svg = str(speed_against_drift(scores, BASELINE.key, names, layout))
        assert svg.count('class="whisker"') == 3
        assert svg.count('<circle class="front"') == 2
        assert svg.count('class="cross"') == 1
        xs = [float(x) for x in re.findall(r' (?:x|x1|x2|cx)="(-?[\d.]+)"', svg)]
        assert min(xs) >= 0
        assert max(xs) <= layout.width
    assert speed_against_drift(scores[3:], BASELINE.key, names) == ""


def test_faster_is_to_the_left() -> None:
    scores = (made_score(), made_score(LOW, ratio=0.4), made_score(MERGED, ratio=2.0))
    names = {score.key: score.key for score in scores}
    svg = str(speed_against_drift(scores, BASELINE.key, names))
    marks = dict(re.findall(r'cx="([\d.]+)".*?>([^<]+)</text></g>', svg))
    places = {name: float(x) for x, name in marks.items()}
    assert places[LOW.key] < places[BASELINE.key] < places[MERGED.key]


def terminal(audit: Audit, width: int = 100) -> str:
    console = Console(width=width, file=io.StringIO(), color_system=None)
    for table in tables(audit):
        console.print(table)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_the_terminal_says_the_same_words_in_100_columns() -> None:
    told = terminal(audit_of(records()))
    assert max(len(line.rstrip()) for line in told.splitlines()) <= 100
    for piece in (
        "token-merging=seeded:0.5 applied",
        "broken 5/6",
        "≤ 39.3 %",
        "(not attributable)",
        "0.60 (0.60–0.60) 8 0.600     1.00 GB",
        "not available: attention=xformers: needs a <b>GPU</b>",
        "114 of 114 runs",
        "same-look precision=bf16",
    ):
        assert piece in told, piece


def test_seven_axes_fit_into_the_terminal_uncut() -> None:
    audit = audit_of(records())
    unlike = AxisVerdict(verdict="not-applicable", reason="there is one core")
    few = AxisVerdict(verdict="unverified", trials=4, p_upper95=0.527)
    verdicts: dict[Axis, AxisVerdict] = {**dict.fromkeys(AXES, few), "instruction-set": unlike}
    rows = tuple(replace(row, determinism=verdicts) for row in audit.scores)
    printed = terminal(replace(audit, scores=rows))
    assert max(len(line.rstrip()) for line in printed.splitlines()) <= 100
    count = sum(row.available for row in rows)
    assert printed.count("unverified") == 6 * count
    assert printed.count("applicable") == count
    for part in ("other-work", "position", "instruction-"):
        assert part in printed


def test_the_terminal_does_not_read_markup_in_settings() -> None:
    found = Records()
    found.row()
    wild = configuration(attention="[red]x[/red]")
    found.row(wild, levels=2)
    assert "attention=[red]x[/red]" in terminal(found.audit(wild))
