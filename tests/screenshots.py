"""Pictures of the pages: `python -m tests.screenshots [--db FILE] [--out FOLDER] [--all]`.

The app is started on the database, which should hold a complete audit of this machine; a picture
is really generated. Without `--all` the README's three are made, wide and light; with it every
page, wide and at 390 px, light and dark, to look at.
"""

import argparse
import io
import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

from PIL import Image
from playwright.sync_api import Browser, Page, sync_playwright

from core.store import Store
from tests.browser import ADVICE, ARGUMENTS, find
from tests.browser_fixtures import PATIENCE, free_port, wait_for
from webapp.places import REPOSITORY

SERVE = (sys.executable, "-m", "webapp", "serve")
WIDTHS = {"wide": (1280, 1080), "390": (390, 844)}
MOST_BYTES = 300_000


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
            env={**os.environ, "XDG_CACHE_HOME": folder, "OMP_WAIT_POLICY": "passive"},
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
    for width, (w, h) in WIDTHS.items():
        for scheme in ("light", "dark"):
            if not everything and (width, scheme) != ("wide", "light"):
                continue
            context = browser.new_context(
                viewport={"width": w, "height": h},
                color_scheme="dark" if scheme == "dark" else "light",
            )
            page = context.new_page()
            page.set_default_timeout(PATIENCE)
            suffix = f"-{width}-{scheme}" if everything else ""
            for name, visit in (("generate", generate), ("audit", audit), ("recommend", recommend)):
                visit(page, url, audit_id)
                page.wait_for_timeout(800)
                save(page, out / f"{name}{suffix}.png", whole=everything)
            context.close()


def generate(page: Page, url: str, audit_id: str) -> None:
    page.goto(url)
    page.locator(".sp-theme[aria-label]").wait_for()
    page.get_by_role("button", name="a mushroom").click()
    details = page.get_by_role("button", name="Seed, size and steps")
    details.click()
    page.locator("#seed input").fill("2")
    details.click()
    page.locator("#generate").click()
    page.locator("#stage a[download]").wait_for()
    page.locator("#settings summary").first.click()
    page.locator("[data-slot=attention] > summary").click()
    page.mouse.move(0, 0)
    page.evaluate("document.activeElement.blur()")


def audit(page: Page, url: str, audit_id: str) -> None:
    page.goto(f"{url}audit?run={audit_id}")
    page.locator("#plot").wait_for()
    page.locator("#report").wait_for()


def recommend(page: Page, url: str, audit_id: str) -> None:
    page.goto(f"{url}recommend")
    page.locator("#losers").wait_for()


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
