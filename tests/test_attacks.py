"""What hostile input does: nothing but one sentence. Those against a running server are beside."""

# ruff: noqa: F401, F811, the fixture is imported by name and asked for by name

import ast
import asyncio
import contextlib
import csv
import html
import io
import json
import shutil
import struct
import threading
import time
import tracemalloc
import zlib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from audit.plan import Plan
from audit.plan_file import load_plan
from audit.prompt_file import read_prompts
from audit.report import render
from audit.score import Audit
from core import picture_file
from core.models import digest, resolve
from core.optimization import Configuration
from core.optimizations import SLOTS, configure
from core.picture_file import MOST_BYTES, Texts, encoded, opened
from core.pool import load as load_pipeline
from core.receipt import dump
from core.request import Following, Request
from core.run import Effective, SlotEffect
from core.styles import Style, checked, read_csv, write_csv
from tests.audit_records import Records, configuration
from tests.fake_engine import PLATFORM, FakeEngine
from tests.test_pages import NO_REQUEST, POCKET, SECRET, job, made, request, run_of, services
from tests.test_receipt import receipt
from webapp import audit_card, gallery, run_card, settings_form, verify_card
from webapp.audit_page import AuditPage
from webapp.cli import main
from webapp.compare_page import ComparePage
from webapp.export_card import elsewhere
from webapp.export_diffusers import script
from webapp.generate_page import GeneratePage
from webapp.grid_page import GridPage
from webapp.history_filter import Chosen
from webapp.history_page import HistoryPage
from webapp.places import REPOSITORY, places
from webapp.services import Services
from webapp.taking import taken_card
from webapp.verify_page import VerifyPage
from webapp.visitors import owner

EVIL = (
    '"><img src=x onerror=alert(1)>',
    "'><svg/onload=alert(1)>",
    "</pre></textarea></style></title><script>alert(1)</script>",
    '<a href="javascript:alert(1)">x</a>',
)
PAYLOAD = " ".join(EVIL)


def audit() -> Audit:
    found = Records()
    found.row()
    found.row(configuration(precision="bf16"), levels=2)
    return found.audit(configuration(precision="bf16"))


class _Live(HTMLParser):
    """Collects what a browser would run."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag in ("script", "iframe", "object", "embed"):
            self.found.append(tag)
        for name, value in attrs:
            if name.startswith("on") or (value or "").strip().lower().startswith("javascript:"):
                self.found.append(f"{tag} {name}={value}")


def live(markup: str) -> list[str]:
    parser = _Live()
    parser.feed(markup)
    parser.close()
    return parser.found


def test_the_parser_of_these_tests_sees_an_attack() -> None:
    for one in EVIL:
        assert live(f'<p title="{one}">{one}</p>') or live(f"<p title='{one}'>{one}</p>")
        assert not live(f'<p title="{html.escape(one)}">{html.escape(one)}</p>')


# HTML, through prompts, names and metadata


def evil_effective() -> Effective:
    return Effective(
        slots=(
            SlotEffect(
                slot=PAYLOAD,
                requested=PAYLOAD,
                effect="none",
                counts={PAYLOAD: 1.0, "b": 2.0, "c": 3.0},
                operators={PAYLOAD: 1},
                reason=PAYLOAD,
            ),
        ),
        notes=(PAYLOAD,),
    )


def test_a_run_shows_hostile_words_as_text(tmp_path: Path) -> None:
    run = run_of(tmp_path, prompt=PAYLOAD, negative_prompt=PAYLOAD)
    environment = replace(run.environment, timing_caveat=PAYLOAD, device=PAYLOAD)
    memory = replace(run.memory, peak_bytes=None, kind=PAYLOAD)
    evil = replace(
        run,
        job=replace(run.job, id=PAYLOAD, notes=(PAYLOAD,)),
        environment=environment,
        effective=evil_effective(),
        memory=memory,
        reason=PAYLOAD,
    )
    failed = replace(evil, outcome="failed", pictures=())
    asked = evil.job
    shown = (
        run_card.finished(evil),
        run_card.finished(failed),
        run_card.facts(evil, SLOTS),
        run_card.problem(PAYLOAD, PAYLOAD),
        elsewhere(asked.requests, asked.configuration, PAYLOAD),
    )
    for markup in shown:
        assert not live(markup)
    assert html.escape(EVIL[0]) in "".join(shown)


def test_a_receipt_shows_hostile_words_as_text(services: Services, tmp_path: Path) -> None:
    """Every text in it is somebody's own, the names of settings and versions included."""
    base = receipt(prompt=PAYLOAD, negative_prompt=PAYLOAD)
    named = tuple(
        replace(one, model=replace(one.model, name=PAYLOAD, digest=PAYLOAD))
        for one in base.requests
    )
    evil = replace(
        base,
        requests=named,
        program=PAYLOAD,
        device_name=PAYLOAD,
        system=PAYLOAD,
        configuration=Configuration(((PAYLOAD, PAYLOAD),)),
        effective=evil_effective(),
        environment=replace(
            base.environment,
            device=PAYLOAD,
            instruction_set=PAYLOAD,
            versions={"torch": PAYLOAD, PAYLOAD: PAYLOAD},
        ),
    )
    texts = Texts(infotext=f"{PAYLOAD}\nSteps: 4, Seed: 1", receipt=dump(evil))
    name = 'a"><img src=x onerror=alert(1)>.png'
    path = tmp_path / name.replace("/", "")
    path.write_bytes(encoded(Image.new("RGB", (8, 8)), "PNG", texts))
    page = made(lambda: VerifyPage(services))
    card, *_ = asyncio.run(page._put_in(str(path)))
    assert not live(card)
    assert html.escape(EVIL[0]) in card


