"""Behind a real nginx, below a path, as the README says: pages, files, uploads, events."""

# ruff: noqa: F401, F811, fixtures are imported by name and asked for by name

import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote

import httpx
import pytest
from gradio_client import Client
from playwright.sync_api import expect

from tests.browser_fixtures import Visit, chromium, free_port, visit, wait_for
from tests.test_browser import generate, open_page, set_steps
from tests.test_rest import ANN, BOB
from tests.test_shutdown import Process
from webapp.places import REPOSITORY

pytestmark = [pytest.mark.soak, pytest.mark.browser, pytest.mark.timeout(900)]

PATH = "/seedproof"
ADVICE = "nginx is not installed: type `apt-get install nginx-light`, or your system's own line."


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Where nginx shows the app."""
    program = shutil.which("nginx", path=os.environ["PATH"] + ":/usr/sbin")
    if program is None:
        pytest.fail(ADVICE)
    folder = tmp_path_factory.mktemp("nginx")
    server = Process(folder, "--root-path", PATH)
    port, log = free_port(), folder / "nginx.log"
    readme = (REPOSITORY / "README.md").read_text("utf-8")
    example = readme.split("```nginx\n")[1].split("```")[0]
    assert "http://127.0.0.1:7860/" in example
    locations = example.replace(":7860/", f":{server.port}/")
    (folder / "nginx.conf").write_text(
        # Started by root nginx would become somebody else, who may not write here.
        f"{'user root; ' if os.geteuid() == 0 else ''}daemon off;\n"
        f"pid {folder}/nginx.pid; error_log {log};\n"
        "events {}\n"
        "http {\n"
        f"  access_log off; client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy;\n"
        f"  fastcgi_temp_path {folder}/f; uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s;\n"
        f"  server {{ listen 127.0.0.1:{port};\n{locations}}}\n"
        "}\n"
    )
    command = [program, "-e", str(log), "-p", str(folder), "-c", str(folder / "nginx.conf")]
    nginx = subprocess.Popen(command)
    try:
        url = f"http://127.0.0.1:{port}{PATH}/"
        wait_for(url, nginx, log)
        yield url
    finally:
        nginx.send_signal(signal.SIGTERM)
        nginx.wait(30)
        server.end()
    assert "Traceback" not in server.text


def test_a_browser_works_below_the_path(shown: str, visit: Visit, tmp_path: Path) -> None:
    page = open_page(visit, shown)
    refused: list[str] = []
    page.on(
        "response",
        lambda answer: (
            refused.append(f"{answer.status} {answer.url}") if answer.status >= 400 else None
        ),
    )
    set_steps(page, 4)
    picture = generate(page)
    assert page.url.startswith(f"{shown}?run=")
    expect(picture).to_be_visible()
    assert picture.evaluate("image => image.naturalWidth") == 128
    source = picture.get_attribute("src") or ""
    link = picture.evaluate("image => image.src")
    assert link.startswith(shown)
    file = Path(unquote(source.partition("file=")[2]))
    for name in ("Audit", "Recommend", "Verify", "History"):
        page.locator(".sp-bar nav").get_by_role("link", name=name).click()
        page.wait_for_url(f"{shown}{name.lower()}*")
        expect(page.locator(".sp-bar nav a[aria-current=page]")).to_have_text(name)
    expect(page.locator(".sp-shot img").first).to_be_visible()
    page.goto(f"{shown}verify")
    with page.expect_response(lambda answer: "/gradio_api/upload" in answer.url) as sent:
        page.locator("#upload input[type=file]").set_input_files(file)
    assert sent.value.ok
    assert sent.value.url.startswith(shown)
    expect(page.locator(".sp-receipt img")).to_be_visible()
    assert refused == []


def test_without_its_last_slash_the_address_is_found(shown: str) -> None:
    answer = httpx.get(shown.rstrip("/"))
    assert (answer.status_code, answer.headers["location"]) == (301, shown)


def test_programs_work_below_the_path(shown: str, tmp_path: Path) -> None:
    headers = {"Authorization": f"Bearer {ANN}", "Accept-Encoding": "br, gzip"}
    asked = {"prompt": "a red apple", "num_inference_steps": 40}
    with httpx.Client(base_url=shown, headers=headers, timeout=120) as http:
        job = http.post("api/v1/jobs", json=asked).json()
        came, steps = [], []
        with http.stream("GET", f"api/v1/jobs/{job['id']}/events") as stream:
            for line in stream.iter_lines():
                if line.startswith("data:"):
                    told = json.loads(line.removeprefix("data:"))
                    came.append(time.monotonic())
                    steps.append(told["step"])
        assert told["state"] == "ok"
        assert len(set(steps)) > 3
        assert came[-1] - came[0] > told["seconds"]["denoise"] / 2, "they came all at once"
        origin = shown.removesuffix(f"{PATH}/")
        picture = http.get(origin + told["images"][0]["url"])
        assert picture.content.startswith(b"\x89PNG")
        assert http.get("api/v1/openapi.json").json()["servers"] == [{"url": f"{PATH}/api/v1"}]
    client = Client(
        shown,
        headers={"Authorization": f"Bearer {BOB}"},
        download_files=tmp_path,
        verbose=False,
        analytics_enabled=False,
    )
    done = client.predict(prompt="a panda", num_inference_steps=4, api_name="/generate")
    assert done["state"] == "ok"
    assert Path(done["files"][0]).read_bytes().startswith(b"\x89PNG")
