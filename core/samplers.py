"""The names people know, and the diffusers scheduler behind each."""

from dataclasses import dataclass, field
from typing import Any

import diffusers


@dataclass(frozen=True, kw_only=True)
class Sampler:
    """A scheduler class, and what is set on top of the model's own scheduler config."""

    name: str
    scheduler: str
    settings: dict[str, Any] = field(default_factory=dict)


SAMPLERS: tuple[Sampler, ...] = (Sampler(name="Euler", scheduler="EulerDiscreteScheduler"),)


def scheduler_for(name: str, config: Any) -> Any:
    """A new scheduler, because schedulers keep state between steps.

    Raises ValueError that lists the names where the name is unknown.
    """
    for sampler in SAMPLERS:
        if sampler.name.lower() == name.lower():
            scheduler = getattr(diffusers, sampler.scheduler)
            return scheduler.from_config(config, **sampler.settings)
    known = ", ".join(sampler.name for sampler in SAMPLERS)
    raise ValueError(f"Unknown sampler {name!r}: choose one of {known}.")
