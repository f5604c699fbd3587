"""What a picture shows of what its prompt asks for, by a network and by colour and place.

The judge lies beside a model's weights and knows only that model's words. Its network was trained
on renders of what the words mean and never on a picture that a model made, so that what it
recognises in one was drawn as the word means. It looks at a window around what stands out from the
background; size and place do not matter to it.
"""

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from pydantic import TypeAdapter
from safetensors import SafetensorError
from safetensors.torch import load
from torch import Tensor, nn

from audit.metrics import Rgb
from audit.prompt_words import Asked, Position, Vocabulary, asked

FOLDER = "judge"
"""Where a model's judge lies, below the model's folder."""
WEIGHTS, CARD = "model.safetensors", "judge.json"
WINDOW = 64
"""Side in pixels of what the network sees."""
ENOUGH = 0.95
"""The share of renders of which a judge has to be right, in every aspect, to be asked at all."""
BORDER = 3
"""Width in pixels of the frame whose colour is the background's."""
STANDS_OUT = 40.0
"""Euclidean distance in RGB levels from which a pixel is not background: the model leaves stains of
up to 36 on flat ground, and a yellow thing on yellow ground should still be seen."""
OFF_CENTRE = 0.05
"""Share of the width from which a centre of mass is on a side."""

Aspect = Literal["object", "style", "background", "tint", "position", "size"]
ASPECTS: tuple[Aspect, ...] = ("object", "style", "background", "tint", "position", "size")


@dataclass(frozen=True, kw_only=True)
class Share:
    """How often somebody was right."""

    right: int
    of: int


@dataclass(frozen=True, kw_only=True)
class JudgeCard:
    """What stands beside the network's weights: its words, and how good it is."""

    words: Vocabulary
    weights_sha256: str
    figures: Mapping[Aspect, Share]
    """On renders of combinations that neither it nor the model was trained on."""
    accepted: Share
    """Such renders that it says follow their own captions: what it would say of a perfect model."""
    refused: Share
    """Such renders that it says do not follow a caption that is wrong in one respect."""


@dataclass(frozen=True, kw_only=True)
class Seen:
    """What the network sees in one window; `tint` is the nearest of the tints, tinted or not."""

    name: str
    style: str
    tint: str


class PromptJudge:
    """Says of pictures what they show. `weights_sha256` names the judge."""

    def __init__(self, card: JudgeCard, network: nn.Module) -> None:
        self.words = card.words
        self.weights_sha256 = card.weights_sha256
        self.accepted, self.refused = card.accepted, card.refused
        self._network = network.eval()

    def seen(self, picture: Rgb, things: int) -> tuple[Seen, ...]:
        """What stands in the picture, or in its left and its right half where there are two."""
        with torch.inference_mode():
            logits = self._network(to_tensor(windows(picture, things)))
        words = self.words
        kinds = (words.objects, words.styles, words.tints)
        columns = logits.split([len(kind) for kind in kinds], dim=1)
        return tuple(
            Seen(name=words.objects[name], style=words.styles[style], tint=words.tints[tint])
            for name, style, tint in zip(*(c.argmax(1).tolist() for c in columns), strict=True)
        )

    def background(self, picture: Rgb) -> str:
        """The word whose colour is nearest to the picture's border."""
        colour, known = ground(picture), self.words.backgrounds
        return min(known, key=lambda word: float(np.linalg.norm(colour - known[word])))

    def is_small(self, picture: Rgb) -> bool:
        return longer_side(picture) <= self.words.small_up_to

    def verdicts(self, picture: Rgb, wanted: Asked) -> dict[Aspect, bool]:
        """For every aspect that is asked for, whether the picture shows it; of two things both
        must."""
        things = wanted.things
        seen = self.seen(picture, len(things))
        both = list(zip(things, seen, strict=True))
        found: dict[Aspect, bool] = {"object": all(t.name == s.name for t, s in both)}
        if wanted.style:
            found["style"] = all(s.style == wanted.style for s in seen)
        if wanted.background:
            found["background"] = self.background(picture) == wanted.background
        if any(thing.tint for thing in things):
            found["tint"] = all(t.tint in ("", s.tint) for t, s in both)
        if things[0].position:
            found["position"] = side(picture) == things[0].position
        if things[0].small:
            found["size"] = self.is_small(picture)
        return found

    def follows(self, picture: Rgb, prompt: str) -> bool | None:
        """Whether everything the prompt asks for is there; None where the prompt is unreadable."""
        wanted = asked(prompt, self.words)
        return None if wanted is None else all(self.verdicts(picture, wanted).values())


