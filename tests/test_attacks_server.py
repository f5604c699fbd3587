"""What hostile requests get from the running server, and what a browser makes of hostile words."""

# ruff: noqa: F401, F811, fixtures are imported by name and asked for by name

import http.client
import json
import urllib.parse
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, expect

from core.store import Store
from tests.browser_fixtures import PATIENCE, chromium, started, watch_page
from webapp.places import REPOSITORY

pytestmark = [pytest.mark.slow, pytest.mark.browser]

BOUNDARY = "seedproof"
FORM = f"multipart/form-data; boundary={BOUNDARY}"


@dataclass(frozen=True)
class Target:
    url: str
    database: Path

    def ask(
        self, method: str, path: str, body: bytes = b"", kind: str = ""
    ) -> tuple[int, dict[str, str], bytes]:
        """The path goes out as it stands: nothing tidies its dots away."""
        connection = http.client.HTTPConnection(urllib.parse.urlparse(self.url).netloc, timeout=60)
        headers = {"Content-Type": kind} if kind else {}
        connection.request(method, path, body, headers)
        answer = connection.getresponse()
        data = answer.read()
        connection.close()
        return answer.status, {n.lower(): v for n, v in answer.getheaders()}, data

    def upload(self, name: str, data: bytes) -> str:
        """Where the server says that it put the file."""
        body = _part(name, data)
        status, _, answer = self.ask("POST", "/gradio_api/upload", body, FORM)
        assert status == 200, answer
        (path,) = json.loads(answer)
        return str(path)

    def event(self, element: str, name: str, data: list[Any]) -> str:
        """All that the server says to one event of the page's own, sent by hand."""
        _, _, page = self.ask("GET", "/config")
        config = json.loads(page)
        ids = {one["props"].get("elem_id"): one["id"] for one in config["components"]}
        which = next(
            one["id"]
            for one in config["dependencies"]
            if [ids[element], name] in [list(target) for target in one["targets"]]
        )
        sent = {"data": data, "fn_index": which, "session_hash": "attacker"}
        body = json.dumps(sent).encode()
        status, _, answer = self.ask("POST", "/gradio_api/queue/join", body, "application/json")
        if status != 200:
            return answer.decode()
        connection = http.client.HTTPConnection(urllib.parse.urlparse(self.url).netloc, timeout=60)
        connection.request("GET", "/gradio_api/queue/data?session_hash=attacker")
        said = connection.getresponse().read().decode()
        connection.close()
        return said


def _part(name: str, data: bytes) -> bytes:
    head = f'Content-Disposition: form-data; name="files"; filename="{name}"'
    return f"--{BOUNDARY}\r\n{head}\r\n\r\n".encode() + data + f"\r\n--{BOUNDARY}--\r\n".encode()


@pytest.fixture(scope="module")
def target(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Target]:
    folder = tmp_path_factory.mktemp("attacked")
    database = folder / "seedproof.db"
    with Store(database) as store:
        store.add_audit("SECRET-NAME", plan={}, platform={}, model={})
        store.pictures.mkdir()
        (store.pictures / "outside.png").symlink_to(database)
    (folder / "secret.txt").write_text("SECRET-TEXT")
    with started(database, attacked=True) as url:
        yield Target(url, database)


@pytest.mark.parametrize(
    "path",
    [
        "/gradio_api/file={database}",
        "/gradio_api/file={folder}/secret.txt",
        "/gradio_api/file={folder}/pictures/../secret.txt",
        "/gradio_api/file={folder}/pictures/%2e%2e/secret.txt",
        "/gradio_api/file={folder}/pictures/%252e%252e/secret.txt",
        "/gradio_api/file={folder}/pictures/..%2fsecret.txt",
        "/gradio_api/file={folder}/pictures%00/../secret.txt",
        "/gradio_api/file={folder}/pictures-of-another/../secret.txt",
        "/gradio_api/file={folder}/pictures/outside.png",
        "/gradio_api/file=file://{folder}/secret.txt",
        "/gradio_api/file=/etc/passwd",
        "/gradio_api/file=../../../../../../etc/passwd",
        "/gradio_api/file={repository}/pyproject.toml",
        "/file={folder}/secret.txt",
        "/static/../../../../../../etc/passwd",
        "/assets/..%2f..%2f..%2f..%2fetc/passwd",
        "/theme.css/../../../etc/passwd",
        "/gradio_api/upload_progress?upload_id=../../etc/passwd",
        "/audit/../../../../etc/passwd",
    ],
)
def test_no_address_leads_out_of_the_pictures(target: Target, path: str) -> None:
    folder = target.database.parent
    status, _, data = target.ask(
        "GET", path.format(folder=folder, database=target.database, repository=REPOSITORY)
    )
    assert status != 200 or b"<!doctype html" in data[:200].lower()
    for secret in (b"SECRET", b"root:", b"SQLite format", b"[project]", b"Traceback"):
        assert secret not in data


