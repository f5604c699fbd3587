"""Starts the app: makes its services, serves it, and puts everything away at the end."""

import signal
import socket
import tempfile
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, NoReturn

from core.models import resolve
from core.picture_file import MOST_BYTES
from core.store import Store
from core.worker import WorkerEngine, open_worker
from webapp.places import Places
from webapp.policy import OWN, Policy

if TYPE_CHECKING:
    import gradio as gr

    from webapp.services import Services


def serve(
    place: Places,
    model: str,
    *,
    host: str,
    port: int,
    browser: bool = False,
    policy: Policy = OWN,
    journal: bool = False,
) -> None:
    """Serve until interrupted; with `journal` a line of JSON tells of every job that ended.

    Raises ValueError where the model or the port cannot be used.
    """
    _require_free(host, port)
    signal.signal(signal.SIGTERM, _interrupted)
    with services(place, model, policy, journal=journal) as made:
        from webapp.app import build

        launch(build(made), made, host=host, port=port, browser=browser)


@contextmanager
def services(
    place: Places, model: str, policy: Policy = OWN, *, journal: bool = False
) -> Iterator["Services"]:
    """Everything the pages need. The worker starts first and the model loads at first use.

    What is imported in here takes seconds, which the worker needs for its own imports anyway.
    """
    chosen = resolve(model, place.shipped_model)
    with (
        Store(place.database, place.access) as store,
        tempfile.TemporaryDirectory("-seedproof") as reports,
    ):
        engine = WorkerEngine(pictures=store.pictures, lease_folder=place.leases, replace_dead=True)

        from core.platforms import detect
        from core.shortage import SteppingEngine
        from webapp.audits import Audits
        from webapp.findings import Findings
        from webapp.grids import Grids
        from webapp.jobs import JobQueue
        from webapp.journal import Journal
        from webapp.metrics import Metrics
        from webapp.reruns import Reruns
        from webapp.services import Services
        from webapp.ticket import Ticket

        platform = detect()
        reruns = Reruns(
            SteppingEngine(engine, platform),
            lambda conditions: open_worker(
                conditions,
                platform,
                pictures=Path(reports) / "reruns",
                lease_folder=place.leases,
            ),
        )
        log = Journal()

        def closed(ticket: Ticket) -> None:
            metrics.closed(ticket)
            grids.closed(ticket)
            if journal:
                log.closed(ticket)

        jobs = JobQueue(reruns, store.add_generation, closed=closed)
        grids = Grids(store, jobs)
        metrics = Metrics(jobs.census, lambda: engine.pid)
        audits = Audits(
            store,
            platform,
            lambda conditions: open_worker(
                conditions, platform, pictures=store.pictures, lease_folder=place.leases
            ),
            jobs,
        )
        try:
            yield Services(
                platform=platform,
                model=chosen,
                store=store,
                jobs=jobs,
                grids=grids,
                audits=audits,
                findings=Findings(store),
                plans=place.plans,
                reports=Path(reports),
                examples=examples(place.plans.parent / "prompts.toml"),
                policy=policy,
                metrics=metrics,
            )
        finally:
            audits.close()
            jobs.close()
            engine.close()


def launch(
    app: "gr.Blocks", made: "Services", *, host: str, port: int, browser: bool = False
) -> None:
    """Open the doors. Only pictures may be read from disk, and no event is an API."""
    from webapp.health import router
    from webapp.theme import HEAD, css, theme

    reruns = made.reports / "reruns"
    for folder in (made.store.pictures, reruns):
        folder.mkdir(parents=True, exist_ok=True)
    app.queue(api_open=False, default_concurrency_limit=None)
    print(f"Seedproof is at http://{host}:{port} (Ctrl+C stops it)", flush=True)
    api, _, _ = app.launch(
        prevent_thread_lock=True,
        server_name=host,
        server_port=port,
        inbrowser=browser,
        quiet=True,
        share=False,
        ssr_mode=False,
        theme=theme(),
        css=css(),
        head=HEAD,
        allowed_paths=[str(made.store.pictures), str(reruns)],
        max_file_size=made.policy.largest_upload or MOST_BYTES,
        show_error=False,
        footer_links=[],
        run_history=False,
        enable_monitoring=False,
        mcp_server=False,
    )
    api.include_router(router(made))
    app.block_thread()


def examples(file: Path) -> tuple[str, ...]:
    """The audit's prompts: what the shipped model is known to draw."""
    if not file.is_file():
        return ()
    listed = tomllib.loads(file.read_text(encoding="utf-8")).get("prompt", [])
    return tuple(one["prompt"] for one in listed)


def _require_free(host: str, port: int) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise ValueError(
                f"Cannot listen on {host}:{port} ({error.strerror}): choose another --port."
            ) from None


def _interrupted(number: int, frame: FrameType | None) -> NoReturn:
    """A container is stopped like a terminal is: everything is put away."""
    raise KeyboardInterrupt
