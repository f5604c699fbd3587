"""Two people and an admin on one server, each in a browser of their own."""

# ruff: noqa: F401, F811, fixtures are imported by name and asked for by name

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.browser_fixtures import PATIENCE, Visit, chromium, started, visit, watch_page
from tests.test_accounts import write
from tests.test_browser import generate, open_page, set_steps, shown_file

pytestmark = [pytest.mark.browser, pytest.mark.timeout(900)]
expect.set_options(timeout=PATIENCE)
PASSWORDS = {"ann": "correct horse", "ben": "battery staple"}


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("accounts")
    accounts = write(
        folder / "accounts",
        ("ann", "admin", PASSWORDS["ann"]),
        ("ben", "user", PASSWORDS["ben"]),
    )
    limits = folder / "limits.toml"
    limits.write_text("num_inference_steps = 30\n")
    options = ("--accounts", str(accounts), "--limits", str(limits))
    with started(folder / "seedproof.db", *options) as url:
        yield url


def sign_in(page: Page, name: str) -> None:
    page.get_by_label("Name").fill(name)
    page.get_by_label("Password").fill(PASSWORDS[name])
    page.get_by_role("button", name="Sign in").click()
    expect(page.locator(".sp-account b")).to_have_text(name)


def test_a_user_and_an_admin(url: str, visit: Visit, chromium: Browser) -> None:
    page, refused = visit.page, []
    page.on("response", lambda one: refused.append(one.url) if one.status == 404 else None)
    page.goto(f"{url}history")
    expect(page.get_by_role("heading", name="Sign in")).to_be_visible()
    page.get_by_label("Name").fill("ben")
    page.get_by_label("Password").fill("correct horse")
    page.keyboard.press("Enter")
    expect(page.get_by_role("alert")).to_contain_text("do not belong together")
    sign_in(page, "ben")
    assert page.url == f"{url}history"
    expect(page.locator("#nothing")).to_be_visible()

    open_page(visit, url)
    set_steps(page, 31)
    expect(page.locator("#limits")).to_have_text("On this server at most: 30 steps.")
    page.locator("#generate").click()
    expect(page.get_by_role("alert")).to_contain_text("at most 30 steps, not 31")
    set_steps(page, 2)
    file = shown_file(generate(page))
    picture = page.locator("#stage img").get_attribute("src") or ""
    seen = page.url
    page.goto(f"{url}history")
    expect(page.locator("[data-shot]")).to_have_count(1)
    page.goto(f"{url}verify")
    page.locator("#upload input[type=file]").set_input_files(file)
    expect(page.locator("#says")).to_contain_text("seed", ignore_case=True)
    page.goto(f"{url}queue")
    expect(page.locator("#idle")).to_be_visible()
    page.goto(f"{url}audit")
    expect(page.locator("#promise")).to_contain_text("Only an admin")
    expect(page.locator("#start")).to_be_disabled()

    context = chromium.new_context(viewport={"width": 390, "height": 800})
    try:
        ann = watch_page(context.new_page())
        ann.page.goto(url)
        sign_in(ann.page, "ann")
        assert ann.page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        ann.page.goto(f"{url}history")
        expect(ann.page.locator("#nothing")).to_be_visible()
        ann.page.goto(seen)
        expect(ann.page.locator("#stage img")).to_have_js_property("complete", True)
        assert not ann.trouble, ann.trouble
    finally:
        context.close()

    page.get_by_role("button", name="Sign out").click()
    expect(page.get_by_role("heading", name="Sign in")).to_be_visible()
    assert page.request.get(f"{url}{picture.removeprefix('./')}").status == 401
    assert refused == []
