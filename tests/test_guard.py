"""A server with accounts, attacked: the real pages behind real sockets, with a fake engine.

What Gradio 6.31 does without the guard, as read and tried here:

- `/gradio_api/file=` serves pictures and anybody's uploads to whoever knows the path, and fetches
  any public address of the internet for whoever asks (that was only read).
- `/gradio_api/queue/data` gives a session's events to whoever knows its hash, which a browser draws
  with `Math.random`, and takes them away from whoever they are for; `cancel` and `heartbeat` need
  nothing but the hash under any login of Gradio's own.
- Except on localhost it allows every origin to read its answers, with cookies (that was only read).
- An event may name any uploaded file as its input, whoever uploaded it, and is given its contents.
- `/gradio_api/upload` names a file by a digest of its bytes: equal files are one file.
"""

import io
import json
import re
import threading
import uuid
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import quote

import gradio as gr
import httpx
import pytest
from PIL import Image
from starlette.applications import Starlette
from starlette.testclient import TestClient

from audit.twin import Twin
from core import thumbnail
from core.grid import grid
from core.grid_axis import parsed
from core.optimizations import configure
from core.request import Job, Request, Watch
from core.run import Run
from core.store import Store
from core.styles import Style
from tests.browser_fixtures import free_port
from tests.fake_engine import PLATFORM, FakeEngine, FakeWorkers
from tests.test_accounts import write
from tests.test_jobs import until
from tests.test_pages import POCKET
from tests.test_pages import made as in_a_loop
from webapp.accounts import Accounts
from webapp.app import build
from webapp.audits import Audits
from webapp.findings import Findings
from webapp.grids import Grids
from webapp.guard import OPEN, Guard, Rules
from webapp.identity import ProxyHeader, network
from webapp.jobs import JobQueue
from webapp.limits import Limits
from webapp.login import Login
from webapp.places import REPOSITORY
from webapp.policy import Policy
from webapp.server import open_doors
from webapp.services import Services
from webapp.sessions import COOKIE, Sessions
from webapp.visitors import owner as visitor_owner

FORM = "/gradio_api/queue/join"
# Gradio's own count of its events reads a pandas option that pandas has deprecated.
pytestmark = pytest.mark.filterwarnings("ignore:'future.no_silent:DeprecationWarning")
PAGE = {"accept": "text/html,*/*"}
"""As a browser asks for a page."""
PASSWORDS = {"ann": "correct horse", "ben": "battery staple", "cat": "curiosity 9"}
EVIL = '<img src=x onerror="alert(1)">'


class Gated(FakeEngine):
    """A fake engine that a test can hold back."""

    def __init__(self, pictures: Path) -> None:
        super().__init__(pictures=pictures)
        self.open = threading.Event()
        self.open.set()

    def run(self, job: Job, watch: Watch) -> Run:
        while not self.open.wait(0.02):
            if watch.cancelled():
                break
        return super().run(job, watch)


@dataclass(frozen=True)
class Server:
    url: str
    services: Services
    engine: Gated
    login: Login
    app: gr.Blocks
    routes: list[Any]

    def client(self, name: str | None = None) -> httpx.Client:
        """A browser, signed in as this account."""
        made = httpx.Client(base_url=self.url, timeout=60)
        if name is not None:
            sent = {"name": name, "password": PASSWORDS[name], "place": ""}
            assert made.post("login", data=sent).status_code == 303
        return made


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("server")
    roles = {"ann": "admin", "ben": "user", "cat": "user"}
    file = write(folder / "accounts", *((n, roles[n], p) for n, p in PASSWORDS.items()))
    accounts = Accounts(file)
    sessions = Sessions(accounts)
    login = Login(accounts, sessions)
    limits = Limits(num_inference_steps=30)
    with Store(folder / "seedproof.db") as store:
        engine = Gated(store.pictures)
        jobs = JobQueue(
            engine,
            store.add_generation,
            admit=lambda job, owner, kept: limits.refuse(job, lambda: store.stored_bytes(owner)),
            closed=lambda ticket: grids.closed(ticket),
        )
        grids = Grids(store, jobs)
        audits = Audits(store, PLATFORM, FakeWorkers(pictures=store.pictures), jobs)
        reports = folder / "reports"
        reports.mkdir()
        services = Services(
            platform=PLATFORM,
            model=POCKET,
            store=store,
            jobs=jobs,
            grids=grids,
            audits=audits,
            findings=Findings(store),
            plans=REPOSITORY / "data" / "plans",
            reports=reports,
            policy=Policy(limits=limits),
            rules=Rules(identify=sessions, store=store, reports=reports, login=login),
        )
        app, port = in_a_loop(lambda: build(services), alone=False), free_port()
        in_a_loop(lambda: open_doors(app, services, host="127.0.0.1", port=port), alone=False)
        url = f"http://127.0.0.1:{port}/"
        yield Server(url, services, engine, login, app, list(routes(app.app)))
        engine.open.set()
        app.close(verbose=False)
        audits.close()
        jobs.close()


