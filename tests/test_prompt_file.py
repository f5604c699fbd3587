"""Prompts and seeds as files: read whole, and one sentence for what is wrong."""

from collections.abc import Callable
from pathlib import Path

import pytest

from audit.plan import Plan
from audit.plan_file import PlanError, load_plan
from audit.prompt_file import read_prompts, read_seeds
from core.models import resolve
from core.platforms import detect
from core.request import Model
from tests.test_plan import MINIMAL

Write = Callable[[str, str], Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def write(name: str, text: str) -> Path:
        path = tmp_path / name
        path.write_text(text, encoding="utf-8")
        return path

    return write


@pytest.fixture(scope="module")
def pocket() -> Model:
    return resolve("pocket", Path(__file__).resolve().parents[1] / "data" / "pocket")


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("mine.txt", "# two\n\n a boat, at sea \na car\n"),
        ("mine.csv", '\ufeffname,prompt\n1,"a boat, at sea"\n2,a car\n'),
        ("mine.CSV", 'prompt, negative_prompt\n"a boat, at sea",\na car,\n'),
        (
            "mine.toml",
            '[[prompt]]\nname = "1"\nprompt = "a boat, at sea"\n'
            '[[prompt]]\nname = "2"\nprompt = "a car"\n',
        ),
    ],
)
def test_prompts_come_in_three_forms(write: Write, name: str, text: str) -> None:
    prompts = read_prompts(write(name, text))
    assert [(p.name, p.prompt, p.negative_prompt) for p in prompts] == [
        ("1", "a boat, at sea", ""),
        ("2", "a car", ""),
    ]


def test_a_table_may_say_what_not_to_show(write: Write) -> None:
    (prompt,) = read_prompts(write("mine.csv", "prompt,negative_prompt,name\na car,red,mine\n"))
    assert (prompt.name, prompt.negative_prompt) == ("mine", "red")


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("mine.txt", "# mine\n7\n4294967295\n"),
        ("mine.csv", "why,seed\nluck,7\nlast, 4294967295\n"),
        ("mine.toml", "seeds = [7, 4294967295]\n"),
    ],
)
def test_seeds_come_in_three_forms(write: Write, name: str, text: str) -> None:
    assert read_seeds(write(name, text)) == (7, 4294967295)


@pytest.mark.parametrize(
    ("read", "name", "text", "sentence"),
    [
        (read_prompts, "mine.txt", "\n# nothing\n", "there are no prompts in it"),
        (read_prompts, "mine.json", "[]", "prompts come as a .txt, .csv or .toml file"),
        (read_prompts, "mine.csv", "text\na car\n", "its first line names no column 'prompt'"),
        (read_prompts, "mine.csv", "prompt\na boat, at sea\n", "line 2 has more fields than"),
        (read_prompts, "mine.csv", "prompt,name\n,x\n", "line 2 has no prompt"),
        (read_prompts, "mine.csv", "prompt,name\na,x\nb,x\n", "two prompts are called 'x'"),
        (read_prompts, "mine.toml", "[[prompt]]\nprompt = 'a'\n", "prompt.1.name is missing"),
        (read_seeds, "mine.txt", "7\n\nseven\n", "line 3 is 'seven', and a seed is a whole"),
        (read_seeds, "mine.txt", "-1\n", "line 1 is '-1'"),
        (read_seeds, "mine.txt", "4294967296\n", "from 0 to 4294967295"),
        (read_seeds, "mine.csv", "seed\n1.5\n", "line 2 is '1.5'"),
        (read_seeds, "mine.txt", "7\n8\n7\n", "the seed 7 is there twice"),
        (read_seeds, "mine.toml", "seeds = [1, '2']\n", "seeds.2 should be a valid integer"),
        (read_seeds, "mine.toml", "seed = 1\n", "seeds is missing"),
    ],
)
def test_a_mistake_is_one_sentence_that_names_the_file(
    write: Write, read: Callable[[Path], object], name: str, text: str, sentence: str
) -> None:
    path = write(name, text)
    with pytest.raises(PlanError) as caught:
        read(path)
    line = str(caught.value).splitlines()[0]
    assert line.startswith(f"{path}: ")
    assert sentence in line


@pytest.mark.parametrize("read", [read_prompts, read_seeds])
def test_a_file_that_is_not_there_or_not_text_is_one_sentence(
    tmp_path: Path, read: Callable[[Path], object]
) -> None:
    path = tmp_path / "mine.txt"
    with pytest.raises(PlanError, match="not a readable text file"):
        read(path)
    path.write_bytes(b"\xff\xfe\xff")
    with pytest.raises(PlanError, match="not a readable text file"):
        read(path)


