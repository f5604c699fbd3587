"""Jobs over HTTP: asked for, followed, cancelled, fetched; every error in one clear sentence."""

import io
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from PIL import Image

from core.optimizations import OPTIMIZATIONS, SLOTS
from core.request import Job, Request, Watch
from core.run import Run
from core.store import Store
from tests.fake_engine import PLATFORM, FakeEngine, FakeWorkers
from tests.test_jobs import PATIENCE, GatedEngine, until
from tests.test_pages import POCKET
from webapp import visitors
from webapp.audits import Audits
from webapp.findings import Findings
from webapp.grids import Grids
from webapp.jobs import JobQueue
from webapp.order import Order
from webapp.rest import MOST_BODY, MOUNT, rest
from webapp.services import Services

ANN, BOB = "a" * 32, "b" * 32
APPLE = {"prompt": "a red apple", "seed": 7, "num_inference_steps": 3}


class GatedFake(FakeEngine):
    """Real files, and a step whenever the test opens the gate."""

    def __init__(self, pictures: Path) -> None:
        super().__init__(pictures=pictures)
        self.gated = GatedEngine()

    def run(self, job: Job, watch: Watch) -> Run:
        first = self.gated.run(job, watch)
        return super().run(job, watch) if first.outcome == "ok" else first


class Server:
    """The services with a fake engine, and who asks."""

    def __init__(self, folder: Path) -> None:
        self.store = Store(folder / "seedproof.db")
        self.engine = GatedFake(self.store.pictures)
        self.open_queue()
        self.audits = Audits(
            self.store, PLATFORM, FakeWorkers(pictures=self.store.pictures), self.jobs
        )
        self.services = Services(
            platform=PLATFORM,
            model=POCKET,
            store=self.store,
            jobs=self.jobs,
            grids=Grids(self.store, self.jobs),
            audits=self.audits,
            findings=Findings(self.store),
            plans=folder,
            reports=folder,
        )

    def open_queue(self) -> None:
        self.jobs = JobQueue(self.engine, self.store.add_generation, waiting_per_owner=3)

    def restart(self) -> None:
        """What only the queue knew is gone."""
        self.jobs.close()
        self.open_queue()
        self.services = replace(self.services, jobs=self.jobs)

    def client(self, secret: str = ANN, root_path: str = "") -> TestClient:
        api = FastAPI()
        # As Gradio does it.
        api.root_path = root_path
        api.mount(MOUNT, rest(self.services, root_path))
        client = TestClient(api, headers={"Authorization": f"Bearer {secret}"})
        client.base_url = client.base_url.join(f"{MOUNT}/")
        return client


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    made = Server(tmp_path)
    yield made
    made.audits.close()
    made.jobs.close()
    made.store.close()


def errors(answer: Any) -> list[str]:
    found: list[str] = answer.json()["errors"]
    assert all(sentence.endswith((".", "}.")) for sentence in found), found
    return found


# A job's life


def test_a_job_is_asked_for_followed_and_fetched(server: Server) -> None:
    ann = server.client()
    asked = ann.post("jobs", json={**APPLE, "batch_size": 2})
    assert asked.status_code == 202
    job = asked.json()
    assert asked.headers["location"] == f"{MOUNT}/jobs/{job['id']}"
    assert job["requested"]["prompt"] == "a red apple"
    assert job["requested"]["configuration"] == {"attention": "sdp", "precision": "fp32"}
    assert job["requested"]["batch_size"] == 2
    assert (job["requested"]["width"], job["requested"]["prompt_syntax"]) == (128, "a1111")
    assert job["state"] in ("waiting", "running")
    assert ann.get(f"jobs/{job['id']}/images/0").status_code == 409
    server.engine.gated.release(1)
    until(lambda: ann.get(f"jobs/{job['id']}").json()["step"] == 1)
    running = ann.get(f"jobs/{job['id']}").json()
    assert (running["state"], running["num_inference_steps"]) == ("running", 3)
    assert running["remaining_seconds"] == 1.0
    assert running["images"] is None
    server.engine.gated.release()
    until(lambda: ann.get(f"jobs/{job['id']}").json()["state"] == "ok")
    done = ann.get(f"jobs/{job['id']}").json()
    assert [image["seed"] for image in done["images"]] == [7, 8]
    assert done["effective"]["attention"]["effect"] == "applied"
    assert done["seconds"]["denoise"] > 0
    assert done["attempt"] == 1
    for image in done["images"]:
        fetched = ann.get(image["url"].removeprefix(f"{MOUNT}/"))
        assert fetched.headers["content-type"] == "image/png"
        assert fetched.headers["cache-control"] == "private"
        assert fetched.content in [file.read_bytes() for file in server.store.pictures.iterdir()]
    assert ann.get(f"jobs/{job['id']}/images/2").status_code == 404
    assert ann.get(f"jobs/{job['id']}/images/-1").status_code == 404


