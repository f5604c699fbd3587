"""Axe's rules on every page: nothing serious or critical, in light and dark, wide and narrow."""

# ruff: noqa: F401, F811, fixtures are imported by name and asked for by name

from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser

from tests.browser_fixtures import App, app, chromium, watch_page
from tests.test_browser import open_page
from webapp.shell import PAGES

pytestmark = [pytest.mark.browser, pytest.mark.timeout(900)]
GRAVE = ("serious", "critical")
WIDE, NARROW = 1280, 390
SETTLED = 1000
"""Milliseconds in which a page fills in what it has. Gradio's open stream never lets it be idle."""


def findings(browser: Browser, app: App, theme: str, width: int) -> list[str]:
    """One sentence for each kind of finding on each page, with an element that shows it."""
    context = browser.new_context(viewport={"width": width, "height": 900})
    visit = watch_page(context.new_page())
    found = []
    for address in (*(address for _, address in PAGES), f"./audit?run={app.audit_id}"):
        place = address.removeprefix("./")
        page = open_page(visit, f"{app.url}{place}{'&' if '?' in place else '?'}__theme={theme}")
        page.wait_for_timeout(SETTLED)
        violations: list[dict[str, Any]] = Axe().run(page).response["violations"]
        found += [
            f"{place or 'generate'}: {one['impact']} {one['id']}, {len(one['nodes'])} times, "
            f"as {one['nodes'][0]['html'][:200]}"
            for one in violations
            if one["impact"] in GRAVE
        ]
    context.close()
    return found


def test_nothing_grave_on_any_page(chromium: Browser, app: App) -> None:
    assert findings(chromium, app, "light", WIDE) == []


@pytest.mark.soak
@pytest.mark.parametrize(("theme", "width"), [("dark", WIDE), ("light", NARROW), ("dark", NARROW)])
def test_nothing_grave_otherwise(chromium: Browser, app: App, theme: str, width: int) -> None:
    assert findings(chromium, app, theme, width) == []
