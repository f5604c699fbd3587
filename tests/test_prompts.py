"""Prompts as embeddings: against a float64 reference, diffusers' own bits, and a whole run."""

import copy
import dataclasses
import json
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import StableDiffusionPipeline

from core.chunks import Chunk
from core.diffusion import DiffusersEngine
from core.infotext import infotext
from core.models import resolve, tokenizer
from core.optimizations import SLOTS, compilation, configure
from core.optimizations.compilation import CompiledForward, Ready, Tally
from core.picture_file import read
from core.platforms import detect
from core.prompts import _weighted, encode
from core.receipt import load
from core.record import Record
from core.request import Following, Job, PromptSyntax, Request
from core.run import Effective, Run, TextSize
from core.serialization import dump as stored
from core.serialization import load as loaded
from tests.fake_engine import MODEL
from tests.tiny_run import tiny_job
from webapp import cli_generate, run_card
from webapp.places import REPOSITORY
from webapp.token_counter import TokenCounter

Layout = list[list[tuple[str, float]]]
"""Words with their weights, chunk by chunk: written by hand."""


def asked(prompt: str, negative: str = "", syntax: PromptSyntax = "a1111", **more: Any) -> Request:
    return dataclasses.replace(
        Request(prompt=prompt, negative_prompt=negative, prompt_syntax=syntax, model=MODEL), **more
    )


# Against a reference in float64, which is given the tokens' places by hand


def reference(pipeline: StableDiffusionPipeline, layout: Layout, chunks: int) -> np.ndarray:
    """(77 · chunks, width) in float64. Letters are tokens, and a word's last one is another."""
    vocabulary = pipeline.tokenizer.get_vocab()
    encoder = copy.deepcopy(pipeline.text_encoder).double()
    parts = []
    for words in [*layout, *[[]] * (chunks - len(layout))]:
        ids, weights = [512], [1.0]
        for word, weight in words:
            ids += [vocabulary[letter] for letter in word[:-1]] + [vocabulary[f"{word[-1]}</w>"]]
            weights += [weight] * len(word)
        missing = 77 - len(ids)
        ids, weights = ids + [513] * missing, weights + [1.0] * missing
        with torch.no_grad():
            hidden = encoder(torch.tensor([ids]))[0][0].numpy()
        heavier = np.array(weights)[:, None] * hidden
        parts.append(heavier * (hidden.mean() / heavier.mean()))
    return np.concatenate(parts)


@pytest.mark.parametrize(
    ("prompt", "layout"),
    [
        ("a (cat:1.5), [dog]", [[("a", 1), ("cat", 1.5), (",", 1), ("dog", 1 / 1.1)]]),
        (r"(no \(so:0.7) wet\)", [[("no", 0.7), ("(", 0.7), ("so", 0.7), ("wet", 1), (")", 1)]]),
        ("(tall ship:1.3) BREAK islands", [[("tall", 1.3), ("ship", 1.3)], [("islands", 1)]]),
        ("fog BREAK BREAK (sea:0)", [[("fog", 1)], [], [("sea", 0)]]),
        (
            "x" * 60 + ", (" + "y" * 20 + ":0.6)",
            [[("x" * 60, 1), (",", 1)], [("y" * 20, 0.6)]],
        ),
        ("no (weight:1.0) here", [[("no", 1), ("weight", 1), ("here", 1)]]),
    ],
)  # fmt: skip
def test_embeddings_are_those_of_a_float64_reference(
    shared_pipeline: StableDiffusionPipeline, prompt: str, layout: Layout
) -> None:
    negative: Layout = [[("grey", 1.1)], [("wet", 1)]]
    chunks = max(2, len(layout))
    with torch.no_grad():
        rows = encode(shared_pipeline, (asked(prompt, "(grey) BREAK wet"),), Record()).numpy()
    assert rows.shape == (2, 77 * chunks, 32)
    for row, expected in zip(rows, (negative, layout), strict=True):
        whole = reference(shared_pipeline, expected, chunks)
        # Chunk by chunk, so that none hides behind another.
        for part, exact in zip(np.split(row, chunks), np.split(whole, chunks), strict=True):
            assert np.linalg.norm(part - exact) <= 1e-5 * np.linalg.norm(exact)


