"""The token-merging slot: similar latent tokens share one self-attention.

Bolya and Hoffman 2023, "Token Merging for Fast Stable Diffusion" (arXiv:2303.17604), with the
authors' package tomesd. It merges tokens of the picture, never words of the prompt, and only where
the UNet works at the latents' own size.
"""

import hashlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

import tomesd
import torch
from tomesd.merge import bipartite_soft_matching_random2d

from core.optimization import Optimization, Parameter, Patch, Slot
from core.optimizations.unet_calls import watching_unet
from core.record import Record, SlotRecord
from core.request import Job

if TYPE_CHECKING:
    from diffusers import StableDiffusionPipeline
    from diffusers.models.attention import BasicTransformerBlock

STRIDE = 2
"""One token in every 2x2 stays a destination: at most three quarters of them can be merged."""
RATIO = Parameter(label="merge ratio", default=0.5, minimum=0, maximum=0.75, step=0.05)

Resize = Callable[[torch.Tensor], torch.Tensor]
"""Merges (rows, tokens, channels) to fewer tokens, or the way back."""
Destinations = Literal["seeded", "fixed", "as-shipped"]
"""Which token of every 2x2 the others may be merged into: drawn from the picture's seed, always the
first one, or drawn by tomesd's own patch."""


class SeededMatching:
    """Finds what to merge, for each picture by itself.

    A picture's rows are i and P + i of the batch [unconditional x P, conditional x P], or i alone
    where guidance is skipped. Its random numbers come from its own generator, so that neighbours
    in the batch and earlier jobs change nothing; where destinations are `fixed` it draws none.
    """

    def __init__(self, ratio: float, seeds: list[int], fixed: bool = False) -> None:
        self.ratio = ratio
        self.fixed = fixed
        self.generators = [_generator(seed) for seed in seeds]
        self.size = (0, 0)
        """Height and width of the latents of the UNet call at hand."""

    def matching(self, tokens: torch.Tensor) -> list[tuple[Resize, Resize]] | None:
        """For each picture how to merge and unmerge; None where `tokens` are not the latents'.

        `tokens`: (rows, tokens, channels), the block's input, whose likeness decides.
        """
        height, width = self.size
        rows, count, _ = tokens.shape
        merged = int(count * self.ratio)
        if count != height * width or merged == 0:
            return None
        if rows not in (len(self.generators), 2 * len(self.generators)):
            raise ValueError(f"{rows} rows do not belong to {len(self.generators)} pictures")
        return [
            bipartite_soft_matching_random2d(
                tokens[i :: len(self.generators)],
                width,
                height,
                STRIDE,
                STRIDE,
                merged,
                no_rand=self.fixed,
                generator=generator,
            )
            for i, generator in enumerate(self.generators)
        ]


def _generator(seed: int) -> torch.Generator:
    """A CPU generator that follows from a picture's seed without repeating its noise's numbers."""
    digest = hashlib.sha256(f"token merging {seed}".encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:7], "big"))


def _resized(x: torch.Tensor, resizes: list[Resize]) -> torch.Tensor:
    """Each picture's rows through its own function, put back at their places."""
    pictures = len(resizes)
    parts = [resize(x[i::pictures]) for i, resize in enumerate(resizes)]
    return torch.stack(parts, dim=1).flatten(0, 1)


