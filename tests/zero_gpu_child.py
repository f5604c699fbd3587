"""A process that makes pictures through the fake of ZeroGPU, and tells of them in JSON."""

import json
import os
import sys
import time
from pathlib import Path
from types import SimpleNamespace


def main(model_path: Path, folder: Path) -> None:
    import spaces
    from gradio.context import LocalContext

    from core.models import resolve
    from core.optimizations import OPTIMIZATIONS, SLOTS, availability, configure
    from core.platforms import detect
    from core.request import Following, Job, Request
    from webapp.jobs import JobQueue
    from webapp.zero_gpu import ZeroGpu

    model = resolve(str(model_path), Path("unused"))
    gpu = ZeroGpu(spaces.GPU)
    platform = gpu.platform()
    # Probing here starts OpenMP's threads, as anything in an app's own process may: what is forked
    # from now on has none of them.
    here = detect()
    told = {"here": here.device_name, "there": platform.device_name, "threads": platform.threads}
    options = [option for option in OPTIMIZATIONS if option.slot != "compile"]
    told["answers"] = len(platform.answers)
    told["compile"] = availability(SLOTS[_compile(SLOTS)].options[0], platform)
    told["same"] = all(
        (availability(option, platform) is None) == (availability(option, here) is None)
        for option in options
    )
    engine = gpu.engine(folder / "pictures")

    def job(name: str, steps: int = 2, side: int = 128, **settings: str) -> Job:
        asked = Request(prompt="a", model=model, num_inference_steps=steps, width=side, height=side)
        return Job(id=name, requests=(asked,), configuration=configure(settings, platform))

    steps: list[int] = []
    seen = Following(step=lambda event: steps.append(event.step))
    told["runs"] = [
        _told(engine.run(one, seen))
        for one in (job("first"), job("second"), job("large", side=256, steps=3))
    ]
    told["steps"] = list(steps)
    told["elsewhere"] = _told(gpu.engine(folder / "others").run(job("other"), seen))

    steps.clear()
    stopping = Following(step=lambda event: steps.append(event.step), stop=lambda: len(steps) >= 2)
    told["cancelled"] = _told(engine.run(job("long", steps=60), stopping))
    told["steps_until_cancelled"] = len(steps)
    told["after"] = _told(engine.run(job("after"), Following()))

    spaces.REFUSALS.append("You have exceeded your ZeroGPU quota.")
    told["refused"] = _told(engine.run(job("refused"), Following()))

    def die(event: object) -> None:
        os.kill(int(told["runs"][0]["process"].split("-")[1]), 9)

    told["killed"] = _told(engine.run(job("killed", steps=60), Following(step=die)))
    told["replaced"] = _told(engine.run(job("replaced"), Following()))

    LocalContext.request.set(SimpleNamespace(headers={"x-ip-token": "ann's"}))
    queue = JobQueue(engine)
    queue.submit(job("ann"), "ann")
    LocalContext.request.set(None)
    while not queue.look("ann").closed:  # type: ignore[union-attr]
        time.sleep(0.01)
    told["queued"] = queue.look("ann").state  # type: ignore[union-attr]
    queue.close()
    told["calls"] = spaces.LOG
    json.dump(told, sys.stdout)


def _compile(slots: tuple) -> int:  # type: ignore[type-arg]
    return [slot.name for slot in slots].index("compile")


def _told(run: object) -> dict[str, object]:
    return {
        "outcome": run.outcome,  # type: ignore[attr-defined]
        "reason": run.reason,  # type: ignore[attr-defined]
        "process": run.environment.process_id,  # type: ignore[attr-defined]
        "kind": run.environment.process,  # type: ignore[attr-defined]
        "before": run.environment.calls_before,  # type: ignore[attr-defined]
        "caveat": run.environment.timing_caveat,  # type: ignore[attr-defined]
        "digests": [p.pixels_sha256 for p in run.pictures],  # type: ignore[attr-defined]
        "paths": [str(p.path) for p in run.pictures],  # type: ignore[attr-defined]
    }


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
