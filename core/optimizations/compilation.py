"""The compile slot: torch.compile for the blocks of the UNet that no other setting looks into.

Residual and feed-forward blocks are compiled, each by itself. Attention layers stay as they are:
inside a compiled graph nobody could say which attention ran (the compiler replaces a textbook
attention by a fused one), and hooks that merge tokens would be compiled away. Modes with CUDA
graphs are not offered: a graph reuses the memory of its outputs, and the skip connections of a
UNet hold those until the other end.
"""

import os
import types
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

import torch

from core.chunks import batch_texts
from core.optimization import Optimization, Slot
from core.optimizations.guidance_batch import is_separate
from core.optimizations.resolution import latent_sizes
from core.platforms import one_sentence
from core.record import Record, SlotRecord
from core.request import Job

if TYPE_CHECKING:
    from diffusers import StableDiffusionPipeline

SHAPES = 64
"""Shapes and circumstances that a block is compiled for, before a further one fails the run."""
IN_THIS_PROCESS: dict[str, Any] = {"compile_threads": 1}
"""No pool of compiler processes, which would outlive a run."""


@dataclass
class Tally:
    """What happened to one block. Holds nothing of the pipeline: the compiler keeps it for good."""

    graphs: int = 0
    compiled_calls: int = 0


@dataclass(frozen=True)
class Ready:
    """What a pipeline's blocks were compiled for: rows, latents' size, length of the prompts, and
    torch's switches."""

    states: set[tuple[Any, ...]] = field(default_factory=set)


class CompiledForward:
    """Stands in place of a block's `forward`, so that hooks around the block stay outside.

    Every block has a code object of its own, because the compiler keeps what it compiled by code
    object, and blocks that share one would soon exhaust its limit. Shapes are static: compiled
    code then depends on what is computed, never on what was computed before.
    """

    def __init__(self, block: torch.nn.Module, options: dict[str, Any], ready: Ready) -> None:
        self.tally = Tally()
        self.ready = ready
        self.calls = 0
        plain: Any = type(block).forward
        own = types.FunctionType(
            plain.__code__.replace(),
            plain.__globals__,
            plain.__name__,
            plain.__defaults__,
            plain.__closure__,
        )
        own.__kwdefaults__ = plain.__kwdefaults__
        self._compiled = torch.compile(
            types.MethodType(own, block),
            backend=_counting(self.tally, options),
            dynamic=False,
            fullgraph=True,
        )

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        self.calls += 1
        return self._compiled(*args, **kwargs)


def _counting(tally: Tally, options: dict[str, Any]) -> Callable[..., Any]:
    """torch's own compiler, with a count of the graphs it made and of the calls that ran one."""

    def compile_graph(graph: torch.fx.GraphModule, inputs: list[torch.Tensor]) -> Any:
        from torch._inductor.compile_fx import compile_fx

        compiled: Any = compile_fx(graph, inputs, config_patches=options)
        tally.graphs += 1

        def run(*args: Any) -> Any:
            tally.compiled_calls += 1
            return compiled(*args)

        return run

    return compile_graph


def blocks_of(unet: torch.nn.Module) -> list[torch.nn.Module]:
    """What is compiled: blocks without attention and without anything that a hook is put on."""
    from diffusers.models.attention import FeedForward
    from diffusers.models.resnet import ResnetBlock2D

    return [m for m in unet.modules() if isinstance(m, ResnetBlock2D | FeedForward)]


def _prepare(
    mode: dict[str, Any], pipeline: "StableDiffusionPipeline", parameter: float | None
) -> None:
    ready = Ready()
    for block in blocks_of(pipeline.unet):
        block.forward = CompiledForward(block, {**IN_THIS_PROCESS, **mode}, ready)


def is_compiled(pipeline: "StableDiffusionPipeline") -> bool:
    forwards = (getattr(module, "forward", None) for module in pipeline.unet.modules())
    return any(isinstance(forward, CompiledForward) for forward in forwards)


@contextmanager
def _patched(
    pipeline: "StableDiffusionPipeline", job: Job, parameter: float | None, record: Record
) -> Iterator[None]:
    """Compile for this job's shapes before anything is timed, then count what runs compiled."""
    import torch._dynamo.config as dynamo

    notes = record.slot("compile", job.configuration.get("compile"))
    found = [getattr(module, "forward", None) for module in pipeline.unet.modules()]
    blocks = [forward for forward in found if isinstance(forward, CompiledForward)]
    with dynamo.patch(recompile_limit=SHAPES):
        before = _totals(blocks)
        tokenizer = pipeline.tokenizer
        keys = batch_texts(tokenizer, job.requests).chunks * tokenizer.model_max_length
        for size in latent_sizes(pipeline, job):
            for rows in _rows(job):
                _warm_up(pipeline, size, rows, keys, blocks)
        start = _totals(blocks)
        try:
            yield
        finally:
            _conclude(notes, before, start, _totals(blocks), len(blocks))


