"""Prompts as people write them: read as AUTOMATIC1111 reads them, or refused in one sentence."""

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest

from core.chunks import MOST_CHUNKS, Chunk, Text, text_of
from core.models import check
from core.prompt_syntax import MOST_CHARACTERS, MOST_OPEN, find_syntax, read, weighted
from core.request import Request
from tests.fake_engine import MODEL
from webapp.token_counter import in_words

WILD = tomllib.loads(Path(__file__).with_name("prompts_of_the_wild.toml").read_text("utf-8"))
ROOM = 75


@pytest.mark.parametrize("prompt", WILD["prompt"], ids=lambda prompt: prompt["name"])
def test_a_prompt_of_the_wild_has_the_pieces_it_has_there(prompt: dict[str, Any]) -> None:
    assert [list(piece) for piece in weighted(prompt["text"])] == prompt["pieces"]
    read(prompt["text"], "prompt")
    read(prompt["text"], "negative prompt")


def test_there_are_fifty_and_they_use_all_of_the_syntax() -> None:
    assert len(WILD["prompt"]) == len({prompt["text"] for prompt in WILD["prompt"]}) == 50
    pieces = [tuple(piece) for prompt in WILD["prompt"] for piece in prompt["pieces"]]
    assert ("BREAK", -1.0) in pieces
    assert {1.1, 1 / 1.1, 0.8, 0.0, -0.5} <= {weight for _, weight in pieces}


# What is refused


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a [cat:dog:0.5] asleep", "[cat:dog:0.5], AUTOMATIC1111's prompt editing"),
        ("a [cat:dog:12]", "prompt editing"),
        ("a [hat: 0.5 ]", "prompt editing"),
        ("a [hat::.5]", "prompt editing"),
        ("a [:hat:1e1]", "prompt editing"),
        ("a [(red:1.2) hat:blue hat:0.3]", "prompt editing"),
        ("a (green [cat:dog:0.5]:1.2)", "[cat:dog:0.5]"),
        ("((a][:b:c [d:3]", "[d:3]"),
        ("[blurry:1.2]", "round brackets for a weight, as in (words:0.8)"),
        ("a [cow|horse] on grass", "[cow|horse], AUTOMATIC1111's alternating words"),
        ("[fe|]male", "alternating words"),
        ("[(red:1.1)|blue] hat", "alternating words"),
        ("a fox <lora:inkStyle_v2:0.8>", "<lora:inkStyle_v2:0.8>, and Seedproof loads no networks"),
        ("<hypernet:soft:1>", "loads no networks"),
        ("a fox AND a hare", "The prompt has AND"),
        ("a fox :1.2", "ends in :1.2, in AUTOMATIC1111 the weight of all of it"),
        ("a fox --ar 16:9", "ends in :9"),
        ("(a fox:1.3", "ends in :1.3"),
        ("(a fox:1.2.3)", "The weight '1.2.3' in a prompt is not a number"),
        ("(" * (MOST_OPEN + 1), "brackets of a prompt are open at once"),
        ("x" * (MOST_CHARACTERS + 1), "10,001 characters"),
    ],
)
def test_what_is_not_done_is_one_sentence(text: str, words: str) -> None:
    with pytest.raises(ValueError, match=r"^[^\n]+\.$") as refused:
        read(text, "prompt")
    assert words in str(refused.value)
    with pytest.raises(ValueError, match=re.escape(str(refused.value))):
        check(Request(prompt=text, model=MODEL, prompt_syntax="a1111"))


@pytest.mark.parametrize(
    "text",
    [
        "[a:b:c]",
        "[a:b:c:0.5]",
        "a | b",
        "[a:b|c]",
        r"\[a|b\]",
        r"\[hat:0.5\]",
        "[hat:0.5, red",
        "[hat (a:0.5]",
        "[tall|small ) hat]",
        "[tall] hat:0.5 m",
        "(a|b)",
        "ANDROID, sand and sea",
        "16:9,",
        "ratio 16:9 of a screen",
        "a < b: c > d",
    ],
)
def test_what_only_looks_like_it_is_read(text: str) -> None:
    assert read(text, "prompt")[0] == weighted(text)


def test_in_a_negative_prompt_and_and_a_last_weight_are_words() -> None:
    """AUTOMATIC1111 splits the prompt alone."""
    for text in ("fog AND rain", "rain :2"):
        assert read(text, "negative prompt")[0] == ((text, 1.0),)
    with pytest.raises(ValueError, match="The negative prompt has <lora:x:1>"):
        read("<lora:x:1>", "negative prompt")


def test_plain_prompts_take_every_character() -> None:
    for text in ("a [cat:dog:0.5] AND <lora:x:1> (", "x" * 10_000):
        with pytest.raises(FileNotFoundError):  # the model is looked at only after the prompts
            check(Request(prompt=text, negative_prompt=text, model=MODEL))