def routes(router: Any) -> Iterator[Any]:
    """Every route, those of included routers too."""
    for route in router.routes:
        if hasattr(route, "original_router"):
            yield from routes(route.original_router)
        elif hasattr(route, "methods"):
            yield route


@pytest.fixture(scope="module")
def people(server: Server) -> Iterator[dict[str, httpx.Client]]:
    """Everybody signed in, and a stranger."""
    known = {name: server.client(name) for name in PASSWORDS}
    known["stranger"] = server.client()
    yield known
    for client in known.values():
        client.close()


def made(server: Server, owner: str, prompt: str = "a secret panda") -> Run:
    """A stored picture of somebody."""
    asked = Request(prompt=prompt, model=POCKET, num_inference_steps=2, width=64, height=64)
    job = Job(id=uuid.uuid4().hex, requests=(asked,), configuration=configure({}, PLATFORM))
    run = FakeEngine(pictures=server.services.store.pictures).run(
        job, type("Nobody", (), {"on_step": print, "cancelled": lambda self: False})()
    )
    server.services.store.add_generation(run, owner)
    return run


def path_of(run: Run) -> Path:
    path = run.pictures[0].path
    assert path is not None
    return path


def file_url(path: object) -> str:
    return f"gradio_api/file={quote(str(path))}"


def event(server: Server, method: str) -> int:
    """Gradio's number of the event that a method of a page answers."""
    found = [
        number
        for number, one in server.app.fns.items()
        if getattr(one.fn, "__qualname__", "").endswith(method)
    ]
    return found[0]


def call(
    server: Server, client: httpx.Client, method: str, data: list[Any], query: str = "", **more: Any
) -> list[Any]:
    """What an event answers, by Gradio's own protocol: asked for, then read from the stream."""
    session = uuid.uuid4().hex
    body = {"data": data, "fn_index": event(server, method), "session_hash": session, **more}
    asked = client.post(f"gradio_api/queue/join{query}", json=body)
    assert asked.status_code == 200, asked.text
    outputs: list[Any] = []
    with client.stream("GET", f"gradio_api/queue/data?session_hash={session}") as stream:
        for line in stream.iter_lines():
            if line.startswith("data:"):
                message = json.loads(line[5:])
                if message["msg"] in ("process_generating", "process_completed"):
                    outputs.append(message["output"])
                if message["msg"] in ("process_completed", "close_stream"):
                    return outputs
    return outputs


# Strangers


def test_a_stranger_gets_in_nowhere(server: Server, people: dict[str, httpx.Client]) -> None:
    """Every address that the app has, with something in place of its parameters."""
    stranger, tried = people["stranger"], 0
    for route in server.routes:
        path = "".join("x" if part.startswith("{") else part for part in _parts(route.path)).lstrip(
            "/"
        )
        if f"/{path}" in OPEN or path in ("login", "logout"):
            continue
        for method in route.methods:
            answer = stranger.request(method, path, json={"session_hash": "x", "data": []})
            place = answer.headers.get("location", "")
            signs_in = answer.status_code == 303 and place.startswith("./login")
            assert answer.status_code == 401 or signs_in, (method, path, answer.status_code)
            tried += 1
    assert tried > 60


