"""Settings that were taken over from a picture, and what of them could not be."""

from dataclasses import dataclass, field

from core.request import Model, Request


@dataclass(frozen=True, kw_only=True)
class Remark:
    """Something of a picture's settings that is not here as it was there."""

    key: str
    value: str
    sentence: str
    """Why, or what stands in its place; without its full stop."""
    left: bool = True
    """Whether it was left behind; else it was taken over with a difference."""


@dataclass(frozen=True, kw_only=True)
class Taken:
    """What a picture's metadata say, as far as it can be done here."""

    request: Request
    settings: dict[str, str] = field(default_factory=dict)
    """Slot → value text, as `configure` takes it."""
    remarks: tuple[Remark, ...] = ()
    program: str = ""
    """What wrote the metadata, in its own words; empty where it does not say."""


def other_model(name: str, model: Model) -> Remark:
    """A picture names weights that are not these."""
    return Remark(
        key="Model",
        value=name,
        sentence=f"the weights here are {model.name}'s, and a picture follows from its weights",
    )
