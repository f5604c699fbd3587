"""The names people know, and the diffusers scheduler behind each."""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from core import schedules
from core.schedules import AUTOMATIC, KARRAS

if TYPE_CHECKING:
    import torch

MOST_STEPS = 500
"""Half of the 1,000 timesteps that Stable Diffusion is trained on. Towards all of them schedules
repeat timesteps: diffusers' UniPC then divides by zero, and its DDIM leaves the table."""


@dataclass(frozen=True, kw_only=True)
class Sampler:
    """A scheduler class, and what is set on top of the model's own scheduler config.

    What is not set here (the spacing of the timesteps, the kind of prediction) is the model's.
    """

    name: str
    scheduler: str
    settings: dict[str, Any] = field(default_factory=dict)
    aliases: tuple[str, ...] = ()
    """Other spellings, as AUTOMATIC1111 and SD.Next write them."""
    ancestral: bool = False
    """Whether every step adds fresh noise."""
    calls_per_step: int = 1
    """UNet calls in each step but the last."""
    own_schedule: str = AUTOMATIC
    """What `Automatic` is for it, where diffusers has a schedule of that name."""
    takes_schedules: bool = True
    """Whether it can step through the levels of any schedule."""


SAMPLERS: tuple[Sampler, ...] = (
    Sampler(name="Euler", scheduler="EulerDiscreteScheduler", aliases=("k_euler",)),
    Sampler(
        name="Euler a",
        scheduler="EulerAncestralDiscreteScheduler",
        aliases=("Euler Ancestral", "k_euler_a", "k_euler_ancestral"),
        ancestral=True,
    ),
    Sampler(
        name="DPM++ 2M Karras",
        scheduler="DPMSolverMultistepScheduler",
        settings={
            "algorithm_type": "dpmsolver++",
            "solver_order": 2,
            "solver_type": "midpoint",
            "use_karras_sigmas": True,
        },
        aliases=("k_dpmpp_2m_ka",),
        own_schedule=KARRAS,
        takes_schedules=False,
    ),
    # Where no schedule is chosen it is the one above: A1111's own choice for it since 1.9.
    Sampler(
        name="DPM++ 2M",
        scheduler="DPMSolverMultistepScheduler",
        settings={
            "algorithm_type": "dpmsolver++",
            "solver_order": 2,
            "solver_type": "midpoint",
            "use_karras_sigmas": True,
        },
        aliases=("k_dpmpp_2m",),
        own_schedule=KARRAS,
    ),
    Sampler(
        name="DDIM",
        scheduler="DDIMScheduler",
        # As Stable Diffusion's own config has it, and AUTOMATIC1111 computes it; a config that a
        # scheduler of another class saved lacks these, and diffusers' defaults would clip latents
        # to -1..1. Its stride is constant, whatever the spacing: only `leading` agrees with that.
        settings={
            "clip_sample": False,
            "set_alpha_to_one": False,
            "steps_offset": 1,
            "timestep_spacing": "leading",
        },
        takes_schedules=False,
    ),
    Sampler(name="Heun", scheduler="HeunDiscreteScheduler", aliases=("k_heun",), calls_per_step=2),
    Sampler(name="LMS", scheduler="LMSDiscreteScheduler", aliases=("k_lms",)),
    Sampler(
        name="UniPC",
        scheduler="UniPCMultistepScheduler",
        settings={"predict_x0": True, "solver_order": 2, "solver_type": "bh2"},
    ),
)


def scheduler_for(name: str, config: Any, schedule: str = AUTOMATIC) -> Any:
    """A new scheduler on top of the model's own config, because schedulers keep state."""
    import diffusers

    sampler, settings = find(name), {}
    if _replaced(sampler, schedule):
        # The first noise is then as large as the first level, and not a little larger.
        settings["timestep_spacing"] = "linspace"
    return getattr(diffusers, sampler.scheduler).from_config(
        config, **{**sampler.settings, **settings}
    )


def set_timesteps(scheduler: Any, name: str, schedule: str, steps: int, device: Any) -> None:
    """Begin anew, at the levels of the schedule."""
    scheduler.set_timesteps(steps, device=device)
    if _replaced(find(name), schedule):
        schedules.put(scheduler, schedules.find(schedule))


def check_schedule(name: str, schedule: str) -> None:
    """Refuse what a sampler cannot step through. Raises ValueError with one sentence."""
    sampler, wanted = find(name), schedules.find(schedule)
    if _replaced(sampler, wanted.name) and not sampler.takes_schedules:
        others = ", ".join(other.name for other in SAMPLERS if other.takes_schedules)
        raise ValueError(
            f"{sampler.name} has noise levels of its own and takes no {wanted.name} schedule: "
            f"leave {AUTOMATIC}, or choose one of {others}."
        )


def _replaced(sampler: Sampler, schedule: str) -> bool:
    """Whether the schedule's levels stand in place of the scheduler's own."""
    return schedules.find(schedule).name not in (AUTOMATIC, sampler.own_schedule)


def find(name: str) -> Sampler:
    """The sampler of that name or alias, in any case. Raises ValueError that lists the names."""
    wanted = " ".join(name.lower().split())
    for sampler in SAMPLERS:
        if wanted in (known.lower() for known in (sampler.name, *sampler.aliases)):
            return sampler
    known = ", ".join(sampler.name for sampler in SAMPLERS)
    raise ValueError(f"Unknown sampler {name!r}: choose one of {known}.")


def sigmas(scheduler: Any) -> list[float]:
    """The noise level of every UNet call, sqrt((1 - ᾱ) / ᾱ): one per entry of `timesteps`.

    DDIM has none of its own, so that they follow from its timesteps. (AUTOMATIC1111 takes the
    timestep itself for the sigma there, and for UniPC.)
    """
    calls = len(scheduler.timesteps)
    if hasattr(scheduler, "sigmas"):
        levels = scheduler.sigmas[:calls]
    else:
        kept = scheduler.alphas_cumprod[scheduler.timesteps.cpu()]
        levels = ((1 - kept) / kept) ** 0.5
    return [float(level) for level in levels]


def estimate(scheduler: Any, moved: "tuple[torch.Tensor, ...]") -> "torch.Tensor":
    """The denoised latents that the last `scheduler.step(…, return_dict=False)` reckoned with.

    DPM++ and UniPC return the next latents alone and keep the estimate for their next steps.
    """
    found: torch.Tensor = moved[1] if len(moved) > 1 else scheduler.model_outputs[-1]
    return found
