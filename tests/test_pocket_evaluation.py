"""What is counted of the shipped model's pictures, and what its card says of it."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from audit.calibration import Calibration, summary
from audit.metrics import METRICS
from audit.prompt_judge import ASPECTS, Seen
from tests.conftest import Script

POCKET = Path(__file__).parent.parent / "data" / "pocket"


class Blank:
    """A subject whose pictures say only their arm and their place in it."""

    def __init__(self) -> None:
        self.arms: dict[str, int] = {}
        self.negative: dict[str, Any] = {}

    def pictures(
        self, arm: str, prompts: list[str], *rest: Any, negative: Any = None, size: Any = None
    ) -> list[Image.Image]:
        number = self.arms.setdefault(arm, len(self.arms))
        self.negative[arm] = negative
        return [Image.new("RGB", (8, 8), (i, number, 0)) for i in range(len(prompts))]


class Told:
    """A judge that sees what it is told to, by arm and place."""

    def __init__(self, names: dict[tuple[int, int], tuple[str, ...]], grounds: list[str]) -> None:
        self.names, self.grounds = names, grounds

    def seen(self, picture: Any, things: int) -> tuple[Seen, ...]:
        place, arm = picture[0, 0, :2].tolist()
        return tuple(Seen(name=n, style="flat", tint="red") for n in self.names[arm, place])

    def background(self, picture: Any) -> str:
        place, arm = picture[0, 0, :2].tolist()
        return self.grounds[place] if arm == 0 else "pink"


def test_with_a_negative_prompt_what_it_names_is_counted_and_what_it_leaves(
    script: Script, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    evaluate = script("evaluate")
    monkeypatch.setattr(evaluate, "ARM", 4)
    scenes = evaluate.two_objects(4)
    both = [tuple(thing.name for thing in scene.things) for scene in scenes]
    left = [(names[0], names[0]) for names in both]
    seen = {(0, i): names for i, names in enumerate(both)} | {
        (1, i): names for i, names in enumerate([both[0], *left[1:]])
    }
    subject = Blank()
    evaluation = evaluate.Evaluation(tmp_path, subject, Told(seen, []), tmp_path)
    result = evaluation.negative_object()
    assert (result["without"], result["with"]) == (
        {"named": 4, "other": 4},
        {"named": 1, "other": 4},
    )
    assert subject.negative["two-with"] == [names[1] for names in both]
    assert subject.negative["two-without"] is None


def test_without_a_background_in_the_prompt_a_named_one_is_counted(
    script: Script, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    evaluate = script("evaluate")
    monkeypatch.setattr(evaluate, "ARM", 4)
    _, named = evaluate.open_backgrounds(4)
    subject = Blank()
    judge = Told({}, [named[0], named[1], "pink", "pink"])
    assert "pink" not in named
    result = evaluate.Evaluation(tmp_path, subject, judge, tmp_path).negative_background()
    assert result["without"]["named"] == 2
    assert result["with"] == {"named": 0, "frequency": {"pink": 4}}
    assert subject.negative["open-with"] == [f"{name} background" for name in named]


def test_arms_of_a_negative_prompt_ask_for_every_pair_and_every_colour(script: Script) -> None:
    """Strides that share a divisor with what they walk over would leave most of it out."""
    evaluate, prompts = script("evaluate"), script("prompts")
    made = {tuple(t.name for t in scene.things) for scene in evaluate.two_objects(evaluate.ARM)}
    assert made == set(prompts.held_out_pairs())
    scenes, named = evaluate.open_backgrounds(evaluate.ARM)
    assert len({(scene.things[0].name, scene.style) for scene in scenes}) == 90
    assert not any("background" in scene.caption for scene in scenes)
    counts = [named.count(colour) for colour in script("scenes").BACKGROUNDS]
    assert max(counts) - min(counts) <= 1


def test_calibration_compares_like_with_like(script: Script, tmp_path: Path) -> None:
    calibrate = script("calibrate")

    class Noted(Blank):
        model = type("Model", (), {"digest": "d" * 64})
        calls: list[tuple[str, list[str], list[int], int, int | None]]

        def pictures(self, arm: str, prompts: list[str], *rest: Any, **more: Any) -> Any:
            self.calls.append((arm, prompts, *rest, more.get("nudge")))
            size = (16, 16)
            return [Image.new("RGB", size, (seed % 256, 0, 0)) for seed in rest[0]]

    subject = Noted()
    subject.calls = []
    made = calibrate.controls(subject, 30, 8)
    (_, prompts, seeds, steps, nudge), *others = subject.calls
    assert (len(prompts), len(set(seeds)), steps, nudge) == (30, 30, 8, None)
    assert {"cartoon", "flat"} <= {word for text in prompts for word in text.split()}
    assert [call[1] for call in others] == [prompts] * 6
    assert [call[4] for call in others] == [0, 1500, 3000, None, None, None]
    assert all(call[2] == seeds for call in others[:3])
    assert set(seeds).isdisjoint(seed for call in others[3:] for seed in call[2])
    assert [len(pairs) for pairs in made.pairs.values()] == [90] * 3
    assert {pair["max_abs"] for pair in made.pairs["ulp-nudge"]} == {0}
    assert {pair["max_abs"] for pair in made.pairs["other-seed"]} == {1, 2, 3}


def result(shows: int, of: int) -> dict[str, Any]:
    """An evaluation in which so many pictures of every group show all that is asked."""
    groups = {
        "middle": (),
        "tinted": ("tint",),
        "small": ("size",),
        "sided": ("position",),
        "pair": (),
    }
    pictures = [
        {
            "group": group,
            "prompt": f"picture {i}",
            "asked": ["cat"],
            "seen": ["cat" if i < shows else "dog"],
            "shows": dict.fromkeys(["object", "style", "background", *more], i < shows),
        }
        for group, more in groups.items()
        for i in range(of)
    ]
    return {
        "held_out": {"pictures": pictures},
        "negative_object": {
            "pictures": 300,
            "without": {"named": 100, "other": 90},
            "with": {"named": 20, "other": 80},
        },
        "negative_background": {
            "pictures": 300,
            "without": {"named": 40, "frequency": {}},
            "with": {"named": 9, "frequency": {}},
        },
        "sizes": {"pictures": {"256x128": [{"shows": {"object": True, "style": True}}]}},
        "autoencoder": {"psnr_db": 29.5},
    }


@pytest.mark.parametrize(("shows", "reached"), [(19, 5), (18, 4), (17, 4), (16, 3), (8, 1), (7, 0)])
def test_the_five_goals_are_reached_by_counts_alone(
    script: Script, shows: int, reached: int
) -> None:
    lines = script("figures").goals(result(shows, 20)).splitlines()[2:]
    assert sum(line.endswith("| reached |") for line in lines[:5]) == reached
    assert [line.endswith("| reached |") for line in lines[5:]] == [True, False, False]
    assert f"{5 * shows} / 100 ({5 * shows} %;" in lines[0]


def test_the_card_lists_mistakes_and_failures(script: Script) -> None:
    figures = script("figures")
    found = result(18, 20)
    assert figures.confusion(found) == "dog for cat (10)"
    assert figures.failures(found).splitlines()[0] == "1. dog for: picture 18"
    judge = {"figures": {aspect: {"right": 19, "of": 20} for aspect in ASPECTS}}
    groups = figures.groups(found, judge).splitlines()
    assert groups[2].startswith("| one object in the middle, both styles | 18 / 20 (90 %;")
    assert groups[-2].count("90 / 100") == 3 + 1
    assert groups[-1].endswith("| 19 / 20 (95.0%) |  |")


LOG = [
    {"minutes": 60.0, "steps": 100, "pictures": 2000, "held_out_loss": [0.4, 0.3, 0.2, 0.1]},
    *(
        {
            "minutes": minutes,
            "steps": 10,
            "pictures": 200,
            "cooldown": cooldown,
            "learning_rate": 0.0015,
            "shards": 3,
            "held_out_loss": [0.4, 0.3, 0.2, 0.1],
        }
        for minutes, cooldown in [(5.0, False), (10.0, False), (15.0, True), (12.0, False)]
    ),
]


def test_the_log_is_told_by_its_stretches(script: Script) -> None:
    lines = script("figures").sittings(LOG).splitlines()
    assert [line.split(":")[0] for line in lines] == [
        f"- up to minute {minute}" for minute in (60, 10, 15, 12)
    ]
    assert [line.rpartition(", ")[2] for line in lines] == [
        "learning rate not in the log",
        "constant",
        "falling to zero",
        "constant",
    ]


def test_the_card_is_filled_from_the_files_and_refuses_other_weights(
    script: Script, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    card = script("card")
    with pytest.raises(SystemExit, match=r"is missing: run evaluate\.py first"):
        card.read(tmp_path / "results.json", "evaluate.py")
    here = card.digest(POCKET)
    results = result(18, 20) | {"weights": here, "judge": "j", "grid": {"seed": 7}}
    results["autoencoder"] |= {
        "psnr_db_with_noise_of_0.1": 28.0,
        "pictures": 64,
        "colour_shift_levels": [0.1, -0.2, 0.0],
    }
    judge = {
        "weights_sha256": "j",
        "figures": {aspect: {"right": 19, "of": 20} for aspect in ASPECTS},
        "accepted": {"right": 55, "of": 60},
        "refused": {"right": 59, "of": 60},
    }
    pair = {metric.name: metric.identical for metric in METRICS}
    controls = Calibration(
        model_digest=here,
        num_inference_steps=8,
        guidance_scale=5.0,
        width=128,
        height=128,
        prompts=("a cat",),
        pairs={"ulp-nudge": (pair,), "other-seed": ({**pair, "ssim": 0.1, "max_abs": 9.0},)},
    )
    document = {"controls": asdict(controls), **summary(controls)}
    card.current(LOG, results, judge, document)
    monkeypatch.setattr(card, "FOLDER", "unet")
    monkeypatch.setattr(card, "WEIGHTS", "config.json")
    text = card.filled(LOG, results, judge, document)
    said = ("90 / 100", "100 → 20 of 300", "29.5 dB", "dog for cat (10)", "minute 12")
    for part in (*said, "of 55 of 60", "3,000 of 128 × 128 px"):
        assert part in text, part
    assert "{" not in text
    with pytest.raises(SystemExit, match="of other weights or of another judge"):
        card.current(LOG, results | {"weights": "0"}, judge, document)
    with pytest.raises(SystemExit, match=r"run evaluate\.py --only sizes"):
        card.current(LOG, {k: v for k, v in results.items() if k != "sizes"}, judge, document)
    with pytest.raises(SystemExit, match="the log ends before these scripts"):
        card.current(LOG[:1], results, judge, document)
    other = {"controls": {**document["controls"], "model_digest": "0"}}
    with pytest.raises(SystemExit, match="calibration is of other weights"):
        card.current(LOG, results, judge, other)