def _parts(path: str) -> list[str]:
    return path.replace("{", "\0{").replace("}", "}\0").split("\0")


def test_health_needs_no_account(server: Server, people: dict[str, httpx.Client]) -> None:
    for path in ("healthz", "readyz"):
        assert people["stranger"].get(path).status_code == 200


def test_a_page_leads_to_the_login_and_back(people: dict[str, httpx.Client]) -> None:
    answer = people["stranger"].get("audit?run=ab12", headers=PAGE)
    assert answer.status_code == 303
    form = people["stranger"].get(answer.headers["location"])
    assert 'value="audit?run=ab12"' in form.text
    assert "frame-ancestors 'none'" in form.headers["content-security-policy"]
    evil = people["stranger"].get("login?place=%22%3E%3Cscript%3E")
    assert "<script>" not in evil.text.replace("<script nonce", "")


# Signing in and out


def test_signing_in_and_out(server: Server) -> None:
    with server.client() as client:
        client.cookies.set(COOKIE, "planted")
        sent = {"name": " Ben ", "password": PASSWORDS["ben"], "place": "//evil.example"}
        answer = client.post("login", data=sent)
        assert (answer.status_code, answer.headers["location"]) == (303, "./")
        cookie = answer.headers["set-cookie"]
        assert "HttpOnly" in cookie
        assert "SameSite=lax" in cookie
        assert "planted" not in cookie
        client.cookies.clear()
        token = answer.cookies[COOKIE]
        signed = {"cookie": f"{COOKIE}={token}"}
        told = client.get("account", headers=signed).json()
        assert told == {"name": "ben", "role": "user", "leave": True}
        assert client.get("logout", headers=signed).headers["location"] == "./"
        assert client.get("account", headers=signed).status_code == 200
        assert client.post("logout", headers=signed).headers["location"] == "./login"
        assert client.get("account", headers=signed).status_code == 401


@pytest.mark.parametrize(
    "headers",
    [
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site"},
        {"origin": "https://evil.example"},
        {"origin": "null"},
    ],
)
def test_no_other_site_signs_in_or_acts_for_anybody(
    server: Server, people: dict[str, httpx.Client], headers: dict[str, str]
) -> None:
    sent = {"name": "ben", "password": PASSWORDS["ben"]}
    for path in ("login", "logout", "gradio_api/queue/join", "gradio_api/upload"):
        answer = people["ben"].post(path, data=sent, headers=headers)
        assert answer.status_code == 403, path
        assert "another site" in answer.json()["detail"]
    assert people["ben"].get("account").status_code == 200
    picture = file_url(path_of(made(server, "account:ben", "a panda from elsewhere")))
    for path in ("account", picture, "config"):
        assert people["ben"].get(path, headers=headers).status_code == 403, path
    followed = {"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate"}
    assert people["ben"].get(picture, headers=followed).status_code == 200
    assert people["ben"].post("logout", headers=followed).status_code == 403
    assert people["ben"].get("", headers=followed).headers["x-frame-options"] == "SAMEORIGIN"
    own = {"origin": server.url.rstrip("/")}
    with server.client() as client:
        assert client.post("login", data=sent, headers=own).status_code == 303


def test_guessing_ends_with_a_sentence(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server.login.attempts, "_tries", OrderedDict())
    with server.client() as client:
        for number in range(10):
            answer = client.post("login", data={"name": "ann", "password": f"guess {number}"})
            assert answer.status_code == 401
            assert "do not belong together" in answer.text
        right = client.post("login", data={"name": "ann", "password": PASSWORDS["ann"]})
        assert right.status_code == 429
        assert "Too many tries. Wait 15 minutes" in right.text
        assert int(right.headers["retry-after"]) > 800
        assert "set-cookie" not in right.headers


