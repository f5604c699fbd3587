"""Pictures of the pages: `python -m tests.screenshots --db FILE [--out FOLDER] [--all]`.

The app is started on the database, which should hold a complete audit of this machine; pictures
are really generated. Without `--all` the README's are made, wide and light; with it every page,
wide and at 390 px, light and dark, to look at.
"""

import argparse
import io
import os
import signal
import subprocess
import sys
import tempfile
import uuid
from collections.abc import Callable
from pathlib import Path

from PIL import Image
from playwright.sync_api import Browser, Page, sync_playwright

from core.store import Store
from tests.browser import ADVICE, ARGUMENTS, find
from tests.browser_fixtures import PATIENCE, free_port, wait_for
from webapp.places import REPOSITORY

SERVE = (sys.executable, "-m", "webapp", "serve")
WIDTHS = {"wide": (1280, 1080), "390": (390, 844)}
MOST_BYTES = 190_000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--db", type=Path, required=True)
    parser.add_argument("--out", type=Path, default=REPOSITORY / ".github" / "screenshots")
    parser.add_argument("--all", action="store_true")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    port = free_port()
    with tempfile.TemporaryDirectory() as folder, (Path(folder) / "log").open("w") as log:
        app = subprocess.Popen(
            [*SERVE, "--port", str(port), "--db", str(arguments.db)],
            cwd=REPOSITORY,
            env={**os.environ, "XDG_CACHE_HOME": folder},
            stdout=log,
            stderr=subprocess.STDOUT,
        )
        url = f"http://127.0.0.1:{port}/"
        try:
            wait_for(url, app, Path(log.name))
            with sync_playwright() as playwright:
                browser = playwright.chromium.launch(
                    executable_path=find() or sys.exit(ADVICE), args=ARGUMENTS
                )
                take(browser, url, arguments.db, arguments.out, everything=arguments.all)
        finally:
            app.send_signal(signal.SIGTERM)
            app.wait(60)


def take(browser: Browser, url: str, database: Path, out: Path, *, everything: bool) -> None:
    with Store(database) as store:
        audit_id = next(entry.id for entry in store.audits() if entry.finished_at)
    secret = uuid.uuid4().hex
    for width, (w, h) in WIDTHS.items():
        for scheme in ("light", "dark"):
            if not everything and (width, scheme) != ("wide", "light"):
                continue
            context = browser.new_context(
                viewport={"width": w, "height": h},
                color_scheme="dark" if scheme == "dark" else "light",
            )
            context.add_init_script(f"localStorage.setItem('seedproof-visitor', '{secret}')")
            page = context.new_page()
            page.set_default_timeout(PATIENCE)
            if (width, scheme) == ("wide", "light"):
                fill(page, url)
            suffix = f"-{width}-{scheme}" if everything else ""
            for name, visit in VISITS.items():
                if everything or name in README:
                    visit(page, url, audit_id)
                    page.mouse.move(0, 0)
                    page.evaluate("document.activeElement.blur()")
                    page.wait_for_timeout(800)
                    save(page, out / f"{name}{suffix}.png", whole=everything)
            context.close()


def fill(page: Page, url: str) -> None:
    """Pictures for the history, some of them with settings of their own."""
    for prompt, seed, use in (
        ("a red apple", 3, ""),
        ("a rocket", 1, "?use=token-merging=seeded:0.5"),
        ("a watermelon", 4, ""),
        ("a panda", 9, "?use=min-sigma=alternate:0.7"),
        ("a green frog", 5, ""),
    ):
        page.goto(url + use)
        make(page, prompt, seed)


def make(page: Page, prompt: str, seed: int) -> None:
    page.locator(".sp-theme[aria-label]").wait_for()
    page.get_by_role("button", name=prompt).click()
    details = page.get_by_role("button", name="Seed, size and steps")
    details.click()
    page.locator("#seed").locator("input, textarea").fill(str(seed))
    details.click()
    page.locator("#generate").click()
    page.locator("#stage a[download]").wait_for()


def generate(page: Page, url: str, audit_id: str) -> None:
    page.goto(url)
    make(page, "a mushroom", 2)
    page.locator("#settings summary").first.click()
    page.locator("[data-slot=attention] > summary").click()


def plans(page: Page, url: str, audit_id: str) -> None:
    page.goto(f"{url}audit")
    page.locator("#promise b").wait_for()


def audit(page: Page, url: str, audit_id: str) -> None:
    page.goto(f"{url}audit?run={audit_id}")
    page.locator("#plot").wait_for()
    page.locator("#report").wait_for()


def compare(page: Page, url: str, audit_id: str) -> None:
    audit(page, url, audit_id)
    page.locator("#scores tr", has_text="token-merging=").first.get_by_role("button").click()
    page.locator(".sp-compare").first.wait_for()
    page.locator("#row").evaluate(
        "card => scrollTo(0, card.getBoundingClientRect().y + scrollY - 16)"
    )


def recommend(page: Page, url: str, audit_id: str) -> None:
    page.goto(f"{url}recommend")
    page.locator("#losers").wait_for()


def verify(page: Page, url: str, audit_id: str) -> None:
    history(page, url, audit_id)
    page.locator(".sp-shot").first.get_by_role("link", name="Verify").click()
    page.locator("#verify").click()
    page.locator("#verdict").wait_for()


def history(page: Page, url: str, audit_id: str) -> None:
    page.goto(f"{url}history")
    page.locator(".sp-shot").first.wait_for()


VISITS: dict[str, Callable[[Page, str, str], None]] = {
    "generate": generate,
    "plans": plans,
    "audit": audit,
    "compare": compare,
    "recommend": recommend,
    "verify": verify,
    "history": history,
}
README = ("generate", "audit", "compare")


def save(page: Page, path: Path, *, whole: bool) -> None:
    """A PNG that a README can carry: a palette of 256 colours where it would be too large."""
    shot = page.screenshot(full_page=whole)
    if len(shot) > MOST_BYTES and not whole:
        buffer = io.BytesIO()
        Image.open(io.BytesIO(shot)).convert("RGB").quantize(256).save(buffer, "PNG", optimize=True)
        shot = buffer.getvalue()
    path.write_bytes(shot)
    print(path, len(shot))


if __name__ == "__main__":
    main()
