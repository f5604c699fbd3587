"""The slots that take less memory by doing one after the other what is usually done at once."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

import torch

from core.optimization import Optimization, Parameter, Slot
from core.optimizations.attention.processor import Processor
from core.record import Record, SlotRecord
from core.request import Job

if TYPE_CHECKING:
    from diffusers import StableDiffusionPipeline
    from diffusers.models.attention_processor import Attention

ROWS = Parameter(
    label="number of rows (pictures x heads)",
    default=1,
    minimum=1,
    maximum=64,
    step=1,
    stepped=True,
)
TILE = Parameter(
    label="tile side in pixels", default=256, minimum=32, maximum=1024, step=32, stepped=True
)


class RowSlices:
    """Hands the attention option a few of (batch x heads) rows at a time, and joins the results.

    Stands where a processor keeps its observation. What diffusers' `SlicedAttnProcessor` does,
    with whatever kernel was chosen instead of its own two products.
    """

    def __init__(self, observation: Any, rows: int, notes: SlotRecord) -> None:
        self.observation = observation
        self.rows = rows
        self.notes = notes

    def call(
        self, part: Any, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, scale: float
    ) -> torch.Tensor:
        """(batch, heads, tokens, head_dim), like the kernel's own; it sees a batch of one with
        `rows` heads, or with those that are left."""
        slices = zip(
            *(x.flatten(0, 1).unsqueeze(0).split(self.rows, 1) for x in (query, key, value)),
            strict=True,
        )
        out = [self.observation.call(part, q, k, v, scale) for q, k, v in slices]
        counts = self.notes.counts
        counts["calls"] += 1
        counts["calls_cut"] += len(out) > 1
        counts["slices"] += len(out)
        counts["most_rows"] = max(counts["most_rows"], query.shape[0] * query.shape[1])
        counts["most_rows_of_a_slice"] = max(counts["most_rows_of_a_slice"], out[0].shape[1])
        return torch.cat(out, 1).view(query.shape)


@contextmanager
def _attention_sliced(
    half_the_heads: bool,
    pipeline: "StableDiffusionPipeline",
    job: Job,
    parameter: float | None,
    record: Record,
) -> Iterator[None]:
    """Get between the UNet's processors and the attention option, which is patched already."""
    notes = record.slot("attention-slicing", job.configuration.get("attention-slicing"))
    former = []
    try:
        for layer in _attention_layers(pipeline):
            if not isinstance(layer.processor, Processor):
                notes.counts["layers_left_alone"] += 1
                continue
            processor: Any = layer.processor
            rows = max(1, layer.heads // 2) if half_the_heads else int(parameter or ROWS.default)
            former.append((processor, processor.observation))
            processor.observation = RowSlices(processor.observation, rows, notes)
        yield
    finally:
        for processor, observation in former:
            processor.observation = observation
        counts = notes.counts
        if counts["calls_cut"]:
            notes.conclude("applied")
        elif counts["calls"]:
            notes.conclude("none", f"no call had more than {counts['most_rows']} rows to cut")
        else:
            notes.conclude("none", "no attention call of the UNet came through the setting")


def _attention_layers(pipeline: "StableDiffusionPipeline") -> Iterator["Attention"]:
    from diffusers.models.attention_processor import Attention

    return (layer for layer in pipeline.unet.modules() if isinstance(layer, Attention))


@contextmanager
def _watching_decoder(
    pipeline: "StableDiffusionPipeline", seen: list[tuple[int, ...]]
) -> Iterator[None]:
    """Note the shape of the latents, (pictures, channels, height, width), of every call of the
    VAE's decoder: slicing and tiling stand before it."""

    def before(module: Any, args: tuple[Any, ...]) -> None:
        seen.append(tuple(args[0].shape))

    handle = pipeline.vae.decoder.register_forward_pre_hook(before)
    try:
        yield
    finally:
        handle.remove()


@contextmanager
def _set(thing: Any, **attributes: Any) -> Iterator[None]:
    with ExitStack() as stack:
        for name, value in attributes.items():
            stack.callback(setattr, thing, name, getattr(thing, name))
            setattr(thing, name, value)
        yield


@contextmanager
def _vae_sliced(
    pipeline: "StableDiffusionPipeline", job: Job, parameter: float | None, record: Record
) -> Iterator[None]:
    """diffusers' `enable_slicing`: the VAE decodes one picture of the batch after another."""
    notes = record.slot("vae-slicing", job.configuration.get("vae-slicing"))
    seen: list[tuple[int, ...]] = []
    try:
        with _set(pipeline.vae, use_slicing=True), _watching_decoder(pipeline, seen):
            yield
    finally:
        pictures = len(job.requests)
        notes.counts["pictures"] = pictures
        notes.counts["decoder_calls"] = len(seen)
        notes.counts["most_pictures_in_a_call"] = most = max((s[0] for s in seen), default=0)
        if not seen:
            notes.conclude("none", "nothing was decoded")
        elif pictures == 1:
            notes.conclude("none", "a batch of one picture leaves nothing to cut")
        elif most > 1:
            notes.conclude("fell-back", f"one call decoded {most} pictures")
        else:
            notes.conclude("applied")


@contextmanager
def _vae_tiled(
    own_size: bool,
    pipeline: "StableDiffusionPipeline",
    job: Job,
    parameter: float | None,
    record: Record,
) -> Iterator[None]:
    """diffusers' `enable_tiling`: tiles that overlap by a quarter, blended where they meet."""
    notes = record.slot("vae-tiling", job.configuration.get("vae-tiling"))
    vae: Any = pipeline.vae
    factor = pipeline.vae_scale_factor
    tile = int(vae.tile_latent_min_size if own_size else (parameter or TILE.default) // factor)
    seen: list[tuple[int, ...]] = []
    tiled = _set(
        vae, use_tiling=True, tile_latent_min_size=tile, tile_sample_min_size=tile * factor
    )
    try:
        with tiled, _watching_decoder(pipeline, seen):
            yield
    finally:
        side = max((max(shape[2:]) for shape in seen), default=0)
        notes.counts["tile_pixels"] = tile * factor
        notes.counts["decoder_calls"] = len(seen)
        notes.counts["largest_side_decoded"] = side * factor
        first = job.requests[0]
        if not seen:
            notes.conclude("none", "nothing was decoded")
        elif side > tile:
            notes.conclude("fell-back", f"a side of {side * factor} pixels was decoded at once")
        elif max(first.width, first.height) <= tile * factor:
            notes.conclude(
                "none",
                f"the picture ({first.width}x{first.height}) is not larger than a tile "
                f"({tile * factor})",
            )
        else:
            notes.conclude("applied")


ATTENTION_SLICING = Slot(
    name="attention-slicing",
    label="Attention slicing",
    options=(
        Optimization(
            slot="attention-slicing",
            name="auto",
            summary="The UNet's attention takes half of the heads of one picture at a time.",
            changes="Time.",
            patch=partial(_attention_sliced, True),
        ),
        Optimization(
            slot="attention-slicing",
            name="rows",
            summary="The UNet's attention takes this many rows at a time; a picture has one per "
            "head, twice with guidance.",
            changes="Time, more with fewer rows.",
            parameter=ROWS,
            patch=partial(_attention_sliced, False),
        ),
    ),
)

VAE_SLICING = Slot(
    name="vae-slicing",
    label="VAE slicing",
    options=(
        Optimization(
            slot="vae-slicing",
            name="on",
            summary="The pictures of a batch are decoded one after another.",
            changes="Time; nothing for a single picture.",
            patch=_vae_sliced,
        ),
    ),
)

VAE_TILING = Slot(
    name="vae-tiling",
    label="VAE tiling",
    options=(
        Optimization(
            slot="vae-tiling",
            name="auto",
            summary="Pictures larger than the size the VAE was made for are decoded in tiles.",
            changes="The picture, where tiles meet and in its overall tone.",
            patch=partial(_vae_tiled, True),
        ),
        Optimization(
            slot="vae-tiling",
            name="tiles",
            summary="Pictures larger than this are decoded in tiles of this size.",
            changes="The picture, more with smaller tiles.",
            parameter=TILE,
            patch=partial(_vae_tiled, False),
        ),
    ),
)