def _totals(blocks: list[CompiledForward]) -> tuple[int, int, int]:
    """Calls of the blocks, those that ran compiled code, and graphs compiled, until now."""
    return (
        sum(block.calls for block in blocks),
        sum(block.tally.compiled_calls for block in blocks),
        sum(block.tally.graphs for block in blocks),
    )


def _rows(job: Job) -> list[int]:
    """The batches that the UNet will be given: with unconditional rows, without, or both."""
    pictures = len(job.requests)
    if job.requests[0].guidance_scale <= 1 or is_separate(job):
        return [pictures]
    skipping = job.configuration.get("min-sigma") != "off"
    return [2 * pictures, pictures] if skipping else [2 * pictures]


def _warm_up(
    pipeline: "StableDiffusionPipeline",
    size: tuple[int, int],
    rows: int,
    keys: int,
    blocks: list[CompiledForward],
) -> None:
    """One UNet call on zeros, where the blocks were not compiled for such a call yet."""
    if not blocks:
        return
    unet = pipeline.unet
    state = (
        rows,
        size,
        keys,
        torch.get_num_threads(),
        torch.get_deterministic_debug_mode(),
        torch.backends.cuda.matmul.allow_tf32,
        torch.backends.cudnn.allow_tf32,
    )
    ready = blocks[0].ready.states
    if state not in ready:
        like = {"device": unet.device, "dtype": unet.dtype}
        words = (rows, keys, unet.config.cross_attention_dim)
        unet(
            torch.zeros(rows, unet.config.in_channels, *size, **like),
            torch.ones((), device=unet.device),
            torch.zeros(words, **like),
            return_dict=False,
        )
        ready.add(state)


def _conclude(
    notes: SlotRecord,
    before: tuple[int, int, int],
    start: tuple[int, int, int],
    end: tuple[int, int, int],
    blocks: int,
) -> None:
    calls, compiled = end[0] - start[0], end[1] - start[1]
    notes.counts["blocks"] = blocks
    notes.counts["block_calls"] = calls
    notes.counts["block_calls_compiled"] = compiled
    notes.counts["graphs_compiled_while_loading"] = start[2] - before[2]
    notes.counts["graphs_compiled_while_running"] = late = end[2] - start[2]
    if not blocks:
        notes.conclude("fell-back", "the UNet that ran had not been compiled")
    elif not calls:
        notes.conclude("none", "no compiled block was called")
    elif compiled < calls:
        notes.conclude(
            "fell-back", f"{calls - compiled} of {calls} calls of blocks did not run compiled code"
        )
    else:
        notes.conclude(
            "applied",
            "residual and feed-forward blocks ran compiled, attention as its own setting has it"
            + (f"; {late} graphs were compiled while the run was timed" if late else ""),
        )


def _small(x: torch.Tensor) -> torch.Tensor:
    return torch.nn.functional.silu(x * 2 + 1).sum(-1)


def probe(device: torch.device, dtype: torch.dtype) -> None:
    """Compile a small function and call it; once per process, then the compiler remembers.

    Its size is the process's own, so that no file of an earlier process stands in for a compiler.
    Raises RuntimeError with the compiler's own reason.
    """
    x = torch.ones(4, 64 + os.getpid() % 2**16, device=device, dtype=dtype) / 64
    try:
        import torch._inductor.config as inductor

        with inductor.patch(IN_THIS_PROCESS), torch.no_grad():
            same = torch.compile(_small, dynamic=False, fullgraph=True)(x)
    except Exception as error:
        inner = getattr(error, "inner_exception", error)
        raise RuntimeError(f"nothing can be compiled here: {one_sentence(inner)}") from error
    if not torch.allclose(same, _small(x), rtol=0.02):
        raise RuntimeError("the compiler's own result was wrong")


def _option(name: str, mode: dict[str, Any], summary: str, changes: str, *needs: str) -> Any:
    return Optimization(
        slot="compile",
        name=name,
        summary=summary,
        changes=changes,
        needs=frozenset(needs),
        probe=probe,
        prepare=partial(_prepare, mode),
        patch=_patched,
    )


COMPILE = Slot(
    name="compile",
    label="Compilation",
    options=(
        _option(
            "default",
            {},
            "torch.compile for the UNet's residual and feed-forward blocks; attention stays.",
            "Minutes of loading, for each picture size and batch size anew; rounding.",
        ),
        _option(
            "max-autotune",
            {"max_autotune": True},
            "The same, and kernels are chosen by trying them out.",
            "More loading; repeatability: what is fastest is measured anew.",
            "cuda",
        ),
    ),
)