def test_a_form_that_is_too_long_is_not_read(server: Server) -> None:
    with server.client() as client:
        answer = client.post("login", data={"name": "x" * 30_000, "password": "x"})
    assert answer.status_code == 413


def test_behind_a_proxy_a_name_is_its_own_word_only(server: Server) -> None:
    trusted = (network("10.0.0.0/8"),)
    proxy = ProxyHeader(header="X-Forwarded-User", trusted=trusted, admins=frozenset({"ann"}))
    rules = replace(server.services.rules, identify=proxy, login=None)  # type: ignore[type-var]
    ann = {"x-forwarded-user": "ann"}

    def client(host: str) -> TestClient:
        return TestClient(Guard(Starlette(), rules), client=(host, 4000))  # type: ignore[arg-type]

    told = client("10.0.0.5").get("/account", headers=ann).json()
    assert told == {"name": "ann", "role": "admin", "leave": False}
    for host, headers in (("127.0.0.1", ann), ("10.0.0.5", {})):
        refused = client(host).get("/", headers={**headers, **PAGE})
        assert refused.status_code == 401
        assert "reached through its proxy" in refused.text
        # What Gradio asks itself when it starts, and must not be a 403.
        assert client(host).head("/", headers=headers).status_code == 401


def test_over_https_the_cookie_goes_nowhere_else(server: Server) -> None:
    guard = Guard(Starlette(), server.services.rules)  # type: ignore[arg-type]
    sent = {"name": "ben", "password": PASSWORDS["ben"]}
    with TestClient(guard, base_url="https://seedproof.example", follow_redirects=False) as client:
        cookie = client.post("/login", data=sent).headers["set-cookie"]
    assert "; Secure" in cookie


# Files


def test_a_picture_is_its_owners_and_an_admins(
    server: Server, people: dict[str, httpx.Client]
) -> None:
    picture = path_of(made(server, "account:ben"))
    found = {name: client.get(file_url(picture)) for name, client in people.items()}
    seen = {name: answer.status_code for name, answer in found.items()}
    assert seen == {"ben": 200, "ann": 200, "cat": 404, "stranger": 401}
    assert found["ben"].content == picture.read_bytes()
    assert found["ben"].headers["cache-control"] == "private, no-cache"
    other = path_of(made(server, visitor_owner("5" * 32), "a visitor's panda"))
    assert people["cat"].get(file_url(other)).status_code == 404
    assert people["ann"].get(file_url(other)).status_code == 200


def test_a_shared_picture_is_for_every_account_with_its_thumbnail_and_its_twin(
    server: Server, people: dict[str, httpx.Client]
) -> None:
    store = server.services.store
    run, twin = made(server, "account:ben", "a panda to share"), made(server, "", "its twin")
    store.add_twin(run.job.id, Twin(baseline="", reason="a test"), twin)
    small = thumbnail.place(path_of(run))
    small.parent.mkdir(exist_ok=True)
    small.write_bytes(b"a thumbnail")
    files = (path_of(run), path_of(twin), small)

    def seen(name: str) -> list[int]:
        return [people[name].get(file_url(file)).status_code for file in files]

    assert seen("cat") == [404, 404, 404]
    assert seen("ben") == seen("ann") == [200, 200, 200]
    assert seen("stranger") == [401, 401, 401]
    assert store.share(run.job.id, "account:ben", True)
    assert seen("cat") == [200, 200, 200]
    assert seen("stranger") == [401, 401, 401]
    assert store.share(run.job.id, "account:ben", False)
    assert seen("cat") == [404, 404, 404]


