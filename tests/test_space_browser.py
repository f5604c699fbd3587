"""A Space as far as one can be had without one: what it would install, its variables, its frame.

`make space` runs this. Installing takes most of the time: about a minute alone on two cores from a
near index. The pinned torch is what keeps it from being several gigabytes on a machine that has the
CPU build at hand.
"""

import json
import os
import re
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest
from huggingface_hub import SpaceCard
from playwright.sync_api import expect, sync_playwright

from tests.browser import ADVICE, ARGUMENTS, find
from tests.browser_fixtures import PATIENCE, free_port, wait_for, watch_page
from webapp.places import REPOSITORY
from webapp.space_folder import assemble

pytestmark = [pytest.mark.space, pytest.mark.timeout(1800)]

VARIABLES = {
    "SYSTEM": "spaces",
    "SPACE_ID": "somebody/seedproof",
    "SPACE_HOST": "somebody-seedproof.hf.space",
    "SPACE_AUTHOR_NAME": "somebody",
    "SPACE_REPO_NAME": "seedproof",
    "ACCELERATOR": "none",
    "CPU_CORES": "1500m",
    "OMP_NUM_THREADS": "1500m",
    "MEMORY": "16Gi",
    "GRADIO_SERVER_NAME": "0.0.0.0",
}
SANDBOX = (
    "allow-downloads allow-forms allow-modals allow-pointer-lock allow-popups "
    "allow-popups-to-escape-sandbox allow-same-origin allow-scripts"
)
NO_STORAGE = """
Object.defineProperty(window, "localStorage", {
  get() { throw new DOMException("denied", "SecurityError"); },
});
"""
"""As in browsers that let another site's frame keep nothing at all."""

LEFT_LOOP = re.compile(
    r"Exception ignored in: <function BaseEventLoop.__del__.*?Invalid file descriptor: -1\n", re.S
)
"""Gradio makes event loops that it never closes; collected after their sockets, they complain."""


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The files of a Space, in a folder that is no checkout."""
    return assemble(tmp_path_factory.mktemp("space") / "app").path


@pytest.fixture(scope="module")
def python(tree: Path) -> Path:
    """A new environment with what a Space installs, at our pins, and nothing of ours."""
    environment = tree.parent / "venv"
    subprocess.run([sys.executable, "-m", "venv", str(environment)], check=True)
    made = environment / "bin" / "python"
    pip = [str(made), "-m", "pip", "--disable-pip-version-check"]
    gradio = SpaceCard((tree / "README.md").read_text("utf-8")).data.sdk_version
    pinned = ["-c", str(REPOSITORY / "constraints.txt")]
    wanted = ["-r", str(tree / "requirements.txt")]
    # A Space adds these to what is asked for.
    added = [f"gradio[oauth]=={gradio}", "uvicorn", "spaces"]
    for command in (["install", "--quiet", *pinned, *wanted, *added], ["check"]):
        ended = subprocess.run([*pip, *command], capture_output=True, text=True)
        assert ended.returncode == 0, ended.stdout + ended.stderr
    return made


@pytest.fixture(scope="module")
def address(tree: Path, python: Path) -> Iterator[str]:
    """The app, started by its file from a folder that has nothing to do with it."""
    port, log = free_port(), tree.parent / "log"
    elsewhere = tree.parent / "elsewhere"
    elsewhere.mkdir()
    inherited = {name: os.environ[name] for name in ("PATH", "LANG") if name in os.environ}
    home = {"HOME": str(elsewhere), "GRADIO_SERVER_PORT": str(port)}
    with log.open("w") as output:
        process = subprocess.Popen(
            [str(python), str(tree / "webapp" / "space.py")],
            cwd=elsewhere,
            env={**inherited, **VARIABLES, **home},
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    url = f"http://127.0.0.1:{port}/"
    try:
        wait_for(url, process, log)
        yield url
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(60)
    text = LEFT_LOOP.sub("", log.read_text())
    assert "Traceback" not in text, text


@pytest.fixture(scope="module")
def outside(address: str, tree: Path) -> Iterator[str]:
    """A page of another site (`localhost` is none of 127.0.0.1's) with the app in its frame."""
    folder = tree.parent / "outside"
    folder.mkdir()
    frame = f'<iframe src="{address}" sandbox="{SANDBOX}" width="1200" height="800"></iframe>'
    (folder / "index.html").write_text(f"<!doctype html><title>Hub</title>{frame}")
    (folder / "favicon.ico").write_bytes(b"")
    handler = partial(_Quiet, directory=str(folder))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        yield f"http://localhost:{server.server_port}/index.html"
        server.shutdown()
        thread.join()


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *words: object) -> None:
        pass