def test_places_in_the_queue_are_told(server: Server) -> None:
    ann, bob = server.client(), server.client(BOB)
    ann.post("jobs", json=APPLE)
    until(lambda: server.jobs.census()["running"] == 1)
    second, third = ann.post("jobs", json=APPLE).json(), bob.post("jobs", json=APPLE).json()
    assert ann.get(f"jobs/{second['id']}").json()["ahead"] == 2
    assert bob.get(f"jobs/{third['id']}").json()["ahead"] == 1
    server.engine.gated.release(1)
    until(lambda: bob.get(f"jobs/{third['id']}").json()["wait_seconds"] == 1.0)


def test_events_come_as_steps_are_taken_and_end_with_the_job(server: Server) -> None:
    ann = server.client()
    job = ann.post("jobs", json=APPLE).json()
    server.engine.gated.release()
    answer = ann.get(f"jobs/{job['id']}/events")
    assert answer.headers["content-type"].startswith("text/event-stream")
    assert answer.headers["x-accel-buffering"] == "no"
    told = [event.split("\ndata: ") for event in answer.text.strip().split("\n\n")]
    assert {name for name, _ in told} == {"event: job"}
    states = [json.loads(data)["state"] for _, data in told]
    assert states[-1] == "ok"
    assert "ok" not in states[:-1]
    assert json.loads(told[-1][1]) == ann.get(f"jobs/{job['id']}").json()


def test_delete_cancels_one_that_waits_and_one_that_runs(server: Server) -> None:
    ann = server.client()
    running, waiting = (ann.post("jobs", json=APPLE).json()["id"] for _ in range(2))
    until(lambda: server.jobs.census()["running"] == 1)
    gone = ann.delete(f"jobs/{waiting}").json()
    assert (gone["state"], gone["reason"]) == ("cancelled", "Cancelled before it began.")
    assert ann.delete(f"jobs/{running}").status_code == 200
    until(lambda: ann.get(f"jobs/{running}").json()["state"] == "cancelled")
    assert ann.delete(f"jobs/{running}").json()["state"] == "cancelled"
    assert ann.get(f"jobs/{running}/images/0").status_code == 404


def test_jobs_are_listed_the_latest_first_and_survive_a_restart(server: Server) -> None:
    server.engine.gated.release()
    ann = server.client()
    made = []
    for seed in range(3):
        made.insert(0, ann.post("jobs", json={**APPLE, "seed": seed}).json()["id"])
        assert server.jobs.wait_until_idle(PATIENCE)
    assert [job["id"] for job in ann.get("jobs").json()] == made
    assert [job["id"] for job in ann.get("jobs?limit=1&skip=1").json()] == made[1:2]
    server.restart()
    ann = server.client()
    found = ann.get("jobs").json()
    assert [job["id"] for job in found] == made
    assert found[0] == ann.get(f"jobs/{made[0]}").json()
    assert found[0]["state"] == "ok"
    assert found[0]["step"] == 3
    file = ann.get(found[0]["images"][0]["url"].removeprefix(f"{MOUNT}/")).content
    with Image.open(io.BytesIO(file)) as image:
        assert image.size == (128, 128)


# Whose


def test_nobody_sees_or_ends_anothers_job(server: Server) -> None:
    server.engine.gated.release()
    ann, bob = server.client(), server.client(BOB)
    job = ann.post("jobs", json=APPLE).json()["id"]
    assert server.jobs.wait_until_idle(PATIENCE)
    for _ in ("in the queue", "in the database"):
        for path in (f"jobs/{job}", f"jobs/{job}/events", f"jobs/{job}/images/0"):
            answer = bob.get(path)
            assert (answer.status_code, errors(answer)) == (404, ["You have no such job."])
            assert bob.get(path.replace(job, "0" * 32)).json() == answer.json()
        assert bob.delete(f"jobs/{job}").status_code == 404
        assert bob.get("jobs").json() == []
        server.restart()
        ann, bob = server.client(), server.client(BOB)
    assert ann.get(f"jobs/{job}").json()["state"] == "ok"


