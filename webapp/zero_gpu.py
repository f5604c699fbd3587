"""ZeroGPU, where a GPU is there only inside a call: an engine that works within such calls.

What `spaces.GPU` does with a function (read in spaces 0.51.3; never run on a real ZeroGPU): a call
asks for a GPU for the seconds that `duration` answers to the same arguments, and runs in a process
forked from this one, which may serve several calls. Arguments and results are pickled. What a
generator yields arrives one by one, and closing it ends the work at its next yield.
"""

import math
import threading
from collections import deque
from collections.abc import Callable, Generator
from dataclasses import dataclass, replace
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import torch

from core.diffusion import DiffusersEngine
from core.optimizations import OPTIMIZATIONS, availability
from core.platforms import Platform, detect, one_sentence
from core.request import Following, Job, Watch
from core.run import Environment, Run, unknown_environment

TIMING_CAVEAT = (
    "Taken on ZeroGPU, on a share of a GPU that is handed out for each call: not comparable with "
    "a GPU of one's own."
)
NO_AUDITS = (
    "No audit is offered on ZeroGPU: it needs processes that keep their GPU, and times that can "
    "be compared. Run one on a machine with a GPU of its own."
)
_NO_COMPILER = "ZeroGPU does not support torch.compile"
LONGEST = 120
"""Seconds that a job asks for at most. A visitor without an account has 120 a day."""
_LOOKING = 60
_AROUND = 15.0
"""Seconds for what is not steps: the process, the GPU, loading and saving. Not measured."""
_FIRST_PACE = 1.0
"""Seconds per million pixels and step, until jobs of this start were timed. Not measured."""
_MARGIN = 1.5
_REMEMBERED = 20

Word = tuple[str, Any]
"""What the forked process says: `environment`, `step` or `run`, or `broke` with a sentence."""


class ZeroGpu:
    """The calls that get a GPU. Made once, before the app is launched."""

    def __init__(self, decorate: Callable[..., Any]) -> None:
        """`decorate` is `spaces.GPU`."""
        self._paces = deque([_FIRST_PACE], maxlen=_REMEMBERED)
        self._timed = False
        self._look = decorate(duration=_LOOKING)(look)
        self._work = decorate(duration=self.seconds)(_worker())

    def platform(self) -> Platform:
        """What a GPU of this Space is and can do, by a call that has one.

        Raises ValueError in one sentence where none was given.
        """
        try:
            platform: Platform = self._look()
        except Exception as error:
            raise ValueError(
                f"ZeroGPU gave no GPU at the start ({_told(error)}): restart the Space."
            ) from error
        return platform

    def engine(self, pictures: Path) -> "ZeroGpuEngine":
        return ZeroGpuEngine(self, pictures)

    def audit_worker(self) -> "ZeroGpuEngine":
        """There is none: raises ValueError with the reason."""
        raise ValueError(NO_AUDITS)

    def seconds(self, job: Job, pictures: Path) -> int:
        """How long to ask for a GPU: from steps times pixels, and from how long jobs took here."""
        return min(LONGEST, math.ceil(_AROUND + _MARGIN * max(self._paces) * _work(job)))

    def stream(self, job: Job, pictures: Path) -> Generator[Word, None, None]:
        words: Generator[Word, None, None] = self._work(job, pictures)
        return words

    def took(self, run: Run) -> None:
        """Learn from a job that was finished."""
        if not self._timed:
            self._paces.clear()
            self._timed = True
        self._paces.append(run.timings.picture / _work(run.job))


@dataclass(frozen=True)
class ZeroGpuEngine:
    """Makes every job inside one call. Like a worker it is an engine, and needs no closing."""

    gpu: ZeroGpu
    pictures: Path
    pid: None = None
    """Processes come and go with the calls."""

    def run(self, job: Job, watch: Watch) -> Run:
        """A cancel is heard when a step ends; not while ZeroGPU lets the job wait for a GPU."""
        run = Run(job=job, outcome="failed", environment=unknown_environment("forked"))
        try:
            stream = self.gpu.stream(job, self.pictures)
            for word, value in stream:
                if word == "run":
                    run = value
                elif word == "broke":
                    run = replace(run, reason=value)
                elif word == "environment":
                    run = replace(run, environment=value)
                else:
                    watch.on_step(value)
                    if watch.cancelled():
                        stream.close()
                        return replace(run, outcome="cancelled", reason="Cancelled by the user.")
        except Exception as error:
            asked = self.gpu.seconds(job, self.pictures)
            reason = f"ZeroGPU did not finish this job, which asked for {asked} s: {_told(error)}"
            return replace(run, outcome="failed", reason=reason)
        if run.outcome == "ok":
            self.gpu.took(run)
        return run

    def close(self) -> None:
        """Nothing is kept between calls."""


def look() -> Platform:
    """The platform with an answer for every option, for processes that cannot ask the GPU."""
    platform = _detect_after_a_fork()
    answers = {
        f"{option.slot}={option.name}": _NO_COMPILER
        if option.slot == "compile"
        else availability(option, platform)
        for option in OPTIMIZATIONS
    }
    return replace(platform, answers=answers)


def _detect_after_a_fork() -> Platform:
    """On one thread: OpenMP's others stayed behind in the process that was forked, and whoever
    shares work with them waits for ever."""
    torch.set_num_threads(1)
    return detect()


def _worker() -> Callable[[Job, Path], Generator[Word, None, None]]:
    """The function that gets the GPU; its engine is made in the forked process and stays there."""
    made: list[DiffusersEngine] = []

    def work(job: Job, pictures: Path) -> Generator[Word, None, None]:
        if not made:
            made.append(DiffusersEngine(_detect_after_a_fork(), pictures, process="forked"))
        engine = made[0]
        engine.pictures = pictures
        yield "environment", _marked(engine.environment())
        words: SimpleQueue[Word] = SimpleQueue()
        stop = threading.Event()
        watch = Following(step=lambda event: words.put(("step", event)), stop=stop.is_set)

        def run() -> None:
            try:
                ended = engine.run(job, watch)
                words.put(("run", replace(ended, environment=_marked(ended.environment))))
            except Exception as error:
                words.put(("broke", one_sentence(error)))

        thread = threading.Thread(target=run, name="seedproof-zero-gpu")
        thread.start()
        try:
            word = ""
            while word not in ("run", "broke"):
                word, value = words.get()
                yield word, value
        finally:
            stop.set()
            thread.join()

    return work


def _marked(environment: Environment) -> Environment:
    return replace(environment, timing_caveat=TIMING_CAVEAT)


def _work(job: Job) -> float:
    """Millions of pixels times steps."""
    return sum(r.width * r.height * r.num_inference_steps for r in job.requests) / 1e6


def _told(error: Exception) -> str:
    """What it says. Gradio's own errors, which `spaces` raises, show their text quoted."""
    return " ".join(str(getattr(error, "message", error) or type(error).__name__).split())