def test_the_reference_can_tell_a_mean_that_was_not_restored(
    shared_pipeline: StableDiffusionPipeline,
) -> None:
    """Otherwise the test above would pass without it."""
    with torch.no_grad():
        plain, heavy = (
            encode(shared_pipeline, (asked(prompt, guidance_scale=1),), Record()).double()
            for prompt in ("cat", "(cat:1.5)")
        )
    assert heavy.mean().item() == pytest.approx(plain.mean().item(), rel=1e-5)
    weights = torch.ones(77, 1, dtype=torch.float64)
    weights[1:4] = 1.5
    assert (plain * weights - heavy).norm() > 1e-3 * heavy.norm()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_weights_in_16_bits_are_computed_in_32(dtype: torch.dtype) -> None:
    hidden = (torch.randn(77, 32, generator=torch.Generator().manual_seed(1)) + 0.5).to(dtype)
    chunk = Chunk((5, 6, 7), (1.4, 1.4, 0.7))
    weights = torch.ones(77, 1)
    weights[1:4, 0] = torch.tensor(chunk.weights)
    heavier = hidden.float() * weights
    expected = (heavier * (hidden.float().mean() / heavier.mean())).to(dtype)
    assert torch.equal(_weighted(hidden, chunk), expected)
    assert _weighted(hidden, Chunk((5,), (1.0,))) is hidden


def test_weights_without_a_mean_to_restore_are_refused(
    shared_pipeline: StableDiffusionPipeline,
) -> None:
    heavy = asked(f"(cat:{'9' * 309})")
    with torch.no_grad(), pytest.raises(ValueError, match="write weights nearer to 1"):
        encode(shared_pipeline, (heavy,), Record())


# diffusers' own bits


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("guidance_scale", [1.0, 5.0])
def test_one_chunk_without_weights_has_diffusers_bits(
    shared_pipeline: StableDiffusionPipeline,
    monkeypatch: pytest.MonkeyPatch,
    masked: bool,
    guidance_scale: float,
) -> None:
    monkeypatch.setattr(shared_pipeline.text_encoder.config, "use_attention_mask", masked, False)
    prompts, negatives = ["a cat, asleep", "", "x" * 75], ["a dog", "x y", ""]
    guided = guidance_scale > 1
    with torch.no_grad():
        positive, negative = shared_pipeline.encode_prompt(prompts, "cpu", 1, guided, negatives)
        expected = torch.cat([negative, positive]) if guided else positive
        for syntax in ("a1111", "plain"):
            requests = tuple(
                asked(prompt, negative, syntax, guidance_scale=guidance_scale)
                for prompt, negative in zip(prompts, negatives, strict=True)
            )
            record = Record()
            assert torch.equal(encode(shared_pipeline, requests, record), expected)
            assert [size.tokens for size in record.prompts] == [11, 0, 75]
            assert {size.padded_to for size in record.prompts} == {1}
            assert len(record.negative_prompts) == (3 if guided else 0)
            assert record.freeze().notes == ()


def test_a_long_plain_prompt_is_cut_as_diffusers_cuts_it(
    shared_pipeline: StableDiffusionPipeline,
) -> None:
    long, record = "(x:2) " * 40, Record()
    with torch.no_grad():
        ours = encode(shared_pipeline, (asked(long, "", "plain", guidance_scale=1),), record)
        theirs, _ = shared_pipeline.encode_prompt([long], "cpu", 1, False)
    assert torch.equal(ours, theirs)
    (note,) = record.freeze().notes
    assert re.fullmatch(
        r"The prompt has 200 tokens .*: the last 125 did not reach the picture\.", note
    )


def test_a_prompt_has_the_bits_it_has_alone_beside_a_longer_negative_prompt(
    shared_pipeline: StableDiffusionPipeline,
) -> None:
    with torch.no_grad():
        short, long = (
            encode(shared_pipeline, (asked("a cat", negative),), Record())
            for negative in ("", "x" * 80)
        )
        empty = encode(shared_pipeline, (asked("", guidance_scale=1),), Record())
    assert torch.equal(long[1, :77], short[1])
    assert torch.equal(long[1, 77:], empty[0])


# A whole run


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> DiffusersEngine:
    return DiffusersEngine(detect("cpu"), tmp_path_factory.mktemp("pictures"))


@pytest.fixture
def base(tiny_model_path: Path) -> Request:
    model = resolve(str(tiny_model_path), Path("unused"))
    return asked("a cat", model=model, width=64, height=64, num_inference_steps=2, seed=7)


def run(engine: DiffusersEngine, *requests: Request, **settings: str) -> Run:
    slots = {slot.replace("_", "-"): value for slot, value in settings.items()}
    configuration = configure(slots, engine.platform)
    return engine.run(Job(id="job", requests=requests, configuration=configuration), Following())