@pytest.mark.parametrize(
    "header", ["", "Bearer", "Bearer short", f"Basic {ANN}", f"Bearer {'A' * 32}"]
)
def test_without_a_secret_nothing_is_told(server: Server, header: str) -> None:
    client = server.client()
    client.headers["Authorization"] = header
    for method, path in (
        ("POST", "jobs"),
        ("GET", "jobs"),
        ("GET", "jobs/x"),
        ("DELETE", "jobs/x"),
        ("GET", "jobs/x/events"),
        ("GET", "jobs/x/images/0"),
        ("GET", "doctor"),
        ("GET", "options"),
    ):
        answer = client.request(method, path)
        assert answer.status_code == 401, path
        assert answer.headers["www-authenticate"] == "Bearer"
        assert "32 hexadecimal digits" in errors(answer)[0]


def test_a_browsers_secret_is_the_same_person_here(server: Server) -> None:
    job = server.client().post("jobs", json=APPLE).json()["id"]
    ticket = server.jobs.look(job)
    assert ticket is not None
    assert ticket.owner == visitors.owner(ANN)


# What is wrong


@pytest.mark.parametrize(
    ("body", "sentence"),
    [
        ({}, "prompt is missing: write what the picture shows."),
        ({"prompt": "  "}, "prompt is empty: write what the picture shows."),
        ({**APPLE, "steps": 3}, "There is no field 'steps': choose from prompt, "),
        ({**APPLE, "seed": "7"}, "seed should be a valid integer, not '7'."),
        ({**APPLE, "seed": -1}, "seed should be greater than or equal to 0, not -1."),
        ({**APPLE, "batch_size": 9}, "batch_size should be less than or equal to 8, not 9."),
        ({**APPLE, "width": 100}, "width must be a multiple of 32 pixels for this model"),
        ({**APPLE, "height": 10**9}, "width and height must be at most 256 pixels"),
        ({**APPLE, "sampler": "Warp"}, "Warp"),
        ({**APPLE, "noise_source": "dice"}, "dice"),
        ({**APPLE, "configuration": {"speed": "on"}}, "There is no setting 'speed'"),
        ({**APPLE, "configuration": {"attention": 3}}, "configuration.attention should be"),
        ({**APPLE, "configuration": {"attention": "xformers"}}, "cannot run here"),
        (
            {**APPLE, "seed": 2**64 - 1, "batch_size": 2},
            "seed must be at most 18446744073709551615",
        ),
        ({**APPLE, "prompt": "x" * 200_000}, "prompt should have at most 100000 characters"),
        ({**APPLE, "clip_skip": 99}, "clip_skip must be from 1"),
    ],
)
def test_what_cannot_be_done_is_422_in_a_sentence(
    server: Server, body: dict[str, Any], sentence: str
) -> None:
    answer = server.client().post("jobs", json=body)
    assert answer.status_code == 422
    (said,) = errors(answer)
    assert sentence in said
    assert len(said) < 400
    assert not server.jobs.busy


def test_every_error_is_told_at_once(server: Server) -> None:
    body = {"seed": 1.5, "guidance_scale": 1000, "steps": 1}
    said = errors(server.client().post("jobs", json=body))
    assert len(said) == 4


@pytest.mark.parametrize("body", ["", "{", "[]", "null", '"a"', "{'prompt': 'a'}"])
def test_what_is_no_json_object_is_400(server: Server, body: str) -> None:
    answer = server.client().post("jobs", content=body)
    assert answer.status_code == 400
    assert errors(answer) == [
        'The body must be one JSON object, for example {"prompt": "a red apple"}.'
    ]


def test_a_body_without_end_is_refused_as_soon_as_it_is_too_long(server: Server) -> None:
    sent = 0

    def endless() -> Iterator[bytes]:
        nonlocal sent
        while sent < 10 * MOST_BODY:
            sent += 65536
            yield b" " * 65536

    answer = server.client().post("jobs", content=endless())
    assert answer.status_code == 413
    assert "1,000,000 bytes" in errors(answer)[0]


def test_who_has_too_many_waiting_is_told_and_the_next_person_is_not(server: Server) -> None:
    ann = server.client()
    ann.post("jobs", json=APPLE)
    until(lambda: server.jobs.census()["running"] == 1)
    for _ in range(3):
        assert ann.post("jobs", json=APPLE).status_code == 202
    answer = ann.post("jobs", json=APPLE)
    assert answer.status_code == 429
    assert "3 pictures waiting" in errors(answer)[0]
    assert server.client(BOB).post("jobs", json=APPLE).status_code == 202


def test_a_server_that_stops_says_so(server: Server) -> None:
    server.jobs.close()
    answer = server.client().post("jobs", json=APPLE)
    assert answer.status_code == 503
    assert "stopping" in errors(answer)[0]


