"""Prompts as chunks of as many tokens as the text encoder reads, cut where AUTOMATIC1111 cuts them.

The behaviour of its v1.10.1 (`sd_hijack_clip.tokenize_line`). Nothing here needs a model's weights.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from core.prompt_syntax import BREAK, Piece, read
from core.request import PromptSyntax, Request
from core.run import TextSize

COMMA_REACH = 20
"""A chunk that is full ends behind its last comma, where that is among its last so many tokens:
what belongs together stays together. AUTOMATIC1111's `comma_padding_backtrack`."""
MOST_CHUNKS = 32
"""Of one prompt: every chunk makes every cross-attention of every step longer."""


@dataclass(frozen=True)
class Chunk:
    """Token ids without begin, end and padding, and the weight of each."""

    tokens: tuple[int, ...] = ()
    weights: tuple[float, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Text:
    """One prompt as the text encoder will be given it; at least one chunk."""

    chunks: tuple[Chunk, ...]
    chunk_tokens: int
    """That one chunk has room for."""
    cut: int = 0
    """Tokens that are in no chunk."""
    notes: tuple[str, ...] = ()

    @property
    def tokens(self) -> int:
        """Those that were cut included."""
        return sum(len(chunk.tokens) for chunk in self.chunks) + self.cut

    def size(self, padded_to: int = 0) -> TextSize:
        return TextSize(
            tokens=self.tokens,
            chunks=len(self.chunks),
            chunk_tokens=self.chunk_tokens,
            padded_to=max(padded_to, len(self.chunks)),
            cut=self.cut,
        )


@dataclass(frozen=True, kw_only=True)
class BatchTexts:
    """The prompts of one batch, in its order; no negative ones where there is no guidance."""

    prompts: tuple[Text, ...]
    negative_prompts: tuple[Text, ...]

    @property
    def chunks(self) -> int:
        """What all are padded to, because a batch is one tensor."""
        return max(len(text.chunks) for text in (*self.prompts, *self.negative_prompts))


def batch_texts(tokenizer: Any, requests: Sequence[Request]) -> BatchTexts:
    """Raises ValueError as `text_of` does."""
    guided = requests[0].guidance_scale > 1
    return BatchTexts(
        prompts=tuple(text_of(tokenizer, r.prompt, r.prompt_syntax, "prompt") for r in requests),
        negative_prompts=tuple(
            text_of(tokenizer, r.negative_prompt, r.prompt_syntax, "negative prompt")
            for r in requests
            if guided
        ),
    )


def text_of(tokenizer: Any, written: str, syntax: PromptSyntax, what: str) -> Text:
    """One prompt in chunks. `what` is `prompt` or `negative prompt`.

    Raises ValueError with one sentence for what is no prompt in this syntax, or far too long.
    """
    room = tokenizer.model_max_length - 2
    if syntax == "plain":
        (tokens,) = _ids(tokenizer, [written])
        kept = tuple(tokens[:room])
        return Text(
            chunks=(Chunk(kept, (1.0,) * len(kept)),),
            chunk_tokens=room,
            cut=len(tokens) - len(kept),
        )
    pieces, notes = read(written, what)
    ids = _ids(tokenizer, [piece.text for piece in pieces])
    chunks = _filled(zip(pieces, ids, strict=True), room, _comma(tokenizer))
    if len(chunks) > MOST_CHUNKS:
        raise ValueError(
            f"The {what} fills {len(chunks)} chunks of {room} tokens and the most that is read is "
            f"{MOST_CHUNKS}: shorten it."
        )
    return Text(chunks=chunks, chunk_tokens=room, notes=notes)


def _filled(
    pieces: Iterable[tuple[Piece, Sequence[int]]], room: int, comma: int | None
) -> tuple[Chunk, ...]:
    done: list[Chunk] = []
    tokens, weights = list[int](), list[float]()
    last_comma: int | None = None

    def close(end: int) -> None:
        """End the chunk there; what lies behind begins the next one, its commas forgotten."""
        nonlocal last_comma
        done.append(Chunk(tuple(tokens[:end]), tuple(weights[:end])))
        del tokens[:end], weights[:end]
        last_comma = None

    for piece, ids in pieces:
        if piece == BREAK:
            close(len(tokens))
            continue
        for token in ids:
            if token == comma:
                last_comma = len(tokens)
            elif (
                len(tokens) == room and last_comma is not None and room - last_comma <= COMMA_REACH
            ):
                close(last_comma + 1)
            if len(tokens) == room:
                close(room)
            tokens.append(token)
            weights.append(piece.weight)
    if tokens or not done:
        close(len(tokens))
    return tuple(done)


def _ids(tokenizer: Any, texts: list[str]) -> list[list[int]]:
    """Token ids of each text, without begin and end. Not `verbose`: it would warn of texts that are
    longer than one chunk."""
    ids: list[list[int]] = tokenizer(texts, add_special_tokens=False, verbose=False)["input_ids"]
    return ids


def _comma(tokenizer: Any) -> int | None:
    """The id of a comma that ends a word; None where the vocabulary has none."""
    found: int = tokenizer.convert_tokens_to_ids(",</w>")
    return None if found == tokenizer.unk_token_id else found