@pytest.mark.parametrize(
    "infotext",
    [
        f"{PAYLOAD}\nNegative prompt: {PAYLOAD}\nSteps: 4, Sampler: Euler, Seed: 1",
        f"a cat\nSteps: 4, Sampler: {EVIL[0]}, Seed: 1, Model: {EVIL[1]}, Version: {EVIL[0]}",
        f'a cat\nSteps: 4, Sampler: Euler, Seed: 1, Model: "{EVIL[0]}", Evil: "{PAYLOAD}"',
    ],
)
def test_another_programs_text_is_shown_as_text(
    services: Services, tmp_path: Path, infotext: str
) -> None:
    path = tmp_path / "picture.png"
    path.write_bytes(encoded(Image.new("RGB", (8, 8)), "PNG", Texts(infotext=infotext)))
    page, form = made(lambda: (VerifyPage(services), GeneratePage(services)))
    card, *_ = asyncio.run(page._put_in(str(path)))
    *_, listed = asyncio.run(form._take(str(path)))
    assert not live(card)
    assert not live(listed)
    assert "&lt;" in card


def test_lists_show_hostile_words_as_text(services: Services, tmp_path: Path) -> None:
    run = run_of(services.store.pictures, prompt=PAYLOAD)
    services.store.add_generation(run, owner(SECRET))
    page = made(lambda: HistoryPage(services))
    for words in ("", "onerror", PAYLOAD):
        wall, _, kept = page._wall(Chosen(words=words, tag=words), 1, owner(SECRET))
        assert not live(wall)
        assert kept == Chosen(words=words, tag=words)
    recent = services.store.history(owner(SECRET))
    assert not live(gallery.strip(replace(recent, total=2)))
    plan = replace(load_plan(services.plans / "smoke.toml", POCKET, PLATFORM), name=PAYLOAD)
    evil = replace(plan, summary=PAYLOAD, skipped={PAYLOAD: PAYLOAD})
    audit_id = services.store.add_audit(PAYLOAD, plan=evil, platform=PLATFORM, model=POCKET)
    entry = services.store.audit(audit_id)
    for markup in (
        audit_card.status(entry, None, 1, None),
        audit_card.listing([entry], None),
        audit_card.promise(evil, PLATFORM),
        audit_card.gone(PAYLOAD),
    ):
        assert not live(markup)


def test_a_report_shows_hostile_words_as_text() -> None:
    hostile = replace(
        audit(),
        plan=PAYLOAD,
        model_name=PAYLOAD,
        notes=(PAYLOAD,),
        platform=replace(PLATFORM, device_name=PAYLOAD, system=PAYLOAD),
    )
    page = render(hostile, Records().load)
    assert not live(page)
    assert "&lt;script&gt;" in page


