"""What the judge of pictures looks at, and which judges are not asked."""

import hashlib
import json
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save
from torch import nn

from audit.metrics import Rgb
from audit.prompt_judge import (
    ASPECTS,
    JudgeCard,
    PromptJudge,
    Share,
    good,
    ground,
    load_judge,
    longer_side,
    new_network,
    side,
    windows,
)
from audit.prompt_words import Vocabulary

WORDS = Vocabulary(
    objects=("disc", "square"),
    styles=("dull", "bright"),
    tints=("red", "green"),
    backgrounds={"white": (250, 250, 250), "black": (10, 10, 10)},
    small_up_to=0.4,
)


class ByColour(nn.Module):
    """Stands for the network: discs have little blue in the middle, dull things little red and
    green. Columns are the real one's: objects, styles, tints."""

    def forward(self, pictures: torch.Tensor) -> torch.Tensor:
        red, green, blue = pictures[:, :, 24:40, 24:40].mean((2, 3)).unbind(1)
        return torch.stack([-blue, blue, -(red + green), red + green, red, green], dim=1)


def picture(*boxes: tuple[int, int, int, int, tuple[int, int, int]], ground: int = 250) -> Rgb:
    """Boxes (top, bottom, left, right, colour) on a grey of 128 × 128."""
    made = np.full((128, 128, 3), ground, np.uint8)
    for top, bottom, left, right, colour in boxes:
        made[top:bottom, left:right] = colour
    return made


RED, GREEN = (220, 30, 30), (30, 200, 30)
CARD = JudgeCard(
    words=WORDS,
    weights_sha256="",
    figures=dict.fromkeys(ASPECTS, Share(right=95, of=100)),
    accepted=Share(right=94, of=100),
    refused=Share(right=99, of=100),
)


@pytest.fixture
def judge() -> PromptJudge:
    return PromptJudge(CARD, ByColour())


def test_the_ground_is_the_borders_colour_even_where_something_touches_it() -> None:
    assert ground(picture((0, 128, 0, 40, RED))).tolist() == [250, 250, 250]


def test_sides_and_sizes_are_those_of_what_stands_out() -> None:
    left, middle = picture((40, 80, 10, 50, RED)), picture((44, 84, 44, 84, RED))
    assert (side(left), side(left[:, ::-1]), side(middle)) == ("on the left", "on the right", "")
    assert side(picture()) == ""
    assert longer_side(picture((40, 80, 10, 70, RED))) == 60 / 128
    assert longer_side(picture()) == 1


def test_a_window_is_what_stands_out_wherever_it_is() -> None:
    (first,) = windows(picture((10, 50, 10, 50, RED)), 1)
    (second,) = windows(picture((70, 110, 60, 100, RED)), 1)
    assert first.shape == (64, 64, 3)
    assert (first == second).all()
    assert first[32, 32].tolist() == list(RED)
    assert first[1, 1].tolist() == [250, 250, 250]
    (moved,) = windows(picture((10, 50, 10, 50, RED)), 1, stray=lambda: 0.06)
    assert not (first == moved).all()


def test_two_things_have_a_window_each() -> None:
    both = picture((40, 80, 5, 45, RED), (50, 70, 90, 110, GREEN))
    left, right = windows(both, 2)
    assert left[32, 32].tolist() == list(RED)
    assert right[32, 32].tolist() == list(GREEN)


def test_every_aspect_that_is_asked_for_is_judged_and_no_other(judge: PromptJudge) -> None:
    made = picture((44, 84, 2, 42, RED))

    def follows(prompt: str) -> bool | None:
        return judge.follows(made, prompt)

    assert follows("a disc")
    assert follows("a small red disc on the left, dull style, white background")
    wrong = ("a square", "a green disc", "a disc on the right", "a disc, bright style")
    assert [follows(prompt) for prompt in wrong] == [False] * 4
    assert follows("a disc, black background") is False
    assert judge.follows(picture((10, 118, 10, 118, RED)), "a small disc") is False
    assert follows("a triangle") is None


def test_of_two_things_both_must_be_right_in_their_order(judge: PromptJudge) -> None:
    made = picture((40, 80, 5, 45, RED), (40, 80, 80, 120, GREEN))
    assert judge.follows(made, "a red disc and a green disc")
    assert judge.follows(made, "a green disc and a red disc") is False
    assert judge.follows(made, "a red disc and a green square") is False


def stored(folder: Path, **changes: object) -> None:
    """A judge's files, the card with changes."""
    weights = save(new_network(WORDS).state_dict())
    card = asdict(replace(CARD, weights_sha256=hashlib.sha256(weights).hexdigest())) | changes
    (folder / "judge").mkdir()
    (folder / "judge" / "model.safetensors").write_bytes(weights)
    (folder / "judge" / "judge.json").write_text(json.dumps(card))


def test_a_model_without_a_judge_has_none(tmp_path: Path) -> None:
    assert load_judge(tmp_path) is None


def test_a_stored_judge_is_read_with_its_words(tmp_path: Path) -> None:
    stored(tmp_path)
    random = torch.get_rng_state()
    judge = load_judge(tmp_path)
    assert torch.equal(torch.get_rng_state(), random), "an audit's process draws nothing"
    assert judge is not None
    assert judge.words == WORDS
    assert len(judge.seen(picture((40, 80, 5, 45, RED)), 2)) == 2


FIGURES = {aspect: {"right": 100, "of": 100} for aspect in ASPECTS}


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"weights_sha256": "0" * 64}, "other weights than its judge.json names"),
        ({"figures": FIGURES | {"tint": {"right": 94, "of": 100}}}, "right too seldom at: tint"),
        ({"figures": {}}, "right too seldom at: object, style"),
        ({"words": {}}, "cannot be read"),
        ({"words": asdict(replace(WORDS, tints=()))}, "no words of some kind"),
        ({"words": asdict(replace(WORDS, objects=("disc",)))}, "weights of another shape"),
    ],
)
def test_a_judge_that_cannot_be_trusted_is_not_asked(
    tmp_path: Path, changes: dict[str, object], why: str
) -> None:
    stored(tmp_path, **changes)
    with pytest.raises(ValueError, match=why):
        load_judge(tmp_path)


def test_a_judge_without_its_weights_is_not_asked(tmp_path: Path) -> None:
    stored(tmp_path)
    (tmp_path / "judge" / "model.safetensors").unlink()
    with pytest.raises(ValueError, match="cannot be read"):
        load_judge(tmp_path)


@pytest.mark.parametrize(("right", "of", "enough"), [(95, 100, True), (94, 100, False), (0, 0, 0)])
def test_95_percent_is_enough(right: int, of: int, enough: bool) -> None:
    assert good(Share(right=right, of=of)) == bool(enough)
