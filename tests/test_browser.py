"""A short walk through the real app, as its visitors take it."""

# ruff: noqa: F401, F811, fixtures are imported by name and asked for by name

import hashlib
import io
import json
import re
import urllib.error
import urllib.request
from pathlib import Path
from urllib.parse import unquote

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image
from playwright.sync_api import Browser, Locator, Page, expect

from core.picture_file import encoded, read
from tests.browser_fixtures import PATIENCE, App, Visit, app, chromium, visit, watch_page

pytestmark = [pytest.mark.browser, pytest.mark.timeout(900)]
expect.set_options(timeout=PATIENCE)


def open_page(visit: Visit, url: str) -> Page:
    visit.page.goto(url)
    expect(visit.page.locator(".sp-bar nav a[aria-current=page]")).to_be_visible()
    # Named by its script: from then on the page's scripts listen.
    expect(visit.page.locator(".sp-theme[aria-label]")).to_be_visible()
    return visit.page


def set_steps(page: Page, steps: int) -> None:
    box = page.locator("#steps input[type=number]")
    if not box.is_visible():
        page.get_by_role("button", name="Seed, size and steps").click()
    box.fill(str(steps))
    box.blur()


def generate(page: Page) -> Locator:
    """Press Generate and wait for the new picture."""
    before = page.url
    page.locator("#generate").click()
    page.wait_for_url(lambda url: url != before)
    expect(page.locator("#stage a[download]")).to_be_visible()
    return page.locator("#stage img")


def shown_file(picture: Locator) -> Path:
    source = picture.get_attribute("src") or ""
    return Path(unquote(source.partition("file=")[2]))


def pixels_digest(file: Path) -> str:
    with Image.open(file) as image:
        return hashlib.sha256(np.asarray(image.convert("RGB")).tobytes()).hexdigest()


def effects(page: Page) -> dict[str, str]:
    """Setting → effect, from the table below the picture."""
    found: dict[str, str] = page.locator("#effective tbody tr").evaluate_all(
        "rows => Object.fromEntries("
        "rows.map(row => [row.cells[0].innerText.trim(), row.dataset.effect]))"
    )
    return found


def test_a_picture_in_two_clicks_and_what_is_known_about_it(visit: Visit, app: App) -> None:
    page = open_page(visit, app.url)
    page.get_by_role("button", name="a panda").click()
    expect(page.locator("#prompt textarea")).to_have_value(re.compile("panda"))
    picture = generate(page)
    expect(picture).to_have_attribute("alt", re.compile("panda"))
    shown = page.locator("[data-digest=pixels]").get_attribute("title")
    file = shown_file(picture)
    assert file.parent == app.pictures
    assert pixels_digest(file) == shown
    assert effects(page) == {"Attention": "applied", "Precision": "applied"}
    expect(page.locator("#evidence")).to_contain_text("same process: held 5 of 5")
    page.reload()
    expect(page.locator("[data-digest=pixels]")).to_have_attribute("title", shown or "")
    expect(page.locator("#prompt textarea")).to_have_value(re.compile("panda"))


def test_settings_by_keyboard_and_what_cannot_run_here(visit: Visit, app: App) -> None:
    page = open_page(visit, app.url)
    set_steps(page, 3)
    form = page.locator("#settings")
    form.locator("summary").first.focus()
    page.keyboard.press("Enter")
    attention = form.locator("[data-slot=attention]")
    attention.locator("> summary").focus()
    page.keyboard.press("Enter")
    absent = attention.locator("label", has_text="xformers")
    expect(absent.locator("input")).to_be_disabled()
    expect(absent).to_contain_text("Not here: ")
    attention.locator("input[value=sdp]").focus()
    page.keyboard.press("ArrowDown")
    expect(attention.locator("input[value=sdp-no-mem]")).to_be_checked()
    merging = form.locator("[data-slot=token-merging]")
    merging.locator("> summary").click()
    merging.locator("input[value=seeded]").check()
    merging.locator("[data-for=seeded] input").press("ArrowRight")
    expect(form).to_contain_text("2 changed")
    generate(page)
    expect(page.locator("#effective")).to_contain_text("seeded:0.55")
    assert effects(page)["Token merging"] == "applied"
    expect(page.locator("#evidence")).to_contain_text("never audited here")


