"""The two-pass slot: a picture begins small, is enlarged, and is refined at its own size.

What A1111 calls hires fix. The first pass has the model's own number of pixels in the shape of the
picture, rounded up to sizes the UNet can halve (its v1.10.1, `processing.py`,
`old_hires_fix_first_pass_dimensions`); what rounding makes too long is cropped, as there. The
second pass is diffusers' image-to-image: of N steps the last int(N x strength), at least one.
"""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING

import torch

from core.optimization import Optimization, Parameter, Slot
from core.optimizations.enlarging import UPSCALERS, Network, Size, Upscaler
from core.optimizations.unet_calls import watching_unet
from core.record import Record, SlotRecord
from core.request import Job

if TYPE_CHECKING:
    from diffusers import StableDiffusionPipeline

STRENGTH = Parameter(label="denoising strength", default=0.5, minimum=0.05, maximum=1, step=0.05)


def first_size(size: Size, native: int, step: int) -> Size | None:
    """The size of the first pass for a picture: about native² pixels, sides in multiples of `step`.
    None where that is not smaller than the picture on both sides."""
    scale = native / math.sqrt(size[0] * size[1])
    # Rounded before it is rounded up, because 192 x (128 / 192) is a little more than 128.
    width, height = (math.ceil(round(side * scale / step, 6)) * step for side in size)
    return (width, height) if width < size[0] and height < size[1] else None


def refining_steps(num_inference_steps: int, strength: float) -> int:
    """As diffusers counts them, and at least one."""
    return max(1, min(num_inference_steps, int(num_inference_steps * strength)))


class TwoPasses:
    """What the denoising loop does between its passes, and the account of it."""

    def __init__(
        self,
        pipeline: "StableDiffusionPipeline",
        job: Job,
        upscaler: Upscaler,
        network: Network | None,
        first: Size,
        strength: float,
    ) -> None:
        asked = job.requests[0]
        self.pipeline = pipeline
        self.upscaler = upscaler
        self.network = network
        """What the upscaler enlarges with, where it is a network."""
        self.first_size = first
        self.size = (asked.width, asked.height)
        self.refining_steps = refining_steps(asked.num_inference_steps, strength)
        """Of the second pass."""
        self.sigma: float | None = None
        """The noise level at which refining began."""
        self.steps = [0, 0]
        """Run so far in each pass."""
        self.calls: dict[Size, int] = {}
        """UNet calls by the picture size that their sample belongs to."""

    def enlarge(self, latents: torch.Tensor, sigma: float) -> torch.Tensor:
        """The second pass's latents without noise; `sigma` is the noise that will be added."""
        self.sigma = sigma
        return self.upscaler.enlarge(self.pipeline, latents, self.size, self.network)

    def stepped(self) -> None:
        """Told after every step."""
        self.steps[0 if self.sigma is None else 1] += 1

    def see(self, sample: torch.Tensor) -> None:
        factor = self.pipeline.vae_scale_factor
        size = (sample.shape[3] * factor, sample.shape[2] * factor)
        self.calls[size] = self.calls.get(size, 0) + 1

    def conclude(self, notes: SlotRecord) -> None:
        counts = notes.counts
        for name, (width, height) in (("first", self.first_size), ("second", self.size)):
            counts[f"{name}_pass_width"], counts[f"{name}_pass_height"] = width, height
        counts["first_pass_steps"], counts["second_pass_steps"] = self.steps
        counts["first_pass_unet_calls"] = self.calls.get(self.first_size, 0)
        counts["second_pass_unet_calls"] = self.calls.get(self.size, 0)
        if self.network is not None:
            counts["upscaler_calls"] = self.network.calls
            counts["upscaler_factor"] = self.network.factor
            notes.weights_sha256 = self.network.sha256
        others = sum(self.calls.values()) - sum(
            self.calls.get(size, 0) for size in (self.first_size, self.size)
        )
        if self.sigma is not None:
            # A whole number would round the sigma: the counter holds it as it is.
            counts["refining_began_at_sigma"] = self.sigma  # type: ignore[assignment]
        if others:
            notes.conclude("fell-back", f"{others} UNet calls had a size that is no pass's")
        elif not counts["first_pass_unet_calls"]:
            notes.conclude("none", "the UNet was not called in the first pass's size")
        elif not counts["second_pass_unet_calls"]:
            notes.conclude("none", "the run ended before the second pass called the UNet")
        elif self.network is not None and not self.network.calls:
            notes.conclude("fell-back", "the upscaler's network was not called")
        else:
            notes.conclude("applied")


@contextmanager
def _patched(
    upscaler: Upscaler,
    pipeline: "StableDiffusionPipeline",
    job: Job,
    parameter: float | None,
    record: Record,
) -> Iterator[TwoPasses | None]:
    notes = record.slot("two-pass", job.configuration.get("two-pass"))
    asked = job.requests[0]
    size = (asked.width, asked.height)
    native, step = _sizes(pipeline)
    first = first_size(size, native, step)
    if first is None:
        notes.counts["own_side_of_the_model"] = native
        try:
            yield None
        finally:
            notes.conclude(
                "none",
                f"the picture ({size[0]}x{size[1]}) is not larger on both sides than a first pass "
                f"with as many pixels as the model's own size ({native}x{native})",
            )
        return
    network = None
    if upscaler.network is not None:
        network = upscaler.network(asked.model.path, pipeline._execution_device)
    strength = STRENGTH.default if parameter is None else parameter
    passes = TwoPasses(pipeline, job, upscaler, network, first, strength)
    try:
        with watching_unet(pipeline, passes.see):
            yield passes
    finally:
        passes.conclude(notes)


def _sizes(pipeline: "StableDiffusionPipeline") -> tuple[int, int]:
    """The side the model was trained at, and what sides are multiples of, in pixels."""
    config, factor = pipeline.unet.config, pipeline.vae_scale_factor
    return config.sample_size * factor, factor << (len(config.block_out_channels) - 1)


def latent_sizes(pipeline: "StableDiffusionPipeline", job: Job) -> list[tuple[int, int]]:
    """Height and width of the latents of every pass of a job."""
    asked, factor = job.requests[0], pipeline.vae_scale_factor
    sizes = [(asked.width, asked.height)]
    if job.configuration.get("two-pass") != "off" and (
        first := first_size(sizes[0], *_sizes(pipeline))
    ):
        sizes.insert(0, first)
    return [(height // factor, width // factor) for width, height in sizes]


TWO_PASS = Slot(
    name="two-pass",
    label="Two passes",
    options=tuple(
        Optimization(
            slot="two-pass",
            name=upscaler.name,
            summary=upscaler.summary,
            changes=upscaler.changes,
            parameter=STRENGTH,
            probe=upscaler.probe,
            lacks=upscaler.lacks,
            patch=partial(_patched, upscaler),
        )
        for upscaler in UPSCALERS
    ),
)
