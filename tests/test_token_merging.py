"""Token merging: who decides what is merged, how much, and what is left behind."""

import copy

import pytest
import tomesd
import torch
from diffusers import StableDiffusionPipeline, UNet2DConditionModel

from core.optimization import Configuration
from core.optimizations import prepare
from core.optimizations.token_merging import SeededMatching
from core.run import SlotEffect
from tests.tiny_run import TinyResult, tiny_job, tiny_run

TOKENS = 16 * 16
LAYERS = 3
"""Self-attention layers at the latents' own size: one down, two up."""


def merging_of(result: TinyResult) -> SlotEffect:
    effect = result.effective.slot("token-merging")
    assert effect is not None
    return effect


def merged(seeds: list[int], tokens: torch.Tensor, draws: int = 1) -> torch.Tensor:
    """Each picture's rows, merged by the last of several draws: (pictures, rows, …)."""
    matching = SeededMatching(0.5, seeds)
    matching.size = (16, 16)
    for _ in range(draws):
        pairs = matching.matching(tokens)
    assert pairs is not None
    return torch.stack([merge(tokens[i :: len(seeds)]) for i, (merge, _) in enumerate(pairs)])


@pytest.fixture(scope="module")
def tokens() -> torch.Tensor:
    """The rows of three pictures, unconditional ones first."""
    return torch.randn(6, TOKENS, 8, generator=torch.Generator().manual_seed(5))


def test_a_picture_is_merged_by_itself(tokens: torch.Tensor) -> None:
    """The middle picture of three, alone with both its rows, gives the same bits."""
    together = merged([5, 7, 9], tokens)
    alone = merged([7], tokens[1::3])
    assert torch.equal(alone[0], together[1])
    moved = merged([7, 5, 9], tokens[[1, 0, 2, 4, 3, 5]])
    assert torch.equal(moved[0], together[1])


def test_the_seed_and_the_call_decide(tokens: torch.Tensor) -> None:
    assert torch.equal(merged([7], tokens[:2]), merged([7], tokens[:2]))
    assert not torch.equal(merged([7], tokens[:2]), merged([8], tokens[:2]))
    assert not torch.equal(merged([7], tokens[:2]), merged([7], tokens[:2], draws=2))


def test_a_step_without_guidance_draws_the_same_numbers(tokens: torch.Tensor) -> None:
    """One row instead of two moves the generator as far: the next step is not disturbed."""
    guided, unguided = SeededMatching(0.5, [7]), SeededMatching(0.5, [7])
    for matching, rows in ((guided, tokens[:2]), (unguided, tokens[:1])):
        matching.size = (16, 16)
        matching.matching(rows)
    assert torch.equal(guided.generators[0].get_state(), unguided.generators[0].get_state())


def test_rows_of_nobody_are_refused(tokens: torch.Tensor) -> None:
    with pytest.raises(ValueError, match="3 rows do not belong to 2 pictures"):
        merged([1, 2], tokens[:3])


def test_seeded_repeats_whatever_happened_before(shared_pipeline: StableDiffusionPipeline) -> None:
    job = tiny_job(token_merging="seeded:0.5")
    first = tiny_run(shared_pipeline, job)
    tiny_run(shared_pipeline, tiny_job(seeds=(8,), token_merging="seeded:0.7"))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(99)
        again = tiny_run(shared_pipeline, job)
    assert torch.equal(first.latents, again.latents)
    assert not torch.equal(first.latents, tiny_run(shared_pipeline, tiny_job()).latents)


def test_seeded_ignores_the_neighbours(shared_pipeline: StableDiffusionPipeline) -> None:
    """In batches of one size: another size alone already changes rounding."""
    here = tiny_run(shared_pipeline, tiny_job(seeds=(1, 2, 3), token_merging="seeded:0.5"))
    there = tiny_run(shared_pipeline, tiny_job(seeds=(1, 8, 9), token_merging="seeded:0.5"))
    assert torch.equal(here.latents[0], there.latents[0])
    assert not torch.equal(here.latents[1], there.latents[1])


def test_fixed_draws_nothing_and_does_not_know_the_seed(tokens: torch.Tensor) -> None:
    """As AUTOMATIC1111 calls tomesd, whatever the picture and however often."""
    here, there = SeededMatching(0.5, [7], fixed=True), SeededMatching(0.5, [8], fixed=True)
    drawn = []
    for matching in (here, here, there):
        matching.size = (16, 16)
        before = matching.generators[0].get_state()
        ((merge, _),) = matching.matching(tokens[:2]) or []
        assert torch.equal(matching.generators[0].get_state(), before)
        drawn.append(merge(tokens[:2]))
    assert torch.equal(drawn[0], drawn[1])
    assert torch.equal(drawn[0], drawn[2])
    assert not torch.equal(drawn[0], merged([7], tokens[:2])[0])