def test_cancel_frees_the_engine_for_the_next_picture(visit: Visit, app: App) -> None:
    page = open_page(visit, app.url)
    set_steps(page, 100)
    page.locator("#generate").click()
    expect(page.locator("#stage [role=status]")).to_contain_text(re.compile(r"Step \d+ of 100"))
    page.locator("#cancel").click()
    expect(page.locator("#stage [role=alert]")).to_contain_text("Cancelled")
    set_steps(page, 3)
    generate(page)


def test_a_mistake_is_told_in_one_sentence(visit: Visit, app: App) -> None:
    page = open_page(visit, app.url)
    page.locator("#prompt textarea").fill(" ")
    page.keyboard.press("Control+Enter")
    expect(page.locator("#stage [role=alert]")).to_contain_text("Write what the picture")
    page.goto(app.url + "?run=nobody")
    expect(page.locator("#stage [role=alert]")).to_contain_text("no such picture")


def test_tokens_are_counted_while_one_writes(visit: Visit, app: App) -> None:
    page = open_page(visit, app.url)
    tokens = page.locator("#prompt-tokens")
    expect(tokens).to_contain_text("of 75 tokens")
    page.locator("#prompt textarea").fill("a red apple, " * 20)
    expect(tokens).to_contain_text("80 tokens, 2 chunks of 75: the UNet's cross-attention doubles")
    page.locator("#prompt textarea").fill("a [red|green] apple")
    expect(tokens).to_contain_text("alternating words")


def test_an_audit_stops_goes_on_and_needs_no_tab(visit: Visit, app: App, chromium: Browser) -> None:
    first = watch_page(chromium.new_context().new_page())
    page = open_page(first, app.url + "audit")
    page.get_by_label("smoke").check()
    expect(page.locator("#promise")).to_contain_text("34 runs")
    page.locator("#start").click()
    page.wait_for_url(re.compile(r"audit\?run="))
    expect(page.locator("#status")).to_contain_text(re.compile(r"[1-9]\d* of 34 runs"))
    address = page.url
    page.locator("#stop").click()
    page.locator("#resume").click()
    expect(page.locator("#status [data-state=running]")).to_be_visible()
    page.context.close()

    page = open_page(visit, address)
    expect(page.locator("#scores tbody tr")).to_have_count(4)
    expect(page.locator("#status [data-state=complete]")).to_be_visible(timeout=600_000)
    expect(page.locator("#plot")).to_be_visible()
    expect(page.locator("#scores thead")).to_contain_text("Follows its prompt")
    page.locator("#scores button").last.click()
    expect(page.locator("#row .sp-compare img").first).to_be_visible()
    with page.expect_download() as downloading:
        page.locator("#report").click()
    report = Path(downloading.value.path()).read_text(encoding="utf-8")
    assert "<html" in report
    with page.expect_download() as downloading:
        page.locator("#record").click()
    record = json.loads(Path(downloading.value.path()).read_text(encoding="utf-8"))
    assert record["complete"]
    assert [row["prompt_followed"]["of"] for row in record["scores"]] == [2] * 4
    assert address.endswith(record["audit_id"])


def test_a_recommendation_has_evidence_and_can_be_used(visit: Visit, app: App) -> None:
    page = open_page(visit, app.url + f"audit?run={app.audit_id}")
    expect(page.locator("#scores tbody tr")).to_have_count(6)
    page.get_by_role("link", name="Recommend").click()
    page.get_by_label("Exactly the same pictures").check()
    expect(page.locator("#answer [data-goal=exact] h2")).to_have_text("min-sigma=alternate:0.7")
    expect(page.locator("#because")).to_contain_text("held in 5 of 5")
    expect(page.locator("#losers")).to_contain_text("attention=sub-quadratic")
    limit = page.get_by_placeholder("no limit")
    limit.fill("lots")
    expect(page.locator("#answer [role=alert]")).to_contain_text("number of GB")
    limit.fill("0.05")
    expect(page.locator("#answer")).to_contain_text("Nothing qualifies")
    page.get_by_role("button", name="Undo").click()
    page.get_by_role("button", name="Undo").click()
    expect(limit).to_have_value("")
    page.locator("#use").click()
    expect(page.locator("[data-slot=min-sigma] [data-value]")).to_have_text("alternate 0.7")
    expect(page.locator("[data-slot=min-sigma] > summary")).to_be_visible()
    set_steps(page, 8)
    generate(page)
    assert effects(page)["Negative guidance minimum sigma"] == "applied"
    expect(page.locator("#evidence")).to_contain_text("27.2 % less time")