def test_a_prompt_is_only_words_in_the_script_for_diffusers() -> None:
    """It is code that people run: no prompt may end its own quotes."""
    words = "\"\"\" + __import__('os').system('x') + ''' \\\" \n# {0} {prompt} \\N{BULLET}"
    asked = replace(request(), prompt=words, negative_prompt=words)
    made_script = script((asked,), configure({}, PLATFORM), "cpu")
    tree = ast.parse("\n".join(part.text for part in made_script.parts))
    constants = [node.value for node in ast.walk(tree) if isinstance(node, ast.Constant)]
    assert any(isinstance(one, str) and words in one for one in constants) or words in str(
        [ast.literal_eval(node) for node in ast.walk(tree) if isinstance(node, ast.List)]
    )
    names = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
    assert "__import__" not in names


# Formulas


@pytest.mark.parametrize("formula", ["=1+1", "+1", "-1", "@SUM(A1)", "=HYPERLINK('x')", "\t=1"])
def test_a_prompt_that_looks_like_a_formula_stays_the_words_it_is(
    tmp_path: Path, formula: str
) -> None:
    file = tmp_path / "prompts.csv"
    file.write_text(f'prompt\n"{formula}"\n', encoding="utf-8")
    (entry, *_) = read_prompts(file)
    assert entry.prompt.strip() == formula.strip()
    run = run_of(tmp_path, prompt=formula)
    assert json.loads(dump(receipt(prompt=formula)))["requests"][1]["prompt"] == formula
    assert html.escape(formula.strip()) in run_card.finished(run)


def test_only_styles_are_written_for_a_spreadsheet_and_every_cell_is_quoted() -> None:
    """Whoever writes another table for one names it here, with a test that holds it to quoting."""
    writers, writing = {"writer", "DictWriter", "to_csv", "to_excel"}, set()
    for package in ("core", "audit", "webapp"):
        for file in (REPOSITORY / package).rglob("*.py"):
            tree = ast.parse(file.read_text("utf-8"))
            used = {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
            if used & writers:
                writing.add(file.relative_to(REPOSITORY).as_posix())
    assert writing == {"core/styles.py"}
    starts = ("=", "+", "-", "@", "\t", "\r", "\n=", " =", "'=", '"=', "\uff1d", "\uff20")
    hostile = [f"{start}{rest}" for start in starts for rest in ("1+1", "cmd|' /C calc'!A0")]
    styles = [
        Style(name=f"{number} style", prompt=text, negative_prompt=f"{text},{text}")
        for number, text in enumerate(hostile)
    ] + [checked(Style(name=f"{start}1", prompt="x")) for start in (*"=+-@", "'=", '"=')]
    written = write_csv(styles)
    assert read_csv(written.encode()) == tuple(styles)
    for row in csv.reader(io.StringIO(written, newline="")):
        for cell in row:
            assert not cell.lstrip(" ").startswith((*"=+-@\uff1d\uff20", "\t", "\r", "\n")), cell


# Bombs, and files that are none


def chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def png(width: int, height: int, *more: bytes, pixels: bytes | None = None) -> bytes:
    lines = b"".join(b"\0" + bytes(3 * 4) for _ in range(4)) if pixels is None else pixels
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    data = chunk(b"IDAT", zlib.compress(lines))
    return b"\x89PNG\r\n\x1a\n" + header + b"".join(more) + data + chunk(b"IEND", b"")


def wide_webp(width: int, height: int) -> bytes:
    """One small picture on a canvas that its header calls large."""
    buffer = io.BytesIO()
    frames = [Image.new("RGB", (64, 64), colour) for colour in ("red", "blue")]
    frames[0].save(buffer, "WEBP", save_all=True, append_images=frames[1:])
    data = bytearray(buffer.getvalue())
    place = data.index(b"VP8X") + 12
    data[place : place + 3] = (width - 1).to_bytes(3, "little")
    data[place + 3 : place + 6] = (height - 1).to_bytes(3, "little")
    return bytes(data)


UNFOLDED = 300 * 2**20
FOLDED = zlib.compress(bytes(UNFOLDED), 9)
BOMBS = {
    "a huge PNG": png(60_000, 60_000),
    "the hugest PNG": png(2**31 - 1, 2**31 - 1),
    "a large PNG": png(5000, 5000, pixels=b""),
    "a huge WebP": wide_webp(16_000, 16_000),
    "a large WebP": wide_webp(5000, 5000),
    "zTXt": png(4, 4, chunk(b"zTXt", b"parameters\0\0" + FOLDED)),
    "iTXt": png(4, 4, chunk(b"iTXt", b"seedproof\0\1\0\0\0" + FOLDED)),
    "iCCP": png(4, 4, chunk(b"iCCP", b"profile\0\0" + FOLDED)),
    "zTXt after the pixels": png(4, 4)[:-12]
    + chunk(b"zTXt", b"parameters\0\0" + FOLDED)
    + chunk(b"IEND", b""),
    "many zTXt": png(
        4, 4, *[chunk(b"zTXt", b"k%d\0\0" % n + zlib.compress(bytes(10**6))) for n in range(120)]
    ),
}


@pytest.mark.parametrize("name", BOMBS)
def test_a_bomb_is_refused_in_one_sentence_before_it_unfolds(name: str) -> None:
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match=r"too large|are read") as refused:
            opened(BOMBS[name], "bomb.png")
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert "\n" not in str(refused.value)
    assert peak < 100 * 2**20 < UNFOLDED


