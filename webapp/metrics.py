"""What the server does, counted for Prometheus. No prompt, no picture and no person is in it."""

from collections.abc import Callable, Iterator

import psutil
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.openmetrics.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.registry import Collector

from webapp.ticket import CLOSED, Ticket

SECONDS = (0.1, 0.3, 1, 3, 10, 30, 100, 300, 1000)
"""Upper ends of the histograms' buckets: pictures take from tenths of a second to minutes."""


class Metrics:
    """Counts closed tickets, and looks at the queue and the worker whenever it is asked.

    - `waiting`: how many jobs run or wait, by state.
    - `worker`: the process that makes pictures, None while there is none.
    """

    def __init__(
        self, waiting: Callable[[], dict[str, int]], worker: Callable[[], int | None]
    ) -> None:
        self.registry = CollectorRegistry()
        self.registry.register(_Now(waiting, worker))
        self._jobs = Counter(
            "seedproof_jobs", "Jobs that ended, by outcome.", ["outcome"], registry=self.registry
        )
        for outcome in CLOSED:
            self._jobs.labels(outcome)
        self._waited = Histogram(
            "seedproof_job_wait_seconds",
            "Time from asking to the begin of the work.",
            buckets=SECONDS,
            registry=self.registry,
        )
        self._took = Histogram(
            "seedproof_job_run_seconds",
            "Time of the work, of jobs that succeeded, by attention option and precision.",
            ["attention", "precision"],
            buckets=SECONDS,
            registry=self.registry,
        )
        self._memory = Gauge(
            "seedproof_job_peak_bytes",
            "Peak memory of the newest picture; on a CPU the worker's high-water mark.",
            registry=self.registry,
        )

    def closed(self, ticket: Ticket) -> None:
        """Count a ticket that never changes again."""
        self._jobs.labels(ticket.state).inc()
        if ticket.began:
            self._waited.observe(ticket.waited)
        if ticket.state == "ok":
            configuration = ticket.job.configuration
            self._took.labels(
                configuration.get("attention"), configuration.get("precision")
            ).observe(ticket.seconds)
        if ticket.run is not None and ticket.run.memory.peak_bytes is not None:
            self._memory.set(ticket.run.memory.peak_bytes)

    def page(self) -> tuple[bytes, str]:
        """Everything as OpenMetrics text, and its content type."""
        written: bytes = generate_latest(self.registry)  # type: ignore[no-untyped-call]
        return written, CONTENT_TYPE_LATEST


class _Now(Collector):
    """What is true at the moment of asking."""

    def __init__(
        self, waiting: Callable[[], dict[str, int]], worker: Callable[[], int | None]
    ) -> None:
        self._waiting = waiting
        self._worker = worker

    def collect(self) -> Iterator[GaugeMetricFamily]:
        queue = GaugeMetricFamily(
            "seedproof_queue_jobs", "Jobs that have not ended.", labels=["state"]
        )
        for state, count in self._waiting().items():
            queue.add_metric([state], count)
        yield queue
        up = GaugeMetricFamily("seedproof_worker_up", "Whether the worker process lives.")
        bytes_ = GaugeMetricFamily("seedproof_worker_resident_bytes", "Its resident memory.")
        resident = _resident(self._worker())
        up.add_metric([], float(resident is not None))
        yield up
        if resident is not None:
            bytes_.add_metric([], resident)
            yield bytes_


def _resident(pid: int | None) -> int | None:
    """None where there is no such process."""
    if pid is None:
        return None
    try:
        process = psutil.Process(pid)
        if process.status() == psutil.STATUS_ZOMBIE:
            return None
        bytes_: int = process.memory_info().rss
        return bytes_
    except psutil.NoSuchProcess:
        return None