@contextmanager
def _merging(block: "BasicTransformerBlock", seeded: SeededMatching) -> Iterator[None]:
    """Merge around one block's self-attention."""
    unmerges: list[Resize] = []
    merges: list[Resize] = []

    def match(module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        pairs = seeded.matching(_tokens(args, kwargs)) or []
        merges[:] = [merge for merge, _ in pairs]
        unmerges[:] = [unmerge for _, unmerge in pairs]

    def merge(module: Any, args: tuple[Any, ...]) -> tuple[Any, ...] | None:
        return (_resized(args[0], merges), *args[1:]) if merges else None

    def unmerge(module: Any, args: tuple[Any, ...], output: torch.Tensor) -> torch.Tensor | None:
        return _resized(output, unmerges) if unmerges else None

    with ExitStack() as handles:
        for handle in (
            block.register_forward_pre_hook(match, with_kwargs=True),
            block.attn1.register_forward_pre_hook(merge),
            block.attn1.register_forward_hook(unmerge),
        ):
            handles.callback(handle.remove)
        yield


class TokenCount:
    """Counts tokens before and inside self-attention, whoever merged them."""

    def __init__(self, notes: SlotRecord) -> None:
        self.notes = notes
        self.entered = 0

    def enter(self, module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self.entered = _tokens(args, kwargs).shape[1]

    def attend(self, module: Any, args: tuple[Any, ...]) -> None:
        rows, tokens, _ = args[0].shape
        self.notes.counts["self_attention_calls"] += 1
        self.notes.counts["largest_tokens"] = max(self.notes.counts["largest_tokens"], self.entered)
        if tokens < self.entered:
            self.notes.counts["merge_calls"] += 1
            self.notes.counts["tokens_in"] += self.entered
            self.notes.counts["tokens_out"] += tokens
            self.notes.counts["merge_calls_with_odd_rows"] += rows % 2

    def conclude(self, size: tuple[int, int]) -> None:
        counts = self.notes.counts
        height, width = size
        if counts["merge_calls"]:
            self.notes.conclude("applied")
        elif not counts["self_attention_calls"]:
            self.notes.conclude("none", "no self-attention ran")
        elif counts["largest_tokens"] < height * width:
            self.notes.conclude(
                "none",
                f"this model has no self-attention at the latents' own size ({height}x{width}), "
                "the only place where tokens are merged",
            )
        else:
            self.notes.conclude("none", f"the ratio is too small to merge any of {width * height}")


def _tokens(args: tuple[Any, ...], kwargs: dict[str, Any]) -> torch.Tensor:
    """The block's input, (rows, tokens, channels)."""
    tokens: torch.Tensor = args[0] if args else kwargs["hidden_states"]
    return tokens


@contextmanager
def _patched(
    destinations: Destinations,
    pipeline: "StableDiffusionPipeline",
    job: Job,
    parameter: float | None,
    record: Record,
) -> Iterator[None]:
    """Count, and merge; as shipped, `prepare` has done that already."""
    from diffusers.models.attention import BasicTransformerBlock

    notes = record.slot("token-merging", job.configuration.get("token-merging"))
    seeded = SeededMatching(
        RATIO.default if parameter is None else parameter,
        [r.seed for r in job.requests],
        fixed=destinations == "fixed",
    )
    count = TokenCount(notes)

    def see(sample: torch.Tensor) -> None:
        seeded.size = (sample.shape[2], sample.shape[3])

    try:
        with ExitStack() as stack:
            stack.enter_context(watching_unet(pipeline, see))
            for block in pipeline.unet.modules():
                if not isinstance(block, BasicTransformerBlock) or block.only_cross_attention:
                    continue
                if destinations != "as-shipped":
                    stack.enter_context(_merging(block, seeded))
                # After merging, so that it sees what attention really gets.
                for handle in (
                    block.register_forward_pre_hook(count.enter, with_kwargs=True),
                    block.attn1.register_forward_pre_hook(count.attend),
                ):
                    stack.callback(handle.remove)
            yield
    finally:
        count.conclude(seeded.size)


def _prepare_as_shipped(pipeline: "StableDiffusionPipeline", parameter: float | None) -> None:
    """tomesd's own patch, applied once: its generator goes on from picture to picture, as it
    does for everybody who uses the package. Applied anew for each job that would not show."""
    tomesd.apply_patch(pipeline, ratio=RATIO.default if parameter is None else parameter)


def _probe(device: torch.device, dtype: torch.dtype) -> None:
    """Merge and unmerge 16 tokens on the device."""
    tokens = torch.arange(64, device=device, dtype=dtype).reshape(1, 16, 4) + 1
    merge, unmerge = bipartite_soft_matching_random2d(
        tokens, 4, 4, STRIDE, STRIDE, 8, generator=torch.Generator()
    )
    if unmerge(merge(tokens)).shape != tokens.shape:
        raise RuntimeError("unmerging did not give the tokens back")


def _option(name: str, summary: str, changes: str, patch: Patch, **more: Any) -> Optimization:
    return Optimization(
        slot="token-merging",
        name=name,
        summary=summary,
        changes=changes,
        parameter=RATIO,
        probe=_probe,
        patch=patch,
        **more,
    )


SEEDED = _option(
    "seeded",
    "Merges similar tokens before self-attention; the choice follows from each picture's seed.",
    "The picture, more with a higher ratio.",
    partial(_patched, "seeded"),
)
FIXED = _option(
    "fixed",
    "Merges into the first token of every 2x2, as AUTOMATIC1111 does; nothing is drawn.",
    "The picture, more with a higher ratio.",
    partial(_patched, "fixed"),
)
AS_SHIPPED = _option(
    "as-shipped",
    "tomesd's own patch: the choice follows from every picture made before in the process.",
    "The picture, and repeatability: the same seed gives another one each time.",
    partial(_patched, "as-shipped"),
    prepare=_prepare_as_shipped,
    draws=True,
)

TOKEN_MERGING = Slot(
    name="token-merging", label="Token merging", options=(SEEDED, FIXED, AS_SHIPPED)
)