def test_many_uploads_do_not_unfold_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    inside, most, read = 0, 0, picture_file._read
    lock = threading.Lock()

    def slow(data: bytes, name: str) -> Any:
        nonlocal inside, most
        with lock:
            inside += 1
            most = max(most, inside)
        time.sleep(0.02)
        found = read(data, name)
        with lock:
            inside -= 1
        return found

    monkeypatch.setattr(picture_file, "_read", slow)
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda _: opened(png(4, 4), "a.png"), range(8)))
    assert len(found) == 8
    assert most == 1


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"<html><script>alert(1)</script></html>",
        b"GIF89a" + bytes(100),
        b"\x89PNG\r\n\x1a\n",
        b"\x89PNG\r\n\x1a\n" + bytes(1000),
        png(4, 4)[:40],
        png(0, 0),
        b"RIFF\xff\xff\xff\xffWEBPVP8 ",
        b"\xff\xd8\xff\xe1\xff\xff" + bytes(100),
        b"%!PS-Adobe-3.0 EPSF-3.0\n" + bytes(100),
        b"II*\0" + bytes(100),
        b"<svg xmlns='http://www.w3.org/2000/svg'/>",
    ],
)
def test_a_malformed_upload_is_one_sentence_on_both_pages(
    services: Services, tmp_path: Path, data: bytes
) -> None:
    path = tmp_path / "upload.png"
    path.write_bytes(data)
    page, form = made(lambda: (VerifyPage(services), GeneratePage(services)))
    card, _, kept, go = asyncio.run(page._put_in(str(path)))
    assert "is not a whole PNG, JPEG or WebP picture" in card
    assert (kept, go.interactive) == ("", False)
    *_, said = asyncio.run(form._take(str(path)))
    assert "is not a whole PNG, JPEG or WebP picture" in said


def test_an_oversized_file_is_not_read_to_its_end(tmp_path: Path) -> None:
    path = tmp_path / "large.png"
    with path.open("wb") as file:
        file.truncate(100 * MOST_BYTES)
    with pytest.raises(ValueError, match="has more than the 64,000,000 bytes that are read"):
        picture_file.read(path)


def test_a_name_that_says_png_and_lies_opens_no_other_decoder(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8)).save(buffer, "TIFF")
    with pytest.raises(ValueError, match="is not a whole PNG, JPEG or WebP"):
        opened(buffer.getvalue(), "picture.png")


# Addresses and what a page's events carry

STRANGE = (
    "../../../../etc/passwd",
    "..%2f..%2fetc%2fpasswd",
    "/etc/passwd",
    PAYLOAD,
    "' or 1=1 --",
    "a\0b",
    "\ud800",
    "x" * 100_000,
    "-1",
    "9" * 5000,
    "${alert(1)}",
)


ADDRESSED = ("run", "q", "page", "picture", "tag", "verdict", "sampler", "grid", "a", "b")