def pictures(plan: Plan) -> list[tuple[str, int]]:
    return [(request.prompt, request.seed) for request in plan.requests]


@pytest.fixture
def load(write: Write, pocket: Model) -> Callable[..., Plan]:
    platform = detect("cpu")

    def load(text: str, **options: object) -> Plan:
        return load_plan(write("plan.toml", text), pocket, platform, **options)  # type: ignore[arg-type]

    return load


FILES = MINIMAL.replace('count = 2\nprompts = ["apple"]\nfirst_seed = 40\n', "")


def test_a_plan_names_files_beside_it(write: Write, load: Callable[..., Plan]) -> None:
    write("mine.txt", "a boat\na car\n")
    write("seeds.csv", "seed\n3\n1\n2\n")
    text = FILES + 'prompts_file = "mine.txt"\nseeds_file = "seeds.csv"\n'
    assert pictures(load(text)) == [("a boat", 3), ("a car", 1), ("a boat", 2)]
    every = [("a boat", 3), ("a car", 1), ("a boat", 2), ("a car", 3), ("a boat", 1), ("a car", 2)]
    assert pictures(load(text + "count = 6\n")) == every
    only = load(FILES + 'prompts_file = "mine.txt"\nfirst_seed = 5\n')
    assert pictures(only) == [("a boat", 5), ("a car", 6)]
    named = load(FILES + 'prompts_file = "mine.txt"\nprompts = ["2"]\ncount = 2\n')
    assert pictures(named) == [("a car", 0), ("a car", 1)]


def test_as_many_prompts_as_seeds_meet_each_other_all(
    write: Write, load: Callable[..., Plan]
) -> None:
    write("mine.txt", "a boat\na car\n")
    write("seeds.txt", "1\n2\n")
    text = FILES + 'prompts_file = "mine.txt"\nseeds_file = "seeds.txt"\n'
    assert pictures(load(text)) == [("a boat", 1), ("a car", 2)]
    assert len(set(pictures(load(text + "count = 4\n")))) == 4
    with pytest.raises(PlanError, match="2 prompts and 2 seeds make 4 different pictures, and 5"):
        load(text + "count = 5\n")


def test_files_given_beside_a_plan_are_used_whole(write: Write, load: Callable[..., Plan]) -> None:
    mine, seeds = write("mine.txt", "a boat\na car\na bus\n"), write("seeds.txt", "9\n8\n7\n6\n")
    assert pictures(load(MINIMAL, prompts=mine)) == [("a boat", 40), ("a car", 41), ("a bus", 42)]
    apple = "a red apple, cartoon style, white background"
    assert pictures(load(MINIMAL, seeds=seeds)) == [(apple, seed) for seed in (9, 8, 7, 6)]
    assert len(load(MINIMAL, prompts=mine, seeds=seeds).requests) == 4
    assert len(load(MINIMAL, prompts=mine, clusters=2).requests) == 2


def test_two_clusters_are_never_the_same_picture(write: Write, load: Callable[..., Plan]) -> None:
    write("mine.txt", "a car\na car\n")
    write("seeds.txt", "1\n2\n")
    text = FILES + 'prompts_file = "mine.txt"\nseeds_file = "seeds.txt"\ncount = 3\n'
    with pytest.raises(PlanError, match="clusters 2 and 3 ask for the same picture: 'a car'"):
        load(text)


def test_a_plan_may_be_based_on_another(write: Write, load: Callable[..., Plan]) -> None:
    write("below.toml", MINIMAL + '[baseline]\nsettings = { attention = "none" }\n')
    plan = load('name = "mine"\nbased_on = "below.toml"\n[clusters]\nfirst_seed = 7\n')
    assert [request.seed for request in plan.requests] == [7, 8]
    assert plan.baseline.get("attention") == "none"
    write("below.toml", 'based_on = "plan.toml"\n')
    with pytest.raises(PlanError, match=r"based_on leads back to plan\.toml"):
        load('name = "mine"\nbased_on = "below.toml"\n')
    with pytest.raises(PlanError, match=r"nowhere\.toml: not a readable TOML file"):
        load('name = "mine"\nbased_on = "nowhere.toml"\n')
    with pytest.raises(PlanError, match="based_on should be the name"):
        load(MINIMAL.replace("[request]", "based_on = 1\n[request]"))