def test_a_picture_says_how_long_its_prompts_are(
    engine: DiffusersEngine, base: Request, capsys: pytest.CaptureFixture[str]
) -> None:
    made = run(engine, dataclasses.replace(base, negative_prompt="(grey) BREAK " + "y" * 76))
    assert made.outcome == "ok", made.reason
    assert made.effective.prompts == (TextSize(tokens=4, chunks=1, chunk_tokens=75, padded_to=3),)
    assert made.effective.negative_prompts == (
        TextSize(tokens=80, chunks=3, chunk_tokens=75, padded_to=3),
    )
    assert made.effective.notes == ()
    attention = made.effective.slot("attention")
    assert attention is not None
    assert attention.effect == "applied"
    assert any(name.endswith("on 231 keys") for name in attention.counts)
    assert not any(name.endswith("on 77 keys") for name in attention.counts)
    assert made.pictures[0].path is not None
    texts = read(made.pictures[0].path).texts
    assert load(texts.receipt).effective == made.effective
    assert "Pad conds: True" in texts.infotext
    assert "Emphasis" not in texts.infotext
    cli_generate._show([made], [None])
    for told in (capsys.readouterr().out, run_card.facts(made, SLOTS)):
        assert "4 of 75 tokens, padded to 3 chunks" in told
        assert "80 tokens, 3 chunks of 75" in told


def test_a_weight_reaches_the_picture_and_a_plain_prompt_has_none(
    engine: DiffusersEngine, base: Request
) -> None:
    words = dataclasses.replace(base, prompt="a (cat:1.4)")
    made = [
        run(engine, request).pictures[0]
        for request in (
            base,
            dataclasses.replace(base, prompt_syntax="plain"),
            words,
            dataclasses.replace(words, prompt_syntax="plain"),
        )
    ]
    assert made[0].latents_sha256 == made[1].latents_sha256
    assert len({picture.latents_sha256 for picture in made}) == 3
    assert made[3].path is not None
    assert "Emphasis: None" in read(made[3].path).texts.infotext


def test_every_setting_still_acts_with_two_chunks(engine: DiffusersEngine, base: Request) -> None:
    long = dataclasses.replace(base, prompt="a (cat:1.2), " + "y" * 80)
    made = run(
        engine,
        long,
        dataclasses.replace(long, seed=8),
        attention="sub-quadratic",
        attention_slicing="rows:1",
        token_merging="seeded:0.5",
        min_sigma="alternate:15",
    )
    assert made.outcome == "ok", made.reason
    assert {slot.slot: slot.effect for slot in made.effective.slots} == dict.fromkeys(
        ("attention", "attention-slicing", "min-sigma", "precision", "token-merging"), "applied"
    )
    attention, merging, sigma = (
        made.effective.slot(name) for name in ("attention", "token-merging", "min-sigma")
    )
    assert attention is not None
    assert merging is not None
    assert sigma is not None
    assert any(name.endswith("on 154 keys") for name in attention.counts)
    # Tokens of the picture are merged, 64 of them, and never words.
    assert merging.counts["largest_tokens"] == 64
    assert merging.counts["tokens_in"] == 2 * merging.counts["tokens_out"]
    assert (sigma.counts["unet_calls_guided"], sigma.counts["unet_calls_unguided"]) == (1, 1)


def test_a_batch_is_padded_to_its_longest_prompt_and_says_so(
    engine: DiffusersEngine, base: Request
) -> None:
    long = dataclasses.replace(base, prompt="y" * 80)
    made = run(engine, base, long)
    assert [size.padded_to for size in made.effective.prompts] == [2, 2]
    assert [size.chunks for size in made.effective.prompts] == [1, 2]
    (note,) = made.effective.notes
    assert "The batch's longest prompt has 2 chunks" in note
    assert "picture 1 were padded" in note
    alone = run(engine, base)
    assert alone.effective.notes == ()
    assert alone.pictures[0].latents_sha256 != made.pictures[0].latents_sha256


@pytest.mark.parametrize("place", [0, 1])
def test_what_is_not_done_fails_the_job_in_one_sentence(
    engine: DiffusersEngine, base: Request, place: int
) -> None:
    batch = [base, base]
    batch[place] = dataclasses.replace(base, negative_prompt="[fog|rain]")
    made = run(engine, *batch)
    assert made.outcome == "failed"
    assert made.reason.startswith("The negative prompt has [fog|rain], AUTOMATIC1111's alternating")
    assert "\n" not in made.reason