def test_a_shared_address_opens_on_every_page_and_changes_nothing(
    server: Server, people: dict[str, httpx.Client]
) -> None:
    store, run = server.services.store, made(server, "account:ben", "a panda by its address")
    number = run.job.id
    secret = "5" * 32

    def opened(name: str) -> tuple[str, str, str, str]:
        def answer(page: str, query: str) -> str:
            outputs = call(server, people[name], f"{page}._opened", [secret], query)
            return json.dumps(outputs, ensure_ascii=False)

        return (
            answer("GeneratePage", f"?run={number}"),
            answer("HistoryPage", f"?picture={number}"),
            answer("ComparePage", f"?a={number}&b={number}"),
            answer("VerifyPage", f"?run={number}"),
        )

    name = path_of(run).name
    assert all(name not in answer for answer in opened("cat"))
    for who in ("ben", "ann"):
        generated, card, compared, _ = opened(who)
        assert name in generated
        assert name in card
        assert name in compared
    assert "you see it as an admin" in opened("ann")[1]
    store.share(number, "account:ben", True)
    generated, card, compared, _ = opened("cat")
    assert name in generated
    assert name in card
    assert name in compared
    assert "Shared with you" in card
    assert "data-share" not in card


def test_what_one_keeps_and_downloads_is_ones_own(
    server: Server, people: dict[str, httpx.Client]
) -> None:
    """Presets, grids and archives belong to the account, whatever secret a browser sends."""
    store, secret = server.services.store, "5" * 32
    store.save_styles([Style(name="ben's ink", prompt="ink")], "account:ben")
    listed = {
        name: json.dumps(call(server, people[name], "PresetsForm._listed", [secret]))
        for name in ("ben", "cat")
    }
    assert "ben's ink" in listed["ben"]
    assert "ben's ink" not in listed["cat"]
    asked = Request(prompt="a grid", model=POCKET, num_inference_steps=2, width=64, height=64)
    plan = grid(asked, {}, (parsed("seed=1-2"),), PLATFORM)
    grid_id = server.services.grids.start(plan, "grid of ben", "account:ben")
    assert server.services.jobs.wait_until_idle(30)
    shown = json.dumps(
        call(server, people["ben"], "GridPage._opened", [secret], f"?grid={grid_id}")
    )
    assert "grid of ben" in shown
    others = call(server, people["cat"], "GridPage._opened", [secret], f"?grid={grid_id}")
    assert "no such grid of yours" in json.dumps(others)
    offers = re.findall(r'"path": "([^"]+\.(?:png|json))"', shown)
    assert {Path(one).suffix for one in offers} == {".png", ".json"}
    for offer in offers:
        codes = [people[name].get(file_url(offer)).status_code for name in ("ben", "cat", "ann")]
        assert codes == [200, 404, 404], offer


def test_a_grid_obeys_the_limits_in_one_sentence(
    server: Server, people: dict[str, httpx.Client]
) -> None:
    form = ["", "a grid too long", "7", 31, "attention", "", "", "sdp, none", "", "", "first"]
    before = len(server.services.store.grids("account:cat"))
    outputs = call(server, people["cat"], "GridPage._made", [*form, "5" * 32])
    assert "at most 30 steps, not 31" in json.dumps(outputs)
    assert len(server.services.store.grids("account:cat")) == before


def test_an_audits_pictures_are_for_every_account(
    server: Server, people: dict[str, httpx.Client]
) -> None:
    run = made(server, "account:ben", "a prompt of a plan")
    assert people["cat"].get(file_url(path_of(run))).status_code == 404
    store = server.services.store
    audit_id = store.add_audit("test", plan=POCKET, platform=PLATFORM, model=POCKET)
    store.add_run(audit_id, "one", run)
    assert people["cat"].get(file_url(path_of(run))).status_code == 200