@pytest.mark.parametrize(
    "name", ["../../escaped.png", "..\\..\\escaped.png", "/etc/escaped.png", "a/../../escaped.png"]
)
def test_an_uploads_name_leads_it_nowhere(target: Target, name: str) -> None:
    before = set(target.database.parent.rglob("*"))
    put = Path(target.upload(name, b"not a picture"))
    assert put.parent.parent.name == "gradio"
    assert put.name.endswith("escaped.png")
    assert ".." not in put.parts
    assert set(target.database.parent.rglob("*")) == before


@pytest.mark.parametrize("name", ["page.html", "picture.svg", "page.xhtml", "script.js"])
def test_an_upload_is_never_a_page_of_ours(target: Target, name: str) -> None:
    """Else it could act for whoever opens its address."""
    put = target.upload(name, b"<svg xmlns='http://www.w3.org/2000/svg' onload='alert(1)'/>")
    status, headers, _ = target.ask("GET", f"/gradio_api/file={urllib.parse.quote(put)}")
    assert status in (403, 404) or headers.get("content-disposition", "").startswith("attachment")


def test_an_oversized_upload_is_refused(target: Target) -> None:
    body = _part("large.png", bytes(65 * 10**6))
    status, _, data = target.ask("POST", "/gradio_api/upload", body, FORM)
    assert status == 413
    assert b"Traceback" not in data


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (b"", FORM),
        (b"--wrong\r\n\r\n--wrong--", FORM),
        (b"--" + BOUNDARY.encode() + b"\r\nContent-Disposition: form-data\r\n\r\n", FORM),
        (b"x", "multipart/form-data"),
        (b"{}", "application/json"),
        (b"\0" * 1000, "application/octet-stream"),
    ],
)
def test_a_malformed_upload_is_refused_and_the_server_goes_on(
    target: Target, body: bytes, kind: str
) -> None:
    status, _, data = target.ask("POST", "/gradio_api/upload", body, kind)
    assert 400 <= status < 600 or data == b"[]"
    assert b"Traceback" not in data
    assert target.ask("GET", "/healthz")[0] == 200


@pytest.mark.parametrize("element", ["take"])
@pytest.mark.parametrize(
    "path",
    ["/etc/passwd", "{database}", "{folder}/pictures/outside.png", "../secret.txt", "\0", ""],
)
def test_an_event_names_only_files_that_were_uploaded(
    target: Target, element: str, path: str
) -> None:
    named = path.format(database=target.database, folder=target.database.parent)
    file = {"path": named, "orig_name": "a.png", "meta": {"_type": "gradio.FileData"}}
    said = target.event(element, "upload", [file])
    assert "SECRET" not in said
    assert "root:" not in said
    assert "settings of" not in said
    assert '"success":true' not in said.replace(" ", "") or "not a whole PNG" in said


def test_words_from_outside_are_never_a_template(
    target: Target, chromium: Browser, tmp_path: Path
) -> None:
    """Gradio builds its HTML components from templates: what is filled in must not be one."""
    evil = (
        "${window.pwned=1} {{#with window}}{{pwned}}{{/with}} "
        '"><img src=x onerror="window.pwned=2"><script>window.pwned=3</script>'
    )
    context = chromium.new_context()
    visit = watch_page(context.new_page())
    page = visit.page
    page.goto(target.url)
    page.locator("#prompt textarea").fill(evil)
    page.get_by_role("button", name="Seed, size and steps").click()
    page.locator("#prompt-syntax input").click()
    page.get_by_role("option", name="plain").click()
    page.locator("#steps input[type=number]").fill("1")
    page.locator("#generate").click()
    picture = page.locator("#stage img")
    expect(page.locator("#stage a[download]")).to_be_visible(timeout=PATIENCE)
    assert "${window.pwned=1}" in (picture.get_attribute("alt") or "")
    with page.expect_download() as downloading:
        page.locator("#stage a[download]").first.click()
    file = tmp_path / "evil.png"
    downloading.value.save_as(file)
    page.get_by_role("link", name="History", exact=True).click()
    expect(page.locator("#wall")).to_contain_text("${window.pwned=1}", timeout=PATIENCE)
    page.goto(target.url + "verify")
    page.locator("#upload input[type=file]").set_input_files(file)
    expect(page.locator("#receipt")).to_contain_text("${window.pwned=1}", timeout=PATIENCE)
    page.goto(target.url + "?run=" + urllib.parse.quote(evil))
    expect(page.locator("#stage")).to_contain_text("There is no such picture", timeout=PATIENCE)
    assert page.evaluate("window.pwned") is None
    assert visit.hosts <= {"127.0.0.1"}
    context.close()