def test_a_picture_is_made_again_from_its_receipt(visit: Visit, app: App, tmp_path: Path) -> None:
    page = open_page(visit, app.url)
    set_steps(page, 3)
    file = shown_file(generate(page))
    page.locator("#stage").get_by_role("link", name="Verify").click()
    page.locator("#verify").click()
    expect(page.locator("#verdict")).to_have_attribute("data-verdict", "bit-exact")
    expect(page.locator("#verdict .sp-compare img").first).to_be_visible()
    found = read(file)
    pixels = found.pixels.copy()
    pixels[20, 30] ^= 255
    edited = tmp_path / "edited.webp"
    edited.write_bytes(encoded(Image.fromarray(pixels), "WEBP", found.texts))
    page.locator("#upload input[type=file]").set_input_files(edited)
    expect(page.locator("#receipt")).to_contain_text("it was edited")
    page.locator("#verify").click()
    expect(page.locator("#verdict")).to_contain_text("1 of 16,384 pixels differ, at column 30")


def test_two_pictures_are_compared_by_keyboard(visit: Visit, app: App) -> None:
    page = open_page(visit, app.url + f"audit?run={app.audit_id}")
    heat = page.locator("#heat")
    row = heat.locator("tr", has_text="token-merging=seeded:0.5")
    expect(row.locator("td").first).to_have_text(re.compile(r"held 5 of 5"))
    row.get_by_role("button").focus()
    page.keyboard.press("Enter")
    expect(page.locator("#row h2")).to_be_focused()
    page.locator("#kernels summary").click()
    expect(page.locator("#kernels table")).to_contain_text("calls 1")
    box = page.locator(".sp-compare").first
    line = box.get_by_label("Line between baseline and this setting")
    line.focus()
    page.keyboard.press("ArrowRight")
    at = "box => box.style.getPropertyValue('--at')"
    assert box.evaluate(at) == "51%"
    first, second = box.locator(".sp-compare-stage img").all()
    assert first.get_attribute("src") != second.get_attribute("src")
    shown = "image => getComputedStyle(image).clipPath"
    before = second.evaluate(shown)
    box.get_by_role("button", name="Hold to swap").focus()
    page.keyboard.down("Space")
    assert second.evaluate(shown) != before
    page.keyboard.up("Space")
    assert second.evaluate(shown) == before
    box.get_by_label("Difference").check()
    box.get_by_label("Amplified").press("ArrowRight")
    expect(box.locator("output")).to_have_text("× 16")
    blending = "image => getComputedStyle(image).mixBlendMode"
    assert second.evaluate(blending) == "difference"
    expected = (np.abs(pixels(first) - pixels(second)) * 16).clip(0, 255)
    stage = screenshot(box.locator(".sp-compare-pictures")).resize((128, 128))
    inner = (slice(16, 112), slice(16, 112))
    apart = np.asarray(stage).astype(int)[inner].mean() - expected[inner].mean()
    assert abs(apart) < 1
    thumb = box.locator("[data-first]").nth(1)
    thumb.press("Enter")
    expect(thumb).to_have_attribute("aria-pressed", "true")
    assert second.get_attribute("src") == thumb.get_attribute("data-second")


def screenshot(part: Locator) -> Image.Image:
    return Image.open(io.BytesIO(part.screenshot())).convert("RGB")


def pixels(picture: Locator) -> npt.NDArray[np.int64]:
    with Image.open(shown_file(picture)) as image:
        return np.asarray(image.convert("RGB")).astype(np.int64)