class Recorder(torch.nn.Module):
    """A UNet with one block that counts as compiled, and notes of the words it was given."""

    device, dtype = torch.device("cpu"), torch.float32
    config = SimpleNamespace(in_channels=4, cross_attention_dim=32)

    def __init__(self) -> None:
        super().__init__()
        block = object.__new__(CompiledForward)
        block.tally, block.ready, block.calls = Tally(), Ready(), 0
        self.block = torch.nn.Identity()
        self.block.forward = block
        self.seen: list[tuple[int, ...]] = []

    def forward(self, *inputs: torch.Tensor, return_dict: bool) -> None:
        self.seen.append(tuple(inputs[2].shape))


def test_blocks_are_warmed_up_with_the_words_of_the_job() -> None:
    """And once for each length: what was made ready for one chunk is not ready for two."""
    pocket = resolve("pocket", REPOSITORY / "data" / "pocket")
    unet = Recorder()
    pipeline: Any = SimpleNamespace(unet=unet, tokenizer=tokenizer(pocket), vae_scale_factor=8)
    one = tiny_job(seeds=(1,), compile="default")
    long = dataclasses.replace(one.requests[0], prompt="a BREAK b", prompt_syntax="a1111")
    two = dataclasses.replace(one, requests=(long,))
    for job in (one, two, two, one):
        with compilation._patched(pipeline, job, None, Record()):
            pass
    assert unet.seen == [(2, 77, 32), (2, 154, 32)]


# What was made before there was a syntax


def test_old_runs_are_read_and_were_plain(
    engine: DiffusersEngine, base: Request, tmp_path: Path
) -> None:
    made = run(engine, dataclasses.replace(base, prompt="a (cat)", prompt_syntax="plain"))
    assert made.pictures[0].path is not None
    receipt = json.loads(read(made.pictures[0].path).texts.receipt)
    old = json.loads(stored(made, tmp_path))
    for effective in (receipt["effective"], old["effective"]):
        del effective["prompts"], effective["negative_prompts"]
    for request in (
        *receipt["requests"],
        *old["job"]["requests"],
        *(picture["request"] for picture in old["pictures"]),
    ):
        del request["prompt_syntax"]
    again = loaded(Run, json.dumps(old), tmp_path)
    assert again.job == made.job
    assert again.effective.prompts == ()
    assert run(engine, *again.job.requests).pictures == made.pictures
    assert load(json.dumps(receipt)).request.prompt_syntax == "plain"
    receipt["requests"][0]["prompt_syntax"] = "compel"
    with pytest.raises(ValueError, match="damaged"):
        load(json.dumps(receipt))


def test_infotext_says_when_brackets_are_text() -> None:
    for prompt, negative, syntax, written in (
        ("a (cat)", "", "plain", True),
        ("a cat", "[dog]", "plain", True),
        ("a cat", "", "plain", False),
        ("a (cat)", "", "a1111", False),
    ):
        request = asked(prompt, negative, syntax)  # type: ignore[arg-type]
        text = infotext(request, configure({}, detect("cpu")), Effective())
        assert ("Emphasis: None" in text) is written


# Counting without an engine


def test_the_counter_counts_as_the_engine_does(engine: DiffusersEngine, base: Request) -> None:
    counter = TokenCounter(base.model)
    for prompt, syntax in (("a (cat:1.2), " + "y" * 80, "a1111"), ("a (cat:1.2)" * 9, "plain")):
        long = dataclasses.replace(
            base, prompt=prompt, prompt_syntax=syntax, guidance_scale=1.0, num_inference_steps=1
        )
        assert run(engine, long).effective.prompts == (counter.text(prompt, syntax).size(),)


def test_the_counter_needs_no_weights_and_tells_what_is_refused() -> None:
    counter = TokenCounter(resolve("pocket", REPOSITORY / "data" / "pocket"))
    shown = counter.markup("a red apple, cartoon style", "a1111", "prompt")
    assert shown == '<p class="sp-tokens">6 of 75 tokens</p>'
    assert "has a comment" in counter.markup("a red apple # ripe", "a1111", "prompt")
    refused = counter.markup("<lora:x:1>", "a1111", "negative prompt")
    assert "sp-tokens-bad" in refused
    assert "The negative prompt has &lt;lora:x:1&gt;" in refused
