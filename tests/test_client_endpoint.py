"""The real `gradio_client` before the whole app, below a proxy's path, with a fake engine."""

import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from gradio_client import Client
from gradio_client.exceptions import AppError

from tests.test_jobs import PATIENCE, until
from tests.test_rest import ANN, BOB
from webapp.places import REPOSITORY

PATH = "/seedproof"
APPLE: dict[str, Any] = {"prompt": "a red apple", "seed": 3, "num_inference_steps": 3}


@dataclass
class Served:
    """The app in its process."""

    url: str
    pictures: Path
    process: "subprocess.Popen[str]"

    def allow(self, steps: int) -> None:
        """How many steps the engine may take; none closes its gate."""
        assert self.process.stdin is not None
        self.process.stdin.write(f"{steps}\n")
        self.process.stdin.flush()

    def http(self, secret: str = ANN, **headers: str) -> httpx.Client:
        return httpx.Client(
            base_url=f"{self.url}/",
            headers={"Authorization": f"Bearer {secret}", **headers},
            timeout=PATIENCE,
        )

    def states(self, secret: str = ANN) -> list[str]:
        """Of one person's jobs, the latest first."""
        with self.http(secret) as http:
            return [job["state"] for job in http.get("api/v1/jobs").json()]


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("served")
    command = [sys.executable, "-m", "tests.served_child", str(folder), PATH]
    with subprocess.Popen(
        command, cwd=REPOSITORY, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        line = next(line for line in process.stdout if line.startswith("shown at"))
        try:
            yield Served(line.split()[2], folder / "pictures", process)
        finally:
            process.kill()


@pytest.fixture
def folder(served: Served, tmp_path: Path) -> Path:
    """Where a client's files go; every test begins with a closed gate."""
    served.allow(0)
    return tmp_path


def client(served: Served, secret: str, folder: Path) -> Client:
    return Client(
        f"{served.url}/",
        headers={"Authorization": f"Bearer {secret}"} if secret else {},
        download_files=folder,
        verbose=False,
        analytics_enabled=False,
    )


def test_a_client_follows_a_job_and_has_its_files(served: Served, folder: Path) -> None:
    ann = client(served, ANN, folder)
    job = ann.submit(**APPLE, batch_size=2, api_name="/generate")
    served.allow(2)
    until(lambda: any(told["step"] == 2 for told in job.outputs()))
    assert not job.done()
    served.allow(1)
    done = job.result(timeout=PATIENCE)
    assert done["state"] == "ok"
    assert [image["seed"] for image in done["images"]] == [3, 4]
    kept = {file.read_bytes() for file in served.pictures.iterdir()}
    files = [Path(file) for file in done["files"]]
    assert len(files) == 2
    for file in files:
        assert folder in file.parents
        assert file.read_bytes() in kept
    urls = [image["url"] for image in done["images"]]
    assert all(url.startswith(f"{PATH}/api/v1/jobs/{done['id']}/images/") for url in urls)
    with served.http() as ann_s, served.http(BOB) as bob_s:
        assert ann_s.get(f"api/v1/jobs/{done['id']}").json()["state"] == "ok"
        assert bob_s.get(f"api/v1/jobs/{done['id']}").status_code == 404


def test_a_client_that_cancels_frees_the_engine(served: Served, folder: Path) -> None:
    ann = client(served, ANN, folder)
    job = ann.submit(**APPLE, api_name="/generate")
    until(lambda: any(told["state"] == "running" for told in job.outputs()))
    job.cancel()
    until(lambda: served.states()[0] == "cancelled")


def test_the_same_limits_in_the_same_words(served: Served, folder: Path) -> None:
    ann = client(served, ANN, folder)
    with pytest.raises(AppError, match="batch_size should be less than or equal to 8, not 9"):
        ann.predict(**APPLE, batch_size=9, api_name="/generate")
    with pytest.raises(AppError, match="There is no setting 'speed'"):
        ann.predict(**APPLE, configuration={"speed": "on"}, api_name="/generate")
    jobs = [ann.submit(**APPLE, api_name="/generate") for _ in range(4)]
    until(lambda: sorted(served.states()[:4]) == ["running", "waiting", "waiting", "waiting"])
    with pytest.raises(AppError, match="3 pictures waiting"):
        ann.predict(**APPLE, api_name="/generate")
    served.allow(100)
    assert client(served, BOB, folder).predict(**APPLE, api_name="/generate")["state"] == "ok"
    assert [job.result(timeout=PATIENCE)["state"] for job in jobs] == ["ok"] * 4


def test_without_a_secret_a_client_gets_nothing(served: Served, folder: Path) -> None:
    for secret in ("", "short"):
        with pytest.raises(AppError, match="32 hexadecimal digits"):
            client(served, secret, folder).predict(**APPLE, api_name="/generate")


def test_no_event_of_a_page_is_offered(served: Served, folder: Path) -> None:
    ann = client(served, ANN, folder)
    events = [one for one in ann.config["dependencies"] if one["api_name"] != "generate"]
    assert events
    for event in events:
        with pytest.raises(ValueError, match="Cannot find a function"):
            ann.predict(api_name=f"/{event['api_name']}")
    with served.http() as http:
        named = http.get("gradio_api/info").json()
        direct = http.post("gradio_api/run/generate", json={"data": list(APPLE.values())})
    assert (list(named["named_endpoints"]), named["unnamed_endpoints"]) == (["/generate"], {})
    assert direct.status_code == 404


def test_below_the_path_everything_is_found(served: Served, folder: Path) -> None:
    served.allow(100)
    with served.http() as http:
        for page in ("", "audit", "recommend", "verify", "history"):
            assert f'"root":"{served.url}"' in http.get(page).text, page
        assert http.get("healthz").json() == {"status": "ok"}
        assert http.get("api/v1/openapi.json").json()["servers"] == [{"url": f"{PATH}/api/v1"}]
        asked = http.post("api/v1/jobs", json=APPLE)
        job = asked.json()["id"]
        assert asked.headers["location"] == f"{PATH}/api/v1/jobs/{job}"
        until(lambda: http.get(f"api/v1/jobs/{job}").json()["state"] == "ok")
        link = http.get(f"api/v1/jobs/{job}").json()["images"][0]["url"]
        picture = http.get(link.removeprefix(f"{PATH}/")).content
        (file,) = (file for file in served.pictures.iterdir() if file.read_bytes() == picture)
        assert http.get(f"gradio_api/file={file}").content == picture
        sent = http.post("gradio_api/upload", files={"files": ("a.png", picture)}).json()
        assert Path(sent[0]).read_bytes() == picture


def test_events_arrive_one_by_one_through_a_proxy(served: Served, folder: Path) -> None:
    """Nothing between the two keeps them back until the end."""
    with served.http(**{"Accept-Encoding": "br, gzip"}) as http:
        job = http.post("api/v1/jobs", json=APPLE).json()["id"]
        steps = []
        with http.stream("GET", f"api/v1/jobs/{job}/events") as stream:
            for line in stream.iter_lines():
                if line.startswith("data:"):
                    told = json.loads(line.removeprefix("data:"))
                    steps.append(told["step"])
                    if told["state"] == "running":
                        served.allow(1)
    assert steps == sorted(steps)
    assert set(steps) == {0, 1, 2, 3}
