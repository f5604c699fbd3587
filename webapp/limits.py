"""How much one person may ask of a server: kept when a job is asked for, whoever asks for it."""

import re
import tomllib
from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path

from core.request import Job

_UNITS = {"": 1, "kb": 10**3, "mb": 10**6, "gb": 10**9, "tb": 10**12}


class OverLimit(ValueError):
    """The text is for who asked: what is too much, how much may be, and what to do."""


@dataclass(frozen=True, kw_only=True)
class Limits:
    """None is no limit. They hold for everybody, admins too."""

    width: int | None = None
    """Pixels; so is `height`."""
    height: int | None = None
    num_inference_steps: int | None = None
    batch_size: int | None = None
    """Pictures in one job."""
    waiting_jobs: int = 8
    """Of one owner."""
    stored_bytes: int | None = None
    """Of one owner's picture files together."""

    @property
    def sentence(self) -> str:
        """What a form says beforehand; empty where nothing of it is limited."""
        sides = (("wide", self.width), ("high", self.height))
        parts = [f"{most} pixels {word}" for word, most in sides if most is not None]
        if self.num_inference_steps is not None:
            parts.append(f"{self.num_inference_steps} steps")
        return f"On this server at most: {', '.join(parts)}." if parts else ""

    def refuse(self, job: Job, stored: Callable[[], int]) -> None:
        """Raises OverLimit; `stored` counts the owner's bytes, and is asked last."""
        for request in job.requests:
            sides = (("wide", request.width, self.width), ("high", request.height, self.height))
            for word, asked, most in sides:
                if most is not None and asked > most:
                    raise OverLimit(
                        f"A picture here is at most {most} pixels {word}, not {asked}: choose a "
                        "smaller size."
                    )
            most = self.num_inference_steps
            if most is not None and request.num_inference_steps > most:
                raise OverLimit(
                    f"A picture here has at most {most} steps, not {request.num_inference_steps}: "
                    "choose fewer."
                )
        if self.batch_size is not None and len(job.requests) > self.batch_size:
            raise OverLimit(
                f"A job here has at most {self.batch_size} pictures, not {len(job.requests)}: ask "
                "for fewer at once."
            )
        if self.stored_bytes is not None and (kept := stored()) >= self.stored_bytes:
            raise OverLimit(
                f"Your pictures take {_megabytes(kept)} of the {_megabytes(self.stored_bytes)} "
                "that you may keep here: delete some on the History page, and try again."
            )


def read_limits(file: Path) -> Limits:
    """From a TOML file with these names. Raises ValueError with one sentence."""
    try:
        read = tomllib.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ValueError(f"The limits in {file} cannot be read: {error}.") from None
    known = [field.name for field in fields(Limits)]
    if unknown := sorted(set(read) - set(known)):
        raise ValueError(f"{file} has {unknown[0]!r}, which is no limit: {', '.join(known)} are.")
    return Limits(**{name: _number(name, value, file) for name, value in read.items()})


def _number(name: str, value: object, file: Path) -> int:
    """A whole number from 1; bytes may have a unit."""
    found = value
    if name == "stored_bytes" and isinstance(value, str):
        parts = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([kmgt]?b|)", value.strip().lower())
        found = int(float(parts[1]) * _UNITS[parts[2]]) if parts and parts[2] != "b" else None
    if not isinstance(found, int) or isinstance(found, bool) or found < 1:
        example = ' or a size such as "2GB"' if name == "stored_bytes" else ""
        raise ValueError(f"{name} in {file} is a whole number from 1{example}, not {value!r}.")
    return found


def _megabytes(count: int) -> str:
    return f"{count / 1e9:.2f} GB" if count >= 1e9 else f"{count / 1e6:.1f} MB"
