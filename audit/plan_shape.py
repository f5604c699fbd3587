"""What may stand in a plan's TOML file, and what is wrong with one beyond its shape."""

from collections.abc import Iterable
from typing import Annotated, Literal

from pydantic import BaseModel, Field

from audit.plan import ControlRole
from audit.prompt_file import SHAPE, Prompt
from core.request import PromptSyntax
from core.samplers import find

PlanAxis = Literal["after-other-work", "batch-size", "batch-position", "threads", "instruction-set"]
"""The axes a plan can ask for. The other ones are always tried."""
Side = Annotated[int, Field(ge=8, multiple_of=8)]


class _Table(BaseModel):
    model_config = SHAPE


class Row(_Table):
    """A configuration, and the extra axes it is tried on."""

    settings: dict[str, str] = {}
    axes: list[PlanAxis] = []


class Pictures(_Table):
    """What every request of the plan shares."""

    num_inference_steps: Annotated[int, Field(ge=1, le=1000)]
    guidance_scale: Annotated[float, Field(ge=0, strict=False)]
    prompt_syntax: PromptSyntax = "a1111"
    sampler: str = "Euler"
    width: Side | None = None
    height: Side | None = None
    native_size: bool = False
    """In place of `width` and `height`: the side that the model was trained at."""


class Clusters(_Table):
    count: Annotated[int, Field(ge=1)] | None = None
    """May be left out where prompts or seeds come from a file: as many as the longer one has."""
    prompts: list[str] = []
    prompts_file: str | None = None
    """In place of the shipped prompts; like `seeds_file`, relative to the plan's folder."""
    first_seed: Annotated[int, Field(ge=0)] = 0
    seeds_file: str | None = None
    """In place of `first_seed` and the numbers after it."""
    axis_clusters: Annotated[int, Field(ge=1)] | None = None
    calls: Annotated[int, Field(ge=1)] = 2
    exec_clusters: Annotated[int, Field(ge=0)] = 1
    batch_sizes: list[Annotated[int, Field(ge=2)]] = [2, 4]
    controls: list[ControlRole] = ["ulp-nudge", "other-seed"]
    patience: Annotated[float, Field(ge=0, strict=False)] = 10.0


class TimedBatches(_Table):
    """Batches that are timed in place of the clusters' pictures."""

    prompt: str
    """By name."""
    first_seed: Annotated[int, Field(ge=0)]
    count: Annotated[int, Field(ge=1)] = 1
    """Of a block."""
    size: Annotated[int, Field(ge=1)] = 1
    """Pictures in each."""


class Timing(_Table):
    blocks: Annotated[int, Field(ge=0)] = 4
    sessions: Annotated[int, Field(ge=1)] | Literal["clusters"] = 1
    """`clusters`: one per cluster, see `Plan.cluster_sessions`."""
    batches: TimedBatches | None = None


class Emulated(_Table):
    """A platform that this machine emulates; what is left out is this machine's own."""

    threads: Annotated[int, Field(ge=1)] | None = None
    instruction_set: Literal["AVX512", "AVX2", "DEFAULT"] | None = None


class PlanFile(_Table):
    name: Annotated[str, Field(min_length=1)]
    summary: str = ""
    order_seed: int = 0
    published: str | None = None
    """A file of somebody else's figures (`audit.published`), relative to the plan's folder."""
    request: Pictures
    clusters: Clusters
    timing: Timing = Timing()
    axes: list[PlanAxis] = []
    """Extra axes that every configuration is tried on."""
    baseline: Row = Row()
    candidate: list[Row] = []
    platform: list[Emulated] = []
    published_platforms: str | None = None
    """A folder of figures of other machines (`audit.published`), relative to the plan's folder."""
    prompt: list[Prompt] = []
    """Prompts of this plan's own, beside the shipped ones."""


def mistakes_in(file: PlanFile) -> Iterable[str]:
    """What is wrong beyond the shape of the file."""
    try:
        find(file.request.sampler)
    except ValueError as error:
        yield f"request.sampler: {error}"
    sides = {"width": file.request.width, "height": file.request.height}
    for name, side in sides.items():
        if side is None and not file.request.native_size:
            yield f"request.{name} is missing"
        elif side is not None and file.request.native_size:
            yield f"request.{name} cannot stand beside native_size: leave one of them out"
    for number, platform in enumerate(file.platform, 1):
        if platform.threads is None and platform.instruction_set is None:
            yield f"platform {number} is this machine: give it threads, an instruction_set or both"
    per_cluster = file.timing.sessions == "clusters"
    if per_cluster and file.timing.batches:
        yield "timing.batches need sessions of their own: give a number of sessions"
    sessions = 1 if file.timing.sessions == "clusters" else file.timing.sessions
    if file.timing.blocks and sessions > file.timing.blocks:
        yield (
            f"timing: {file.timing.sessions} sessions cannot share {file.timing.blocks} blocks; "
            "give at least as many blocks as sessions"
        )