@pytest.mark.parametrize("strange", STRANGE)
def test_an_address_with_tricks_opens_nothing(services: Services, strange: str) -> None:
    asked: Any = SimpleNamespace(query_params=dict.fromkeys(ADDRESSED, strange))
    generate, audits, verify, history, grid, compare = made(
        lambda: (
            GeneratePage(services),
            AuditPage(services),
            VerifyPage(services),
            HistoryPage(services),
            GridPage(services),
            ComparePage(services),
        ),
    )

    async def everything() -> list[Any]:
        shown: list[Any] = [update async for update in generate._opened(SECRET, asked)]
        shown += [update async for update in audits._opened(SECRET, asked)]
        shown.append(await verify._opened(SECRET, asked))
        shown.append(await history._opened(SECRET, asked))
        shown += [update async for update in grid._opened(SECRET, asked)]
        shown.append([await compare._opened(SECRET, asked)])
        used: Any = SimpleNamespace(query_params={"use": strange})
        shown += [update async for update in generate._opened(SECRET, used)]
        return shown

    texts = [text for update in asyncio.run(everything()) for text in update if _is_text(text)]
    assert any("There is no such picture of yours" in text for text in texts)
    assert any("No audit" in text for text in texts)
    for text in texts:
        assert text == strange or not live(text)
        assert "root:" not in text


def _is_text(value: object) -> bool:
    return isinstance(value, str)


@pytest.mark.parametrize("strange", STRANGE)
def test_events_with_tricks_change_nothing(services: Services, strange: str) -> None:
    names = ("page", "run", "which", "words", "chosen", "what", "runs", "tag", "on")
    event: Any = SimpleNamespace(**dict.fromkeys(names, strange), everything=strange)
    page, audits = made(lambda: (HistoryPage(services), AuditPage(services)))
    (services.store.pictures).mkdir(parents=True, exist_ok=True)
    before = sorted(services.store.path.parent.rglob("*"))

    async def everything() -> None:
        chosen = Chosen(words=strange, tag=strange)
        await page._turned(event, chosen, SECRET, NO_REQUEST)
        await page._searched(event, chosen, SECRET, NO_REQUEST)
        await page._narrowed(event, chosen, SECRET, NO_REQUEST)
        await page._removed(event, chosen, 1, strange, NO_REQUEST)
        for what in (strange, "zip", "tag", "delete"):
            event.what = what
            await page._acted(event, chosen, 1, SECRET, NO_REQUEST)
        for act in (page._tagged, page._untagged, page._shared):
            await act(NO_REQUEST, event, chosen, 1, SECRET)
        await audits._picked(event, strange)

    asyncio.run(everything())
    assert audits._stopped(strange, strange, NO_REQUEST) == {"__type__": "update"}
    assert sorted(services.store.path.parent.rglob("*")) == before


def test_a_plans_name_leads_no_report_out_of_its_folder(services: Services) -> None:
    page = made(lambda: AuditPage(services))
    for name in ("../../outside", "/etc/outside", "a\0b", "x" * 1000, PAYLOAD):
        for file in page._files(replace(audit(), plan=name)):
            assert file.parent == services.reports
            assert file.is_file()


@pytest.mark.parametrize(
    "change",
    [
        {"prompt": "a " * 10_000},
        {"prompt": "a " * 10_000, "syntax": "plain"},
        {"prompt": "(" * 5000},
        {"negative": "b" * 10_001},
        {"seed": "9" * 5000},
        {"seed": "../../etc"},
        {"steps": 10**9},
        {"steps": float("nan")},
        {"guidance": float("nan")},
        {"guidance": float("inf")},
        {"width": 10**7},
        {"width": -64},
        {"sampler": PAYLOAD},
        {"syntax": PAYLOAD},
        {"settings": {"attention": PAYLOAD}},
        {"settings": {"attention": "sdp" * 10**5}},
    ],
)
def test_a_forged_form_is_one_sentence(services: Services, change: dict[str, Any]) -> None:
    form = made(lambda: GeneratePage(services)).form
    usual: dict[str, Any] = {
        "prompt": "a cat",
        "negative": "",
        "syntax": "a1111",
        "seed": "1",
        "steps": 4,
        "guidance": 5.0,
        "width": 128,
        "height": 128,
        "sampler": "Euler",
        "settings": {},
    }
    advanced = [one.value for one in form.advanced.inputs]
    assert form.job(*usual.values(), *advanced).requests[0].prompt == "a cat"
    with pytest.raises(ValueError, match=r"\w") as refused:
        form.job(*{**usual, **change}.values(), *advanced)
    assert "\n" not in str(refused.value)


# Weights


@pytest.mark.parametrize("name", ["model.ckpt", "sd/v1-5.pt", "model.pth", "weights.BIN", "a.pkl"])
def test_a_pickle_is_refused_with_its_reason(tmp_path: Path, name: str) -> None:
    file = tmp_path / name
    file.parent.mkdir(exist_ok=True)
    file.write_bytes(b"cos\nsystem\n(S'touch stolen'\ntR.")
    with pytest.raises(ValueError, match="reading one can run code"):
        resolve(str(file), tmp_path)