def test_no_other_way_to_write_a_path_opens_it(
    server: Server, people: dict[str, httpx.Client], tmp_path: Path
) -> None:
    picture = path_of(made(server, "account:ben", "a panda elsewhere"))
    database = server.services.store.path
    link = tmp_path / "link.png"
    link.symlink_to(picture)
    whole, folder = quote(str(picture)), quote(str(picture.parent))
    for name in ("cat", "stranger"):
        for written in (
            f"gradio_api/file={folder}/../pictures/{picture.name}",
            f"gradio_api/file={folder}/./{picture.name}",
            f"gradio_api/file=/{whole}",
            f"gradio_api/file={whole.replace('/', '%2F')}",
            f"gradio_api/file={whole.replace('/', '%252F')}",
            f"gradio_api/file={folder}/x/%2e%2e/{picture.name}",
            f"gradio_api/file={link}",
            f"gradio_api/file/{whole}",
            f"gradio_api//file={whole}",
            f"/gradio_api/file={whole}",
            f"gradio_api/file=file://{whole}",
            f"gradio_api/proxy={whole}",
            f"gradio_api/file={whole}%00.png",
            "gradio_api/file=/etc/passwd",
            "gradio_api/file=http://example.com/",
            file_url(database),
            file_url(database.parent / "accounts"),
            file_url(database.parent / "reports" / ".." / "accounts"),
        ):
            answer = people[name].get(written)
            assert answer.status_code in (401, 403, 404), (written, answer.status_code)
            assert people[name].head(written).status_code in (401, 403, 404)
    for written in (file_url(database), file_url(database.parent / "accounts")):
        assert people["ann"].get(written).status_code == 404


def png(colour: str) -> bytes:
    stream = io.BytesIO()
    Image.new("RGB", (64, 64), colour).save(stream, "PNG")
    return stream.getvalue()


def upload(client: httpx.Client, content: bytes) -> str:
    answer = client.post("gradio_api/upload", files={"files": ("mine.png", content)})
    assert answer.status_code == 200
    (path,) = answer.json()
    return str(path)


def named(path: str) -> dict[str, Any]:
    """A file, as an event names it."""
    return {"path": path, "meta": {"_type": "gradio.FileData"}, "orig_name": "mine.png"}


def test_an_upload_is_whose_it_is(server: Server, people: dict[str, httpx.Client]) -> None:
    path = upload(people["ben"], png("navy"))
    assert people["ben"].get(file_url(path)).status_code == 200
    for name, status in (("cat", 404), ("ann", 404), ("stranger", 401)):
        assert people[name].get(file_url(path)).status_code == status
    body = {"fn_index": event(server, "VerifyPage._put_in"), "session_hash": uuid.uuid4().hex}
    hidden = {"path": path}
    for data in (
        [named(path)],
        [hidden],
        [[{"deep": [hidden]}]],
        [named(path.replace("/mine.png", "/./mine.png"))],
        [{"path": "/etc/passwd"}],
        [{"path": 5}],
    ):
        answer = people["cat"].post("gradio_api/queue/join", json={**body, "data": data})
        assert answer.status_code == 404, data
    outputs = call(server, people["ben"], "VerifyPage._put_in", [named(path)])
    assert "no receipt" in str(outputs[-1]["data"][0])
    # Who has the same file has it anyway.
    assert upload(people["cat"], png("navy")) == path
    assert people["cat"].get(file_url(path)).status_code == 200


def test_a_stored_picture_cannot_be_named_as_an_upload(
    server: Server, people: dict[str, httpx.Client]
) -> None:
    picture = path_of(made(server, "account:ben", "a panda not to be taken"))
    body = {"fn_index": event(server, "GeneratePage._take"), "session_hash": uuid.uuid4().hex}
    sent = {**body, "data": [named(str(picture))]}
    assert people["cat"].post("gradio_api/queue/join", json=sent).status_code == 404


def test_reports_are_for_every_account(server: Server, people: dict[str, httpx.Client]) -> None:
    report = server.services.reports / "seedproof-quick-1-2.html"
    report.write_text("a report")
    folder = Path(server.app.app.uploaded_file_dir) / "copy"
    folder.mkdir(parents=True, exist_ok=True)
    copy = folder / report.name
    copy.write_text("a report")
    try:
        assert people["cat"].get(file_url(copy)).status_code == 200
        assert people["stranger"].get(file_url(copy)).status_code == 401
        server.services.rules.holdings.give(str(copy.resolve()), "account:ben")  # type: ignore[union-attr]
        assert people["cat"].get(file_url(copy)).status_code == 404
    finally:
        copy.unlink()


# Events