def load_judge(model: Path) -> PromptJudge | None:
    """The judge in a model's folder, None where there is none.

    Raises ValueError, the end of a sentence about the model, where the judge's files are damaged,
    do not belong together, or say that it is right in less than 95 %: such a judge is not asked.
    """
    folder = model / FOLDER
    if not (folder / CARD).is_file():
        return None
    try:
        card = TypeAdapter(JudgeCard).validate_python(json.loads((folder / CARD).read_text()))
        weights = (folder / WEIGHTS).read_bytes()
    except (OSError, ValueError) as error:
        raise ValueError(f"its judge cannot be read: {_first_line(error)}") from error
    if hashlib.sha256(weights).hexdigest() != card.weights_sha256:
        raise ValueError(f"its judge has other weights than its {CARD} names")
    if poor := [aspect for aspect in ASPECTS if not good(card.figures.get(aspect))]:
        raise ValueError(f"its judge is right too seldom at: {', '.join(poor)}")
    words = card.words
    if not all((words.objects, words.styles, words.tints, words.backgrounds)):
        raise ValueError("its judge knows no words of some kind")
    with torch.device("meta"):  # weights of its own would move the process's random numbers
        network = new_network(words)
    try:
        network.load_state_dict(load(weights), assign=True)
    except (RuntimeError, SafetensorError) as error:
        raise ValueError("its judge has weights of another shape") from error
    return PromptJudge(card, network.float())


def good(figure: Share | None) -> bool:
    return figure is not None and figure.of > 0 and figure.right >= ENOUGH * figure.of


def new_network(words: Vocabulary) -> nn.Sequential:
    """Windows (n, 3, 64, 64) in −1…1 → logits (n, objects + styles + tints), in that order."""
    layers: list[nn.Module] = []
    for inside, outside in pairwise((3, 32, 64, 96, 128)):
        layers += [nn.Conv2d(inside, outside, 3, 2, 1), nn.BatchNorm2d(outside), nn.ReLU()]
    outputs = len(words.objects) + len(words.styles) + len(words.tints)
    features = 128 * (WINDOW // 16) ** 2
    return nn.Sequential(*layers, nn.Flatten(), nn.Dropout(0.3), nn.Linear(features, outputs))


def to_tensor(pictures: Rgb) -> Tensor:
    """uint8 (n, height, width, 3) → float32 (n, 3, height, width) in −1…1."""
    return torch.from_numpy(pictures).permute(0, 3, 1, 2).float() / 127.5 - 1


def ground(picture: Rgb) -> NDArray[np.float64]:
    """RGB (3,) of the background: the border's median, so that an object that touches it does not
    matter."""
    inner = np.zeros(picture.shape[:2], bool)
    inner[BORDER:-BORDER, BORDER:-BORDER] = True
    return np.asarray(np.median(picture[~inner], axis=0), dtype=np.float64)


def foreground(picture: Rgb) -> NDArray[np.bool_]:
    """Mask (height, width) of pixels whose colour is not the background's."""
    apart = picture.astype(np.float64) - ground(picture)
    return np.asarray(np.linalg.norm(apart, axis=-1) > STANDS_OUT)


def side(picture: Rgb) -> Position:
    """Where the foreground's centre of mass is; "" where it is in the middle, or there is none."""
    columns = np.nonzero(foreground(picture))[1]
    if not len(columns):
        return ""
    offset = (columns.mean() + 0.5) / picture.shape[1] - 0.5
    if abs(offset) < OFF_CENTRE:
        return ""
    return "on the left" if offset < 0 else "on the right"


def longer_side(picture: Rgb) -> float:
    """Longer side of the foreground's box ÷ the picture's shorter side."""
    mask = foreground(picture)
    longest = max(_length(mask, axis) for axis in (0, 1))
    return float(longest / min(mask.shape))


def windows(picture: Rgb, count: int, stray: Callable[[], float] = lambda: 0.0) -> Rgb:
    """Windows (count, 64, 64, 3): the foreground of the picture, or of each of its halves.

    `stray` gives shares of a window's side by which its place and its size are off.
    """
    mask, colour = foreground(picture), tuple(int(level) for level in ground(picture))
    width = picture.shape[1] // count
    cut = []
    for start in range(0, width * count, width):
        part = slice(start, start + width)
        (left, right), (top, bottom) = (_extent(mask[:, part], axis) for axis in (0, 1))
        length = 1.15 * max(right - left, bottom - top)
        x, y = ((a + b) / 2 + stray() * length for a, b in ((left, right), (top, bottom)))
        span = max(1, round(length * (1 + stray())))
        window = Image.new("RGB", (span, span), colour)
        corner = (round(span / 2 - x), round(span / 2 - y))
        window.paste(Image.fromarray(np.ascontiguousarray(picture[:, part])), corner)
        cut.append(np.asarray(window.resize((WINDOW, WINDOW), Image.Resampling.BILINEAR)))
    return np.stack(cut)


def _extent(mask: NDArray[np.bool_], axis: int) -> tuple[int, int]:
    """First and last + 1 of the lines with more than two pixels of foreground; all where none is:
    two are speckle."""
    lines = np.nonzero(mask.sum(axis) > 2)[0]
    return (int(lines[0]), int(lines[-1]) + 1) if len(lines) else (0, mask.shape[1 - axis])


def _length(mask: NDArray[np.bool_], axis: int) -> int:
    first, last = _extent(mask, axis)
    return last - first


def _first_line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__)