@pytest.mark.parametrize("name", ["diffusion_pytorch_model.bin", "diffusion_pytorch_model.pt"])
def test_a_folder_whose_weights_are_a_pickle_is_refused(
    tiny_model_path: Path, tmp_path: Path, name: str
) -> None:
    folder = tmp_path / "model"
    shutil.copytree(tiny_model_path, folder)
    (folder / "unet" / name).write_bytes(b"cos\nsystem\n.")
    assert resolve(str(folder), tmp_path).path == folder
    for weights in (folder / "unet").glob("*.safetensors"):
        weights.unlink()
    with pytest.raises(ValueError, match=rf"{name} and no \.safetensors beside it"):
        resolve(str(folder), tmp_path)


@pytest.mark.parametrize("part", ["../../../etc", "/etc", "a/b", "..", ""])
def test_an_index_names_no_part_outside_of_its_folder(tmp_path: Path, part: str) -> None:
    (tmp_path / "model_index.json").write_text(json.dumps({part: ["diffusers", "UNet"]}))
    with pytest.raises(ValueError, match="which is no folder of a pipeline"):
        resolve(str(tmp_path), tmp_path)


@pytest.mark.parametrize("text", ["", "[]", "3", "{", '{"unet": []}', "\x00"])
def test_a_damaged_index_is_one_sentence(tmp_path: Path, text: str) -> None:
    (tmp_path / "model_index.json").write_text(text)
    with pytest.raises(ValueError, match="is damaged: give a folder that diffusers saved"):
        resolve(str(tmp_path), tmp_path)


@pytest.mark.parametrize("where", ["library", "pipeline"])
def test_code_that_lies_in_a_models_folder_is_not_run(
    tiny_model_path: Path, tmp_path: Path, where: str
) -> None:
    folder, stolen = tmp_path / "model", tmp_path / "stolen"
    shutil.copytree(tiny_model_path, folder)
    for place in (folder, folder / "unet"):
        (place / "evil.py").write_text(f"open({str(stolen)!r}, 'w')\nclass Evil: pass\n")
    index = json.loads((folder / "model_index.json").read_text())
    if where == "library":
        index["unet"] = ["evil", "Evil"]
    else:
        index["_class_name"] = ["evil", "Evil"]
    (folder / "model_index.json").write_text(json.dumps(index))
    model = resolve(str(folder), tmp_path)
    with contextlib.suppress(Exception):
        load_pipeline(model, {})
    assert not stolen.exists()


HUB_IDS = (
    "../x",
    "../../etc/passwd",
    "file:///etc/passwd",
    "https://hub.test/somebody/model",
    "/etc",
    "somebody/a model",
    "somebody/model;rm -rf",
    "~nobody-at-all/x",
    "a\0b",
    "\ud800",
    "x" * 5000,
    "a/" * 3000,
    "",
    " ",
    "C:\\Windows",
    "$(touch stolen)",
)


@pytest.mark.parametrize("name", HUB_IDS)
def test_a_models_name_with_tricks_is_one_short_sentence(tmp_path: Path, name: str) -> None:
    with pytest.raises(ValueError, match="No model at") as refused:
        resolve(name, tmp_path)
    assert len(str(refused.value)) < 600
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("name", [*HUB_IDS, "x" * 5000 + ".toml", "../../pyproject"])
def test_a_plans_name_with_tricks_is_one_short_sentence(name: str) -> None:
    with pytest.raises(ValueError, match="plan") as refused:
        places().plan(name)
    assert len(str(refused.value)) < 1000


@pytest.mark.parametrize(
    "arguments",
    [
        ("export", "x" * 5000),
        ("export", "attention=sdp " * 400),
        ("generate", "a", "--model", "x" * 5000),
        ("audit", "--plan", "y" * 5000),
        ("verify", "z" * 5000),
        ("generate", "a", "--from", "z" * 5000),
    ],
)
def test_a_text_too_long_for_a_name_is_one_line_in_the_terminal(
    arguments: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    told = capsys.readouterr()
    assert ended.value.code in (0, 2)
    assert told.err.count("seedproof:") <= 1
    assert "Traceback" not in told.err