def test_history_is_ones_own_and_is_searched_opened_and_deleted(
    visit: Visit, app: App, chromium: Browser
) -> None:
    page = open_page(visit, app.url + "history")
    expect(page.locator("#nothing")).to_contain_text("No pictures yet")
    page.get_by_role("link", name="Make the first one").click()
    expect(page.locator(".sp-theme[aria-label]")).to_be_visible()
    set_steps(page, 2)
    for name in ("a panda", "a rocket"):
        page.get_by_role("button", name=name).click()
        expect(page.locator("#prompt textarea")).to_have_value(re.compile(name))
        generate(page)
    expect(page.locator("#recent img")).to_have_count(2)
    address = page.url
    page.locator("#recent").get_by_role("link", name="All 2").click()
    shots = page.locator(".sp-shot")
    expect(shots).to_have_count(2)
    expect(shots.first).to_contain_text("held 5 of 5 · the baseline")
    page.get_by_label("Search prompts and settings").fill("PANDA sdp")
    expect(page.locator("#wall [role=status]")).to_have_text("1 picture with “PANDA sdp”")
    page.reload()
    expect(shots).to_have_count(1)
    file = shown_file(shots.locator("img"))
    with page.expect_download() as downloading:
        shots.get_by_role("link", name="Download").click()
    assert Path(downloading.value.path()).read_bytes() == file.read_bytes()
    with Image.open(file) as image:
        assert "parameters" in image.info

    stranger = watch_page(chromium.new_context().new_page())
    other = open_page(stranger, app.url + "history?q=panda")
    expect(other.locator("#wall [role=status]")).to_have_text("0 pictures with “panda”")
    open_page(stranger, address)
    expect(other.locator("#stage [role=alert]")).to_contain_text("no such picture of yours")
    expect(other.locator("#recent img")).to_have_count(0)
    other.context.close()

    shots.get_by_role("button", name="Delete this picture").press("Enter")
    expect(shots.get_by_role("button", name="Keep")).to_be_focused()
    page.keyboard.press("Enter")
    expect(shots.get_by_role("button", name="Delete this picture")).to_be_focused()
    page.keyboard.press("Enter")
    page.keyboard.press("Shift+Tab")
    page.keyboard.press("Enter")
    expect(shots).to_have_count(0)
    assert not file.exists()
    page.get_by_label("Search prompts and settings").fill("")
    expect(shots).to_have_count(1)


def test_a_grid_fills_its_cells_and_two_of_them_are_compared(
    visit: Visit, app: App, chromium: Browser
) -> None:
    page = open_page(visit, app.url + "grid")
    expect(page.locator("#base")).to_contain_text("128 × 128 px")
    page.get_by_label("Values of X").fill("sdp, magic")
    page.locator("#make-grid").click()
    expect(page.locator("#grid-status [role=alert]")).to_contain_text("no option 'magic'")
    page.get_by_label("Values of X").fill("sdp, none")
    page.get_by_label("Y varies").click()
    page.get_by_role("option", name="Steps", exact=True).click()
    expect(page.get_by_label("Values of Y")).to_have_value("8, 20")
    page.get_by_label("Values of Y").fill("2-3")
    page.locator("#make-grid").click()
    expect(page.locator("#cells img")).to_have_count(4)
    expect(page.locator("#grid-status [role=status]")).to_have_text("4 of 4 pictures")
    expect(page.locator("#cells")).to_contain_text(re.compile("rounding|bit-exact"))
    with page.expect_download() as downloading:
        page.locator("#grid-png").click()
    with Image.open(downloading.value.path()) as sheet:
        assert sheet.format == "PNG"
    page.reload()
    expect(page.locator("#cells img")).to_have_count(4)
    page.locator("#cells td a").first.click()
    expect(page.locator("#stage img")).to_be_visible()

    page.get_by_role("link", name="History").click()
    boxes = page.locator(".sp-shot input[type=checkbox]")
    boxes.nth(0).check()
    expect(page.locator("[data-compare]")).to_be_hidden()
    boxes.nth(3).check()
    page.get_by_label("A tag", exact=True).fill("Pair")
    page.get_by_role("button", name="Add tag").click()
    page.locator("#filters [name=tag]").select_option("pair")
    expect(page.locator("#wall [role=status]").first).to_have_text("2 pictures of yours, as chosen")
    assert page.url.endswith("?tag=pair")
    page.get_by_label("Select this page").check()
    page.get_by_role("link", name="Compare the two").click()
    expect(page.locator("#pair .sp-compare img")).to_have_count(2)
    expect(page.locator("#pair")).to_contain_text("First to differ")
    page.go_back()
    page.get_by_role("link", name="Details").first.click()
    expect(page.locator("#picture img")).to_be_visible()
    address = page.url
    stranger = watch_page(chromium.new_context().new_page())
    other = open_page(stranger, address)
    expect(other.locator("#picture [role=alert]")).to_contain_text("no such picture")
    page.get_by_role("button", name="Share it").click()
    expect(page.get_by_role("button", name="Stop sharing")).to_be_visible()
    other.reload()
    expect(other.locator("#picture img")).to_be_visible()
    other.context.close()
    page.get_by_label("Select this page").check()
    page.get_by_role("button", name="Delete", exact=True).last.press("Enter")
    expect(page.get_by_role("button", name="Keep").last).to_be_focused()