def test_a_picture_inside_another_sites_frame(outside: str, tmp_path: Path) -> None:
    executable = find()
    if executable is None:
        pytest.fail(ADVICE)
    profile = tmp_path / "profile"
    (profile / "Default").mkdir(parents=True)
    blocked = {"profile": {"block_third_party_cookies": True, "cookie_controls_mode": 1}}
    (profile / "Default" / "Preferences").write_text(json.dumps(blocked))
    with sync_playwright() as playwright:
        context = playwright.chromium.launch_persistent_context(
            profile, executable_path=executable, args=ARGUMENTS
        )
        context.add_init_script(NO_STORAGE)
        visit = watch_page(context.new_page())
        page = visit.page
        page.goto(outside)
        frame = page.frame_locator("iframe")
        expect(frame.locator("#notice")).to_have_text(
            "The Space somebody/seedproof is shared by everybody who visits. "
            "Its disk is emptied at every restart: download what you want to keep.",
            timeout=PATIENCE,
        )
        expect(frame.locator(".sp-foot")).to_contain_text("1 thread ·")
        cookie = 'document.cookie = "a=1; SameSite=None; Secure", document.cookie'
        assert page.frames[1].evaluate(cookie) == ""
        frame.get_by_role("button", name="a panda").click()
        frame.locator("#generate").click()
        picture = frame.locator("#stage img")
        expect(frame.locator("#stage a[download]")).to_be_visible(timeout=PATIENCE)
        assert picture.evaluate("image => image.decode().then(() => image.naturalWidth)") == 128
        frame.locator(".sp-theme").click()
        expect(frame.locator("body.dark")).to_be_visible()
        frame.get_by_role("link", name="Audit", exact=True).click()
        expect(frame.locator("#promise b")).to_be_visible(timeout=PATIENCE)
        offered = frame.locator("#plan label").all_inner_texts()
        context.close()
    assert [name.strip() for name in offered] == ["smoke", "quick"]
    assert visit.hosts <= {"127.0.0.1", "localhost"}
    assert not visit.trouble


def test_strangers_find_no_api_no_traces_and_no_room_for_large_files(address: str) -> None:
    boundary = "seedproof"
    large = (
        f'--{boundary}\r\nContent-Disposition: form-data; name="files"; filename="a.png"\r\n\r\n'
    ).encode() + bytes(21 * 2**20)
    large += f"\r\n--{boundary}--\r\n".encode()
    form = f"multipart/form-data; boundary={boundary}"
    for path, data, kind, codes in (
        ("gradio_api/run/_generate", b'{"data": []}', "application/json", {404}),
        ("gradio_api/queue/join", b"{", "application/json", {422}),
        ("gradio_api/queue/join", b'{"fn_index": 0}', "application/json", {400, 404, 422}),
        ("gradio_api/upload", large, form, {413}),
    ):
        asked = urllib.request.Request(address + path, data, headers={"Content-Type": kind})
        with pytest.raises(urllib.error.HTTPError) as refused:
            urllib.request.urlopen(asked, timeout=60)
        assert refused.value.code in codes, path
        assert b"Traceback" not in refused.value.read()
        refused.value.close()
