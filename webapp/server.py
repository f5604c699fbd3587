"""Starts the app: makes its services, serves it, and puts everything away at the end."""

import re
import signal
import socket
import tempfile
import tomllib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, NoReturn

from core.models import resolve
from core.picture_file import MOST_BYTES
from core.request import Conditions, Job
from core.store import Store
from core.worker import WorkerEngine, open_worker
from webapp.journal import Journal
from webapp.places import Places
from webapp.policy import OWN, Policy
from webapp.shutdown import SECONDS, Shutdown, drain

if TYPE_CHECKING:
    import gradio as gr

    from webapp.identity import Identify
    from webapp.login import Login
    from webapp.services import Services
    from webapp.zero_gpu import ZeroGpu, ZeroGpuEngine

MOST_GROWTH = 500_000_000
"""Bytes that a worker may hold beyond its weights and what it held after its first picture."""


def serve(
    place: Places,
    model: str,
    *,
    host: str,
    port: int,
    browser: bool = False,
    policy: Policy = OWN,
    journal: bool = False,
    root_path: str = "",
    drain_seconds: float = SECONDS,
    identify: "Identify | None" = None,
    login: "Login | None" = None,
    zero_gpu: "ZeroGpu | None" = None,
) -> None:
    """Serve until stopped; with `journal` a line of JSON tells of every job that ended.

    - `root_path`: where a proxy shows the app to the world, as `/seedproof`; it strips that.
    - `drain_seconds`: what jobs have to end after SIGTERM.
    - `identify`: only whom it knows may come in; `login` is where they sign in, if here.

    Raises ValueError where the model, the port or the path cannot be used, and KeyboardInterrupt
    where SIGTERM comes before there is anything to finish, or a second time.
    """
    _require_path(root_path)
    _require_free(host, port)
    signal.signal(signal.SIGTERM, _interrupted)
    with services(
        place,
        model,
        policy,
        journal=journal,
        identify=identify,
        login=login,
        zero_gpu=zero_gpu,
    ) as made:
        from webapp.app import build

        app = build(made)
        open_doors(app, made, host=host, port=port, browser=browser, root_path=root_path)
        log = Journal().write if journal else _unheard
        try:
            _until_stopped(made, drain_seconds, log)
        finally:
            app.close(verbose=False)


@contextmanager
def services(
    place: Places,
    model: str,
    policy: Policy = OWN,
    *,
    journal: bool = False,
    identify: "Identify | None" = None,
    login: "Login | None" = None,
    zero_gpu: "ZeroGpu | None" = None,
) -> Iterator["Services"]:
    """Everything the pages need. The worker starts first and the model loads at first use; with
    `zero_gpu` there is no worker, and every job is a call of its own.

    What is imported in here takes seconds, which the worker needs for its own imports anyway.
    """
    chosen = resolve(model, place.shipped_model)
    with (
        Store(place.database, place.access) as store,
        tempfile.TemporaryDirectory("-seedproof") as reports,
    ):
        engine = (
            zero_gpu.engine(store.pictures)
            if zero_gpu
            else WorkerEngine(
                pictures=store.pictures,
                lease_folder=place.leases,
                replace_dead=True,
                most_growth=MOST_GROWTH,
            )
        )

        from core.platforms import detect
        from core.second_attempt import SecondAttempt
        from core.shortage import SteppingEngine
        from webapp.audits import Audits
        from webapp.findings import Findings
        from webapp.grids import Grids
        from webapp.guard import Rules
        from webapp.jobs import JobQueue
        from webapp.metrics import Metrics
        from webapp.reruns import Reruns
        from webapp.services import Services
        from webapp.shadow import Shadow
        from webapp.ticket import Ticket

        platform = zero_gpu.platform() if zero_gpu else detect()

        def rerun_worker(conditions: Conditions) -> "WorkerEngine | ZeroGpuEngine":
            folder = Path(reports) / "reruns"
            if zero_gpu:
                return zero_gpu.engine(folder)
            return open_worker(conditions, platform, pictures=folder, lease_folder=place.leases)

        def audit_worker(conditions: Conditions) -> "WorkerEngine | ZeroGpuEngine":
            if zero_gpu:
                return zero_gpu.audit_worker()
            return open_worker(
                conditions, platform, pictures=store.pictures, lease_folder=place.leases
            )

        patient = SecondAttempt(engine) if isinstance(engine, WorkerEngine) else engine
        reruns = Reruns(SteppingEngine(patient, platform), rerun_worker)
        log = Journal()

        def closed(ticket: Ticket) -> None:
            metrics.closed(ticket)
            grids.closed(ticket)
            if journal:
                log.closed(ticket)

        def admit(job: Job, owner: str, kept: bool) -> None:
            policy.limits.refuse(job, lambda: store.stored_bytes(owner) if kept else 0)

        jobs = JobQueue(
            reruns,
            store.add_generation,
            closed=closed,
            admit=admit,
            waiting_per_owner=policy.limits.waiting_jobs,
        )
        grids = Grids(store, jobs)
        rules = None
        if identify is not None:
            rules = Rules(identify=identify, store=store, reports=Path(reports), login=login)
        metrics = Metrics(jobs.census, lambda: engine.pid)
        audits = Audits(store, platform, audit_worker, jobs)
        shadow = Shadow(store, jobs, audits, platform) if policy.twins else None
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
                shadow=shadow,
                metrics=metrics,
                worker=engine if isinstance(engine, WorkerEngine) else None,
                rules=rules,
            )
        finally:
            if shadow is not None:
                shadow.close()
            audits.close()
            jobs.close()
            engine.close()


def open_doors(
    app: "gr.Blocks",
    made: "Services",
    *,
    host: str,
    port: int,
    browser: bool = False,
    root_path: str = "",
) -> None:
    """Serve in threads. Only pictures may be read from disk, and no event of a page is an API."""
    from starlette.middleware import Middleware

    from webapp.guard import Guard
    from webapp.health import router
    from webapp.rest import MOUNT, rest
    from webapp.theme import HEAD, css, theme

    reruns = made.reports / "reruns"
    for folder in (made.store.pictures, reruns):
        folder.mkdir(parents=True, exist_ok=True)
    guard = [] if made.rules is None else [Middleware(Guard, rules=made.rules)]
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
        root_path=root_path,
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
        app_kwargs={"middleware": guard},
    )
    api.include_router(router(made))
    api.mount(MOUNT, rest(made, root_path))


def _until_stopped(made: "Services", seconds: float, log: Callable[..., None]) -> None:
    shutdown = Shutdown()
    try:
        shutdown.wait()
    except KeyboardInterrupt:
        print("Stopping.", flush=True)
        return
    drain(made, seconds, log)


def _unheard(event: str, **fields: object) -> None:
    """Where no journal is kept."""


def examples(file: Path) -> tuple[str, ...]:
    """The audit's prompts: what the shipped model is known to draw."""
    if not file.is_file():
        return ()
    listed = tomllib.loads(file.read_text(encoding="utf-8")).get("prompt", [])
    return tuple(one["prompt"] for one in listed)


def _require_path(root_path: str) -> None:
    if root_path and not re.fullmatch(r"(/[\w.~-]+)+", root_path, re.ASCII):
        raise ValueError(
            f"--root-path is as /seedproof, with a slash before and none behind, not {root_path!r}."
        )


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