def generate(server: Server, client: httpx.Client, prompt: str, **more: Any) -> dict[str, Any]:
    """A picture by the form of the first page, its fields as the page has them."""
    number = event(server, "GeneratePage._several")
    inputs = server.app.fns[number].inputs
    values = [getattr(one, "value", None) for one in inputs]
    first = [one.elem_id for one in inputs].index("prompt")
    values[first], values[first + 3], values[first + 4] = prompt, "7", more.pop("steps", 2)
    values[-1] = more.pop("secret", "5" * 32)
    outputs = call(server, client, "GeneratePage._several", values, **more)
    return {"stage": str(outputs[-1]["data"][0]), "first": str(outputs[0])}


def test_a_job_is_the_accounts_whatever_the_browser_sends(
    server: Server, people: dict[str, httpx.Client]
) -> None:
    store, prompt = server.services.store, f"whose {uuid.uuid4().hex}"
    forged = {"request": {"cookies": {COOKIE: "x"}, "username": "ann"}, "username": "ann"}
    generate(server, people["ben"], prompt, secret="6" * 32, **forged)
    assert store.history("account:ben", prompt).total == 1
    for other in ("account:ann", visitor_owner("6" * 32), "account:cat"):
        assert store.history(other, prompt).total == 0


def test_a_limit_holds_whatever_the_slider_says(
    server: Server, people: dict[str, httpx.Client]
) -> None:
    shown = generate(server, people["ben"], "too many steps", steps=31)
    assert "at most 30 steps, not 31" in shown["stage"]
    assert server.services.store.history("account:ben", "too many steps").total == 0


def test_anothers_picture_is_no_picture(server: Server, people: dict[str, httpx.Client]) -> None:
    run = made(server, "account:ben", f"nobody's business {EVIL}")
    for page in ("GeneratePage._opened", "VerifyPage._opened"):
        seen = {}
        for name in ("ben", "ann", "cat"):
            outputs = call(server, people[name], page, ["5" * 32], f"?run={run.job.id}")
            text = json.dumps(outputs)
            assert EVIL not in text
            seen[name] = "no such picture" not in text
            assert seen[name] or ("nobody" not in text and path_of(run).name not in text)
        assert seen == {"ben": True, "ann": True, "cat": False}


def test_a_session_is_whose_it_was_at_first(
    server: Server, people: dict[str, httpx.Client]
) -> None:
    session = uuid.uuid4().hex
    number = event(server, "HistoryPage._opened")
    body = {"data": ["5" * 32], "fn_index": number, "session_hash": session}
    joined = people["ben"].post("gradio_api/queue/join", json=body)
    event_id = joined.json()["event_id"]
    cancel = {"session_hash": session, "fn_index": number, "event_id": event_id}
    for name, status in (("cat", 404), ("ann", 404), ("stranger", 401)):
        client = people[name]
        assert client.get(f"gradio_api/queue/data?session_hash={session}").status_code == status
        assert client.get(f"gradio_api/heartbeat/{session}").status_code == status
        assert client.post("gradio_api/queue/join", json=body).status_code == status
        assert client.post("gradio_api/cancel", json=cancel).status_code == status
        assert client.get(f"gradio_api/call/x/{event_id}").status_code == status
        assert client.post(f"gradio_api/stream/{event_id}/close").status_code == status
    watched = uuid.uuid4().hex
    assert people["ben"].post(f"gradio_api/upload?upload_id={watched}").status_code != 404
    watching = f"gradio_api/upload_progress?upload_id={watched}"
    assert people["cat"].get(watching).status_code == 404
    assert "not yours" in people["cat"].get(watching).text
    assert "not yours" not in people["ben"].get(watching).text
    twice = f"session_hash={uuid.uuid4().hex}&session_hash={session}"
    assert people["cat"].get(f"gradio_api/queue/data?{twice}").status_code == 404
    doubled = json.dumps({**body, "session_hash": "own"}).replace(
        '"own"', f'"own", "session_hash": "{session}"'
    )
    kind = {"content-type": "application/json"}
    for broken in (doubled, "[]", "{}", "nonsense", "[" * 100_000, '{"session_hash": ["x"]}', "1"):
        answer = people["cat"].post("gradio_api/queue/join", content=broken, headers=kind)
        assert answer.status_code == 404, broken[:40]
    with people["ben"].stream("GET", f"gradio_api/queue/data?session_hash={session}") as stream:
        assert "process_completed" in "".join(stream.iter_text())