def test_a_picture_whose_file_is_gone_says_so(server: Server) -> None:
    server.engine.gated.release()
    ann = server.client()
    job = ann.post("jobs", json=APPLE).json()["id"]
    assert server.jobs.wait_until_idle(PATIENCE)
    for file in server.store.pictures.iterdir():
        file.unlink()
    answer = ann.get(f"jobs/{job}/images/0")
    assert (answer.status_code, errors(answer)) == (
        404,
        ["The file of this picture is no longer there."],
    )


def test_unknown_addresses_and_methods_answer_in_the_same_form(server: Server) -> None:
    ann = server.client()
    assert "openapi.json" in errors(ann.get("nothing"))[0]
    assert ann.get("nothing").status_code == 404
    assert ann.put("jobs").status_code == 405
    assert ann.get("jobs?limit=0").status_code == 422
    assert errors(ann.get("jobs?limit=many"))[0].startswith("limit: ")


# Sent again


def test_a_key_makes_one_job_of_two_requests(server: Server) -> None:
    ann, bob = server.client(), server.client(BOB)
    key = {"Idempotency-Key": "order 1"}
    first, again = (ann.post("jobs", json=APPLE, headers=key) for _ in range(2))
    assert (first.status_code, again.status_code) == (202, 200)
    assert first.json()["id"] == again.json()["id"]
    other = ann.post("jobs", json={**APPLE, "seed": 8}, headers=key)
    assert other.status_code == 409
    assert errors(other) == ["This Idempotency-Key stood for another request: choose a new one."]
    assert bob.post("jobs", json=APPLE, headers=key).json()["id"] != first.json()["id"]
    assert ann.post("jobs", json=APPLE, headers={"Idempotency-Key": "k" * 201}).status_code == 422


def test_a_refused_request_leaves_no_key_behind(server: Server) -> None:
    ann = server.client()
    key = {"Idempotency-Key": "order 1"}
    assert ann.post("jobs", json={"prompt": " "}, headers=key).status_code == 422
    assert ann.post("jobs", json=APPLE, headers=key).status_code == 202


# What there is


def test_options_and_doctor_name_every_option(server: Server) -> None:
    ann = server.client()
    offered = ann.get("options").json()
    assert [one["slot"] for one in offered["configuration"]] == [slot.name for slot in SLOTS]
    assert offered["size"] == {"native": 128, "step": 32, "most": 256}
    assert "Euler a" in offered["samplers"]
    found = ann.get("doctor").json()
    assert len(found["optimizations"]) == len(OPTIMIZATIONS)
    assert found["platform"]["device"] == "cpu"


def test_openapi_describes_what_is_there_and_needs_no_secret(server: Server) -> None:
    client = server.client()
    del client.headers["Authorization"]
    document = client.get("openapi.json").json()
    assert set(document["paths"]) == {
        "/jobs",
        "/jobs/{job_id}",
        "/jobs/{job_id}/events",
        "/jobs/{job_id}/images/{number}",
        "/doctor",
        "/options",
    }
    assert document["servers"] == [{"url": MOUNT}]
    asked = document["paths"]["/jobs"]["post"]
    schema = asked["requestBody"]["content"]["application/json"]["schema"]
    assert set(schema["properties"]) == set(Order.model_fields)
    assert {"202", "400", "401", "409", "413", "422", "429", "503"} <= set(asked["responses"])
    assert document["components"]["securitySchemes"]["HTTPBearer"]["scheme"] == "bearer"
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            assert operation["security"], (path, method)
    assert client.get("docs").status_code == 404


def test_below_a_proxys_path_addresses_begin_with_it(server: Server) -> None:
    server.engine.gated.release()
    ann = server.client(root_path="/seedproof")
    job = ann.post("jobs", json=APPLE).json()
    assert server.jobs.wait_until_idle(PATIENCE)
    done = ann.get(f"jobs/{job['id']}").json()
    assert done["images"][0]["url"].startswith(f"/seedproof{MOUNT}/jobs/")
    assert ann.get(f"jobs/{job['id']}/images/0").status_code == 200
    assert ann.get("openapi.json").json()["servers"] == [{"url": f"/seedproof{MOUNT}"}]


def test_every_field_of_a_request_can_be_ordered() -> None:
    """What a program cannot say, it can only get by accident."""
    elsewhere = {"model"}
    fields = set(Request.__dataclass_fields__) - elsewhere
    assert fields <= set(Order.model_fields)
