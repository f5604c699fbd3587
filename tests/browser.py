"""Finds a browser for the tests, or installs one: `python -m tests.browser`.

A system Chromium or Chrome first; else the one Playwright downloads; else apt, as root.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

SYSTEM = ("chromium", "chromium-browser", "google-chrome-stable", "google-chrome", "chrome")

ARGUMENTS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
"""For a browser that runs as root in a container and must not call home."""

ADVICE = (
    "No browser for the tests: install Chromium (Debian: apt-get install chromium; "
    "elsewhere: .venv/bin/playwright install --with-deps chromium) and run make test again."
)


def find() -> str | None:
    """The path of a Chromium that Playwright can drive, or None."""
    for name in SYSTEM:
        if path := shutil.which(name):
            return path
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        path = playwright.chromium.executable_path
    return path if Path(path).is_file() else None


def install() -> str:
    """Install a browser the way this platform offers. Raises SystemExit with the line to type."""
    attempts: list[list[str]] = []
    if shutil.which("apt-get") and hasattr(os, "geteuid") and os.geteuid() == 0:
        attempts.append(["apt-get", "update", "-qq"])
        attempts.append(["apt-get", "install", "-y", "-qq", "chromium"])
    attempts.append([sys.executable, "-m", "playwright", "install", "chromium"])
    for command in attempts:
        print("installing a browser for the tests:", " ".join(command), flush=True)
        subprocess.run(
            command, check=False, env={**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
        )
        if path := find():
            return path
    raise SystemExit(ADVICE)


if __name__ == "__main__":
    print("browser:", find() or install())