def test_an_event_that_is_too_long_is_not_read(people: dict[str, httpx.Client]) -> None:
    body = {"session_hash": "x", "data": ["x" * 4_000_000]}
    assert people["ben"].post("gradio_api/queue/join", json=body).status_code == 404


def test_only_an_admin_starts_and_stops_audits(
    server: Server, people: dict[str, httpx.Client]
) -> None:
    before = len(server.services.store.audits())
    secret = "6" * 32
    for method, data in (("_started", ["smoke", secret]), ("_resumed", [None, secret])):
        outputs = call(server, people["ben"], f"AuditPage.{method}", data)
        assert "Only an admin" in json.dumps(outputs, ensure_ascii=False)
    stopped = json.dumps(call(server, people["ben"], "AuditPage._stopped", [None, secret]))
    assert "Only an admin" in stopped
    assert len(server.services.store.audits()) == before
    promised = json.dumps(call(server, people["ben"], "AuditPage._promised", ["smoke"]))
    assert "Only an admin" in promised
    assert "Only an admin" not in json.dumps(
        call(server, people["ann"], "AuditPage._promised", ["smoke"])
    )


def test_the_queue_shows_ones_own_and_an_admin_everything(
    server: Server, people: dict[str, httpx.Client]
) -> None:
    jobs, engine = server.services.jobs, server.engine
    asked = Request(prompt=EVIL, model=POCKET, num_inference_steps=2, width=64, height=64)
    engine.open.clear()
    try:
        for number, owner in enumerate(("ben", "ben", "ben", EVIL)):
            until(lambda first=number == 0: first or jobs.census()["running"] == 1)  # type: ignore[misc]
            one = Job(id=f"job-{number}", requests=(asked,), configuration=configure({}, PLATFORM))
            jobs.submit(one, f"account:{owner}")

        def look(name: str) -> str:
            return str(call(server, people[name], "QueuePage._looked", [""])[-1]["data"][0])

        def act(name: str, method: str, **what: str) -> None:
            call(server, people[name], f"QueuePage.{method}", [""], event_data=what)

        seen = {name: look(name) for name in ("ben", "cat", "ann")}
        assert seen["ben"].count('data-job="job-') == 3 + 3 + 4
        assert "1 job of somebody else" in seen["ben"]
        assert "job-" not in seen["cat"]
        assert "4 jobs of others" in seen["cat"]
        assert seen["ann"].count("<tr data-job=") == 4
        assert "&lt;img" in seen["ann"]
        for text in seen.values():
            assert EVIL not in text
        assert "<p>&lt;img" not in seen["ann"]
        act("ben", "_moved", job="job-2", to="0")
        mine = [one.job.id for one in jobs.open_tickets() if one.owner == "account:ben"]
        assert mine == ["job-0", "job-2", "job-1"]
        act("cat", "_moved", job="job-1", to="0")
        act("cat", "_cancelled", job="job-1")
        act("cat", "_cancelled", job="job-0")
        act("ben", "_cancelled", job="job-3")
        assert len(jobs.open_tickets()) == 4
        act("ann", "_cancelled", job="job-3")
        act("ben", "_cancelled", job="job-1")
        assert [one.job.id for one in jobs.open_tickets()] == ["job-0", "job-2"]
    finally:
        engine.open.set()
    assert jobs.wait_until_idle(30)


def test_without_accounts_there_is_no_guard_and_no_queue_page(server: Server) -> None:
    app = in_a_loop(lambda: build(replace(server.services, rules=None)), alone=False)
    assert [page[0] for page in app.pages] == [
        "",
        "grid",
        "audit",
        "recommend",
        "verify",
        "history",
        "compare",
        "machine",
    ]
    assert "queue" in [page[0] for page in server.app.pages]
