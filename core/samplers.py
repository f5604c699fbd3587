"""The names people know, and the diffusers scheduler behind each."""

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Sampler:
    """A scheduler class, and what is set on top of the model's own scheduler config."""

    name: str
    scheduler: str
    settings: dict[str, Any] = field(default_factory=dict)


SAMPLERS: tuple[Sampler, ...] = (Sampler(name="Euler", scheduler="EulerDiscreteScheduler"),)


def scheduler_for(name: str, config: Any) -> Any:
    """A new scheduler on top of the model's own config, because schedulers keep state."""
    import diffusers

    sampler = find(name)
    return getattr(diffusers, sampler.scheduler).from_config(config, **sampler.settings)


def find(name: str) -> Sampler:
    """The sampler of that name. Raises ValueError that lists the names where it is unknown."""
    for sampler in SAMPLERS:
        if sampler.name.lower() == name.lower():
            return sampler
    known = ", ".join(sampler.name for sampler in SAMPLERS)
    raise ValueError(f"Unknown sampler {name!r}: choose one of {known}.")