def test_what_surprises_is_noted() -> None:
    pieces, notes = read("a fox # red\n# all of this\nin snow #1", "prompt")
    assert "".join(text for text, _ in pieces).split() == ["a", "fox", "in", "snow"]
    assert len(notes) == 1
    assert "The prompt has a comment, '# red'" in notes[0]
    pieces, notes = read("(a fox BREAK snow)", "negative prompt")
    assert ("BREAK", -1.1) in pieces
    assert "The negative prompt has a BREAK inside brackets" in notes[0]
    assert read("(a fox) BREAK (snow:1.2)", "prompt")[1] == ()


def test_a_syntax_has_a_name() -> None:
    assert find_syntax("plain") == "plain"
    with pytest.raises(ValueError, match="Unknown prompt syntax 'compel': choose a1111 or plain"):
        find_syntax("compel")


# Chunks


class Words:
    """A tokenizer with a token for every word; a comma is a word."""

    model_max_length = ROOM + 2
    unk_token_id = 0

    def __call__(self, texts: list[str], **_: Any) -> dict[str, list[list[int]]]:
        spaced = (text.replace(",", " , ").split() for text in texts)
        return {"input_ids": [[1 if w == "," else 2 + len(w) for w in words] for words in spaced]}

    def convert_tokens_to_ids(self, token: str) -> int:
        return 1


def chunked(text: str) -> Text:
    return text_of(Words(), text, "a1111", "prompt")


def words(count: int) -> str:
    return "x " * count


@pytest.mark.parametrize(
    ("text", "sizes"),
    [
        ("", [0]),
        (words(75), [75]),
        (words(76), [75, 1]),
        (words(151), [75, 75, 1]),
        # The last comma among the last twenty: what is behind it goes along to the next chunk.
        (words(55) + "," + words(20), [56, 20]),
        (words(54) + "," + words(21), [75, 1]),
        (words(20) + "," + words(39) + "," + words(20), [61, 20]),
        (words(60) + "," + words(14) + "," + words(3), [75, 4]),
        # A chunk that a comma ends is full; the comma of the next chunk's begin is forgotten.
        (words(74) + "," + words(3), [75, 3]),
        (words(75) + "," + words(75), [75, 75, 1]),
        # Commas do not reach over a chunk's end, nor over BREAK.
        (words(60) + "," + words(15) + words(60), [61, 75]),
        (words(60) + ", BREAK " + words(76), [61, 75, 1]),
        ("a BREAK b c", [1, 2]),
        ("a BREAK", [1]),
        ("BREAK a", [0, 1]),
        ("a BREAK BREAK b", [1, 0, 1]),
        ("(a BREAK b)", [3]),
        (words(75) + "BREAK" + words(1), [75, 1]),
    ],
)
def test_chunks_end_where_they_end_there(text: str, sizes: list[int]) -> None:
    made = chunked(text)
    assert [len(chunk.tokens) for chunk in made.chunks] == sizes
    assert made.tokens == sum(sizes)
    assert made.cut == 0


def test_weights_go_along_with_their_tokens() -> None:
    made = chunked(words(60) + ", (aa bb:1.5) [" + words(20) + "]")
    first, second = made.chunks
    assert first == Chunk((3,) * 60 + (1,), (1.0,) * 61)
    assert second == Chunk((4, 4) + (3,) * 20, (1.5, 1.5) + (1 / 1.1,) * 20)


def test_a_prompt_without_end_is_refused() -> None:
    chunked(words(ROOM * MOST_CHUNKS))
    with pytest.raises(ValueError, match="fills 33 chunks of 75 tokens and the most that is"):
        chunked(words(ROOM * MOST_CHUNKS + 1))


def test_a_plain_prompt_is_cut_and_nothing_in_it_is_a_mark() -> None:
    made = text_of(Words(), words(70) + "(a:2) , BREAK , b c d e", "plain", "prompt")
    assert [len(chunk.tokens) for chunk in made.chunks] == [75]
    assert (made.tokens, made.cut) == (78, 3)
    assert set(made.chunks[0].weights) == {1.0}


@pytest.mark.parametrize(
    ("text", "padded_to", "told"),
    [
        (words(12), 1, "12 of 75 tokens"),
        (words(78), 2, "78 tokens, 2 chunks of 75: the UNet's cross-attention doubles, from 77 to "
         "154 keys"),
        (words(12), 3, "12 of 75 tokens, padded to 3 chunks: the UNet's cross-attention takes 3 "
         "times as much, from 77 to 231 keys"),
    ],
)  # fmt: skip
def test_a_length_and_its_cost_in_words(text: str, padded_to: int, told: str) -> None:
    assert in_words(chunked(text).size(padded_to)) == told


def test_a_cut_in_words() -> None:
    size = text_of(Words(), words(80), "plain", "prompt").size()
    assert in_words(size) == "80 tokens, of which the last 5 are cut: plain reads 75"
