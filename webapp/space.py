"""The entry point of a Hugging Face Space: a file that runs from any folder, nothing installed."""

import os
import sys
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parents[1]
BUCKET = "/data"
"""Where a Space's bucket is mounted, if its owner gave it one and set no SEEDPROOF_DATA."""
PLANS = ("smoke", "quick")
LARGEST_UPLOAD = "20mb"


@dataclass(frozen=True, kw_only=True)
class Start:
    """How to start on a Space, as its variables say."""

    name: str
    """The Space's own, `owner/name`; empty elsewhere."""
    host: str
    port: int
    threads: int | None
    """Whole cores it may use; None where nothing says so."""
    bucket: Path = Path(BUCKET)
    """What is kept, if it is mounted, lies in its folder `seedproof`."""
    zero_gpu: bool = False
    """Whether a GPU is there only inside calls."""

    def notice(self, kept: bool) -> str:
        where = f"The Space {self.name}" if self.name else "This server"
        disk = (
            "Pictures and audits are kept in its bucket."
            if kept
            else "Its disk is emptied at every restart: download what you want to keep."
        )
        return f"{where} is shared by everybody who visits. {disk}"


def start(environment: Mapping[str, str]) -> Start:
    """Read a Space's variables. Raises ValueError, in one sentence, where it cannot run there."""
    port = environment.get("GRADIO_SERVER_PORT") or "7860"
    if not port.isdecimal() or not 0 < int(port) < 65536:
        raise ValueError(f"GRADIO_SERVER_PORT is a number from 1 to 65535, not {port!r}.")
    cores = (whole_cores(environment.get(name, "")) for name in ("OMP_NUM_THREADS", "CPU_CORES"))
    return Start(
        name=environment.get("SPACE_ID", ""),
        host=environment.get("GRADIO_SERVER_NAME") or "0.0.0.0",
        port=int(port),
        threads=next((number for number in cores if number is not None), None),
        bucket=Path(environment.get("SEEDPROOF_DATA") or BUCKET),
        zero_gpu=environment.get("SPACES_ZERO_GPU", "").lower() in ("1", "t", "true"),
    )


def whole_cores(text: str) -> int | None:
    """`2` and `2.5` are 2, and so is `2500m`, which counts in thousandths; None for no number."""
    try:
        number = float(text.removesuffix("m")) / (1000 if text.endswith("m") else 1)
        return max(1, int(number)) if number > 0 else None
    except (ValueError, OverflowError):
        return None


def keeps(folder: Path) -> bool:
    """Whether a folder on a mount takes files and lets them be renamed, as pictures are."""
    if not any(place.is_mount() for place in (folder, *folder.parents[:-1])):
        return False
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder, prefix=".seedproof-") as made:
            first = Path(made, "first")
            first.write_bytes(b"x")
            first.replace(Path(made, "second"))
    except OSError:
        return False
    return True


def main() -> int:
    """Serve until stopped. What cannot work is one line on standard error, and 2 is returned."""
    from webapp.waiting import share_cores

    try:
        chosen = start(os.environ)
        if chosen.threads is not None:
            # Read by OpenMP when torch loads, here and in the workers. A machine of many Spaces
            # shows every one of them all of its cores.
            os.environ["OMP_NUM_THREADS"] = str(chosen.threads)
        # For the same reasons as in the terminal.
        os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
        share_cores(os.environ)
        # Before torch, which it changes: outside calls there is no GPU to start.
        decorate = _zero_gpu_decorator() if chosen.zero_gpu else None
        return _serve(chosen, decorate)
    except ValueError as error:
        print(f"seedproof: {error}", file=sys.stderr)
        return 2


def _zero_gpu_decorator() -> Callable[..., Any]:
    """A Space on ZeroGPU has the package; nothing of ours needs it elsewhere."""
    try:
        import spaces
    except ImportError as error:
        raise ValueError(
            "ZeroGPU needs the package spaces, which a Space with the Gradio SDK has by itself: "
            "choose that SDK, or a CPU or a GPU of its own."
        ) from error
    decorator: Callable[..., Any] = spaces.GPU
    return decorator


def _serve(chosen: Start, decorate: Callable[..., Any] | None) -> int:
    from core.database import StoreError
    from webapp.places import places
    from webapp.policy import Policy
    from webapp.server import serve

    kept = keeps(chosen.bucket)
    database = chosen.bucket / "seedproof" / "seedproof.db"
    place = places(database, access="exclusive") if kept else places()
    policy = Policy(
        notice=chosen.notice(kept),
        plans=PLANS,
        largest_upload=LARGEST_UPLOAD,
        metrics=False,
        unload=False,
    )
    zero_gpu = None
    if decorate is not None:
        from webapp.zero_gpu import NO_AUDITS, ZeroGpu

        zero_gpu = ZeroGpu(decorate)
        # Every twin would be paid from somebody's quota.
        policy = replace(policy, plans=(), why_no_plans=NO_AUDITS, twins=False)
    try:
        serve(place, "pocket", host=chosen.host, port=chosen.port, policy=policy, zero_gpu=zero_gpu)
    except StoreError as error:
        raise ValueError(str(error)) from error
    except KeyboardInterrupt:
        pass
    return 0


if __name__ == "__main__":
    # The folder of a script comes first otherwise, and a file in it would hide a package.
    sys.path[0] = str(REPOSITORY)
    # A fork server is not told this process's path, and would import nothing of ours ahead.
    others = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = os.pathsep.join((str(REPOSITORY), *([others] if others else [])))
    sys.exit(main())
