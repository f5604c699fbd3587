"""The prompts that the shipped model is to be measured by are what their script says."""

import importlib
import json
import random
import sys
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from types import ModuleType

import pytest

POCKET = Path(__file__).parent.parent / "data" / "pocket"


@pytest.fixture(scope="module")
def scripts() -> Iterator[None]:
    """The training scripts import each other by their plain names; they leave no trace here."""
    before, path = set(sys.modules), list(sys.path)
    sys.path.insert(0, str(POCKET / "training"))
    yield
    sys.path[:] = path
    for name in set(sys.modules) - before:
        file = getattr(sys.modules[name], "__file__", None) or ""
        if Path(file).parent == POCKET / "training":
            del sys.modules[name]


def script(name: str) -> ModuleType:
    return importlib.import_module(name)


@pytest.mark.usefixtures("scripts")
def test_the_prompts_are_300_combinations_that_training_never_draws() -> None:
    scenes, prompts = script("scenes"), script("prompts")
    made = prompts.held_out_prompts()
    lines = (POCKET / "evaluation" / "prompts.jsonl").read_text().splitlines()
    assert lines == [prompt.line() for prompt in made]
    assert len(lines) == 300
    assert all(scenes.held_out(prompt.scene) for prompt in made)
    asked = {json.loads(line)["prompt"] for line in lines}
    training = islice(scenes.training_scenes(random.Random(5)), 4000)
    assert asked.isdisjoint(scene.caption for scene in training)
