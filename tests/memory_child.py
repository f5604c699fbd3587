"""A process whose memory is limited once the model stands loaded; prints what became of its runs.

`python -m tests.memory_child FOLDER [LIMIT]`: LIMIT is bytes beyond what the process has then.
"""

import json
import resource
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

from core.diffusion import DiffusersEngine
from core.ladder import Choice
from core.models import native_size, resolve
from core.optimizations import configure
from core.planner import plan, probe
from core.platforms import detect
from core.request import Following, Job, Request
from core.run import Run
from core.shortage import run_stepping_down
from webapp.places import REPOSITORY


def main(folder: Path, beyond: int | None) -> dict[str, Any]:
    """Runs at twice the model's own size: as it comes, planned for the limit, stepping down."""
    engine = DiffusersEngine(detect("cpu"), folder)
    model = resolve("pocket", REPOSITORY / "data" / "pocket")
    native = native_size(model)
    asked = Request(prompt="a red apple", model=model, width=2 * native, height=2 * native)
    asked = replace(asked, num_inference_steps=2)
    choice = Choice(configuration=configure({}, engine.platform), batch_size=1)
    measured = engine.run(probe(asked, choice, native, "probe"), Following())
    answers: dict[str, Any] = {"probe": told(measured)}
    loaded = measured.usage.loaded_bytes or 0
    job = Job(id="job", requests=(asked,), configuration=choice.configuration)
    if beyond is not None:
        # Of what is written to and private, as Linux counts it; torch's own threads stand by now.
        has = int(status("VmData")) * 1024
        resource.setrlimit(resource.RLIMIT_DATA, (has + beyond, resource.RLIM_INFINITY))
        made = plan(choice, asked, engine.platform, [measured], loaded + beyond, native)
        answers |= {"sentence": made.sentence, "fits": made.fits}
        planned = replace(job, configuration=made.choice.configuration)
        answers["planned"] = told(engine.run(planned, Following()))
    answers["plain"] = told(engine.run(job, Following()))
    if beyond is not None:
        stepped = run_stepping_down(engine, job, Following(), engine.platform)
        answers["stepped"] = told(stepped[-1])
    return answers


def status(name: str) -> str:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(line.split()[1] for line in lines if line.startswith(f"{name}:"))


def told(run: Run) -> dict[str, Any]:
    return {
        "outcome": run.outcome,
        "reason": run.reason,
        "shortage": run.shortage,
        "notes": run.effective.notes,
        "configuration": run.job.configuration.key,
        "loaded_bytes": run.usage.loaded_bytes,
        "peak_bytes": run.memory.peak_bytes,
        "parts": {part.name: part.peak_bytes for part in run.usage.parts},
    }


if __name__ == "__main__":
    limit = int(sys.argv[2]) if len(sys.argv) > 2 else None
    print(json.dumps(main(Path(sys.argv[1]), limit)))