def test_fixed_gives_the_bits_of_tomesd_without_its_randomness(
    tiny_pipeline: StableDiffusionPipeline,
) -> None:
    ours = tiny_run(tiny_pipeline, tiny_job(token_merging="fixed:0.5"))
    tomesd.apply_patch(tiny_pipeline, ratio=0.5, use_rand=False)
    theirs = tiny_run(tiny_pipeline, tiny_job())
    tomesd.remove_patch(tiny_pipeline)
    assert merging_of(ours).effect == "applied"
    assert torch.equal(ours.latents, theirs.latents)
    assert not torch.equal(ours.latents, tiny_run(tiny_pipeline, tiny_job()).latents)


@pytest.mark.parametrize("ratio", [0.3, 0.5, 0.75])
@pytest.mark.parametrize("name", ["seeded", "fixed", "as-shipped"])
def test_tokens_are_counted(
    tiny_pipeline: StableDiffusionPipeline, name: str, ratio: float
) -> None:
    value = f"{name}:{ratio:g}"
    prepare(tiny_pipeline, Configuration((("token-merging", value),)))
    effect = merging_of(tiny_run(tiny_pipeline, tiny_job(seeds=(1, 2), token_merging=value)))
    calls = 2 * LAYERS
    assert effect.effect == "applied"
    assert effect.counts["merge_calls"] == calls
    assert effect.counts["tokens_in"] == calls * TOKENS
    assert effect.counts["tokens_out"] == calls * (TOKENS - int(TOKENS * ratio))
    assert effect.counts["self_attention_calls"] > calls


def test_merging_works_where_guidance_is_skipped(shared_pipeline: StableDiffusionPipeline) -> None:
    job = tiny_job(seeds=(1, 2), token_merging="seeded:0.5", min_sigma="all:0.7")
    result = tiny_run(shared_pipeline, job)
    assert merging_of(result).counts["merge_calls"] == 2 * LAYERS
    assert [slot.effect for slot in result.effective.slots] == ["applied", "applied"]


def test_a_ratio_that_merges_nothing_has_no_effect(
    shared_pipeline: StableDiffusionPipeline,
) -> None:
    result = tiny_run(shared_pipeline, tiny_job(token_merging="seeded:0.001"))
    assert merging_of(result).effect == "none"
    assert "ratio" in merging_of(result).reason
    assert torch.equal(result.latents, tiny_run(shared_pipeline, tiny_job()).latents)


def test_a_model_without_attention_at_full_size_is_not_merged(
    tiny_pipeline: StableDiffusionPipeline,
) -> None:
    """Shaped like SDXL, whose first level has no attention."""
    tiny_pipeline.unet = UNet2DConditionModel(
        sample_size=16,
        block_out_channels=(32, 64),
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        layers_per_block=1,
        attention_head_dim=2,
        cross_attention_dim=32,
        norm_num_groups=8,
    ).eval()
    effect = merging_of(tiny_run(tiny_pipeline, tiny_job(token_merging="seeded:0.5")))
    assert effect.effect == "none"
    assert "16x16" in effect.reason
    assert effect.counts["self_attention_calls"] > 0


def test_as_shipped_gives_another_picture_each_time(
    tiny_pipeline: StableDiffusionPipeline,
) -> None:
    job = tiny_job(token_merging="as-shipped:0.5")
    prepare(tiny_pipeline, job.configuration)
    first = tiny_run(tiny_pipeline, job, sigmas=(1.5,))
    second = tiny_run(tiny_pipeline, job, sigmas=(1.5,))
    assert not torch.equal(first.latents, second.latents)


def test_as_shipped_in_an_odd_batch_is_counted(tiny_pipeline: StableDiffusionPipeline) -> None:
    """tomesd then draws no random numbers, so that the result repeats after all."""
    job = tiny_job(guidance_scale=1.0, token_merging="as-shipped:0.5")
    prepare(tiny_pipeline, job.configuration)
    first, second = tiny_run(tiny_pipeline, job), tiny_run(tiny_pipeline, job)
    assert torch.equal(first.latents, second.latents)
    counts = merging_of(first).counts
    assert counts["merge_calls_with_odd_rows"] == counts["merge_calls"] > 0


def test_removing_as_shipped_gives_the_bits_back(tiny_pipeline: StableDiffusionPipeline) -> None:
    untouched = copy.deepcopy(tiny_pipeline)
    prepare(tiny_pipeline, Configuration((("token-merging", "as-shipped:0.5"),)))
    tomesd.remove_patch(tiny_pipeline)
    restored = tiny_run(tiny_pipeline, tiny_job())
    assert torch.equal(restored.latents, tiny_run(untouched, tiny_job()).latents)
