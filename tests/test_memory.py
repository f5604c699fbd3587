"""Slicing and tiling: the bits of diffusers' own, counted where they act, reasons where not."""

import copy

import pytest
import torch
from diffusers import StableDiffusionPipeline
from diffusers.models.attention_processor import Attention, SlicedAttnProcessor

from core.optimizations import applied, configure, prepare
from core.optimizations.memory_format import is_channels_last
from core.platforms import detect
from core.record import Record
from core.run import SlotEffect
from tests.tiny_run import TinyResult, tiny_job, tiny_run


def effect_of(result: TinyResult, slot: str) -> SlotEffect:
    effect = result.effective.slot(slot)
    assert effect is not None
    return effect


@pytest.mark.parametrize(("value", "rows"), [("auto", 1), ("rows:1", 1), ("rows:3", 3)])
def test_sliced_attention_gives_the_bits_of_diffusers(
    shared_pipeline: StableDiffusionPipeline, value: str, rows: int
) -> None:
    """Its two products are what `none` computes; the tiny model has two heads."""
    job = tiny_job(seeds=(1, 2), attention="none", attention_slicing=value)
    ours = tiny_run(shared_pipeline, job)
    theirs = copy.deepcopy(shared_pipeline)
    for layer in theirs.unet.modules():
        if isinstance(layer, Attention):
            layer.set_processor(SlicedAttnProcessor(rows))
    expected = tiny_run(theirs, tiny_job(seeds=(1, 2)))
    assert torch.equal(ours.latents, expected.latents)
    effect = effect_of(ours, "attention-slicing")
    assert effect.effect == "applied"
    calls = 2 * (2 * 3 + 1) * 2
    assert effect.counts == {
        "calls": calls,
        "calls_cut": calls,
        "slices": calls * -(-8 // rows),
        "most_rows": 8,
        "most_rows_of_a_slice": rows,
    }


@pytest.mark.parametrize("attention", ["sdp", "sdp-no-mem", "sub-quadratic", "none"])
def test_the_chosen_kernel_is_given_the_slices(
    shared_pipeline: StableDiffusionPipeline, attention: str
) -> None:
    whole = tiny_run(shared_pipeline, tiny_job(seeds=(1, 2), attention=attention))
    job = tiny_job(seeds=(1, 2), attention=attention, attention_slicing="rows:2")
    sliced = tiny_run(shared_pipeline, job)
    assert torch.allclose(sliced.latents, whole.latents, atol=1e-5)
    effect = effect_of(sliced, "attention")
    assert effect.effect == "applied", effect.reason
    assert effect.counts["unet_calls"] == effect_of(sliced, "attention-slicing").counts["slices"]
    assert effect.counts["unet 1x2x256x16 on 256 keys"] > 0
    assert not any(name.startswith("unet 4x2") for name in effect.counts)


def test_what_has_no_more_rows_is_not_cut(shared_pipeline: StableDiffusionPipeline) -> None:
    job = tiny_job(attention="sdp", attention_slicing="rows:4")
    effect = effect_of(tiny_run(shared_pipeline, job), "attention-slicing")
    assert (effect.effect, effect.reason) == ("none", "no call had more than 4 rows to cut")


def test_without_an_attention_option_there_is_nothing_to_cut_for(
    shared_pipeline: StableDiffusionPipeline,
) -> None:
    effect = effect_of(
        tiny_run(shared_pipeline, tiny_job(attention_slicing="auto")), "attention-slicing"
    )
    assert effect.effect == "none"
    assert effect.counts["layers_left_alone"] == 14
    assert configure({"attention-slicing": "2"}, detect("cpu")).get("attention") == "sdp"


def test_slicing_leaves_the_processors_that_it_found(
    shared_pipeline: StableDiffusionPipeline,
) -> None:
    layers = [m for m in shared_pipeline.unet.modules() if isinstance(m, Attention)]

    def observations() -> list[object]:
        return [layer.processor.observation for layer in layers]

    with applied(shared_pipeline, tiny_job(attention="sdp"), Record()):
        found = observations()
        with applied(shared_pipeline, tiny_job(attention_slicing="auto"), Record()):
            assert observations() != found
        assert observations() == found


def test_slicing_the_vae_decodes_one_picture_at_a_time(
    shared_pipeline: StableDiffusionPipeline,
) -> None:
    result = tiny_run(shared_pipeline, tiny_job(seeds=(1, 2), vae_slicing="on"))
    effect = effect_of(result, "vae-slicing")
    assert effect.effect == "applied"
    assert effect.counts == {"pictures": 2, "decoder_calls": 2, "most_pictures_in_a_call": 1}
    theirs = copy.deepcopy(shared_pipeline)
    theirs.vae.enable_slicing()
    assert torch.equal(tiny_run(theirs, tiny_job(seeds=(1, 2))).pixels, result.pixels)
    alone = effect_of(tiny_run(shared_pipeline, tiny_job(vae_slicing="on")), "vae-slicing")
    assert (alone.effect, "one picture" in alone.reason) == ("none", True)


def test_a_vae_that_does_not_slice_is_found_out(tiny_pipeline: StableDiffusionPipeline) -> None:
    whole = tiny_pipeline.vae._decode
    tiny_pipeline.vae.decode = lambda z, return_dict: (whole(z, return_dict=return_dict)[0],)
    effect = effect_of(
        tiny_run(tiny_pipeline, tiny_job(seeds=(1, 2), vae_slicing="on")), "vae-slicing"
    )
    assert (effect.effect, effect.reason) == ("fell-back", "one call decoded 2 pictures")


@pytest.mark.parametrize(("value", "tile", "calls"), [("auto", 128, 9), ("tiles:192", 192, 4)])
def test_tiles_are_those_of_diffusers(
    shared_pipeline: StableDiffusionPipeline, value: str, tile: int, calls: int
) -> None:
    job = tiny_job(seeds=(1, 2), side=256, vae_tiling=value)
    result = tiny_run(shared_pipeline, job)
    effect = effect_of(result, "vae-tiling")
    assert effect.effect == "applied", effect.reason
    assert effect.counts == {
        "tile_pixels": tile,
        "decoder_calls": calls,
        "largest_side_decoded": tile,
    }
    theirs = copy.deepcopy(shared_pipeline)
    theirs.vae.enable_tiling()
    theirs.vae.tile_sample_min_size, theirs.vae.tile_latent_min_size = tile, tile // 8
    assert torch.equal(tiny_run(theirs, tiny_job(seeds=(1, 2), side=256)).pixels, result.pixels)


def test_a_picture_no_larger_than_a_tile_is_not_tiled(
    shared_pipeline: StableDiffusionPipeline,
) -> None:
    effect = effect_of(tiny_run(shared_pipeline, tiny_job(vae_tiling="auto")), "vae-tiling")
    assert effect.effect == "none"
    assert effect.reason == "the picture (128x128) is not larger than a tile (128)"


def test_slices_and_tiles_of_the_vae_multiply(shared_pipeline: StableDiffusionPipeline) -> None:
    job = tiny_job(seeds=(1, 2), side=256, vae_tiling="auto", vae_slicing="on")
    result = tiny_run(shared_pipeline, job)
    assert effect_of(result, "vae-tiling").counts["decoder_calls"] == 18
    assert {slot.effect for slot in result.effective.slots} == {"applied"}


def test_nothing_decoded_is_no_effect(shared_pipeline: StableDiffusionPipeline) -> None:
    record = Record()
    job = tiny_job(vae_slicing="on", vae_tiling="auto", memory_format="channels-last")
    with applied(shared_pipeline, job, record):
        pass
    assert {(slot.effect, bool(slot.reason)) for slot in record.freeze().slots} == {("none", True)}


def test_formats_are_read_from_strides(tiny_pipeline: StableDiffusionPipeline) -> None:
    job = tiny_job(memory_format="channels-last")
    plain = effect_of(tiny_run(tiny_pipeline, job), "memory-format")
    assert plain.effect == "fell-back"
    # The VAE's attention leaves the channels last for three blocks, also by itself.
    assert plain.counts == {
        "unet_blocks_otherwise": 22,
        "vae_blocks_otherwise": 7,
        "vae_blocks_channels_last": 3,
    }
    assert plain.reason.startswith("29 of 32 outputs")
    prepare(tiny_pipeline, job.configuration)
    prepared = effect_of(tiny_run(tiny_pipeline, job), "memory-format")
    assert prepared.effect == "applied"
    assert prepared.counts == {"unet_blocks_channels_last": 22, "vae_blocks_channels_last": 10}


def test_a_single_pixel_or_channel_tells_nothing() -> None:
    assert is_channels_last(torch.ones(1, 2, 3, 4).to(memory_format=torch.channels_last))
    assert not is_channels_last(torch.ones(1, 2, 3, 4))
    assert not is_channels_last(torch.ones(1, 2, 1, 1).to(memory_format=torch.channels_last))