def test_a_preset_and_a_style_are_three_clicks_away(visit: Visit, app: App) -> None:
    page = open_page(visit, app.url)
    set_steps(page, 3)
    fold = page.get_by_role("button", name="Presets and styles")
    fold.click()
    page.get_by_label("Name of a preset").fill("fast")
    page.get_by_role("button", name="Save settings").click()
    expect(page.locator("#kept-told")).to_contain_text("Saved as fast.")
    page.locator("#styles-file input[type=file]").set_input_files(
        {
            "name": "styles.csv",
            "mimeType": "text/csv",
            "buffer": b'name,prompt,negative_prompt\nInk,"{prompt}, ink",photo\n',
        }
    )
    expect(page.locator("#kept-told")).to_contain_text("1 style is taken over.")
    page.reload()
    page.locator("#prompt textarea").fill("a bee")
    fold.click()
    page.get_by_label("Preset", exact=True).click()
    page.get_by_role("option", name="fast").click()
    expect(page.locator("#kept-told")).to_contain_text("fast is filled in.")
    page.get_by_label("Style", exact=True).click()
    page.get_by_role("option", name="Ink").click()
    expect(page.locator("#prompt textarea")).to_have_value("a bee, ink")
    page.get_by_role("button", name="Seed, size and steps").click()
    expect(page.locator("#steps input[type=number]")).to_have_value("3")


def test_every_answer_of_the_wizard_can_be_undone(visit: Visit, app: App) -> None:
    page = open_page(visit, app.url + "recommend")
    title = page.locator("#answer h2").first
    expect(title).to_have_text("min-sigma=alternate:0.7")
    page.get_by_label("As fast as possible").focus()
    page.keyboard.press("Space")
    page.get_by_label("with another number of threads").check()
    expect(title).to_have_text("No setting meets all of that")
    expect(page.locator("#answer")).to_contain_text("did not try threads")
    assert page.url.endswith("?goal=fastest&hold=threads")
    page.reload()
    expect(page.get_by_label("As fast as possible")).to_be_checked()
    expect(title).to_have_text("No setting meets all of that")
    page.get_by_label("with another number of threads").uncheck()
    expect(title).to_have_text("min-sigma=alternate:0.7")
    page.go_back()
    expect(page.get_by_label("with another number of threads")).to_be_checked()
    page.get_by_role("button", name="Start over").click()
    expect(page.locator("#answer [data-goal=same-look]")).to_be_visible()
    page.locator("#use").click()
    expect(page.locator("#stage")).to_contain_text("min-sigma alternate:0.7")
    page.go_back()
    expect(page.locator("#answer [data-goal=same-look]")).to_be_visible()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_nothing_is_wider_than_a_small_telephone(
    chromium: Browser, app: App, scheme: str, tmp_path: Path
) -> None:
    context = chromium.new_context(
        viewport={"width": 390, "height": 844},
        color_scheme="dark" if scheme == "dark" else "light",
    )
    visit = watch_page(context.new_page())
    for path, ready in (
        ("", "#stage .sp-card"),
        ("audit", "#promise b"),
        (f"audit?run={app.audit_id}", "#plot"),
        ("recommend", "#because"),
        ("verify", "#receipt"),
        ("history", "#nothing"),
        ("machine", "#missing"),
        ("grid", "#base .sp-hint"),
        ("compare", "#pair h2"),
    ):
        page = open_page(visit, app.url + path)
        expect(page.locator(ready)).to_be_visible()
        page.evaluate("document.querySelectorAll('details').forEach(one => { one.open = true })")
        page.screenshot(path=tmp_path / f"{scheme}.png", full_page=True)
        assert page.evaluate("document.documentElement.scrollWidth") <= 390
        assert page.locator("body").evaluate("body => body.matches('.dark')") == (scheme == "dark")
    context.close()
    assert visit.hosts == {"127.0.0.1"}
    assert not visit.trouble


def test_doors_that_stay_closed(app: App) -> None:
    call = json.dumps({"data": []}).encode()
    for path, data, code in (
        ("gradio_api/file=/etc/hostname", None, 403),
        (f"gradio_api/file={app.database}", None, 403),
        ("gradio_api/run/_several", call, 404),
    ):
        asked = urllib.request.Request(
            app.url + path, data, headers={"Content-Type": "application/json"}
        )
        with pytest.raises(urllib.error.HTTPError) as refused:
            urllib.request.urlopen(asked, timeout=30)
        assert refused.value.code == code, path
        refused.value.close()


def test_doors_for_whoever_runs_the_server(app: App) -> None:
    for path, said in (
        ("healthz", b'"ok"'),
        ("readyz", b'"ready":true'),
        ("metrics", b"seedproof_worker_up 1.0"),
    ):
        with urllib.request.urlopen(app.url + path, timeout=30) as answer:
            assert said in answer.read(), path
