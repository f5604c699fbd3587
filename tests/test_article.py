"""The article's benchmark: its plan, what differs from the article, and its figures beside ours."""

import io
import json
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from audit.articles_table import articles
from audit.deviations import deviations
from audit.document import document
from audit.estimate import estimate
from audit.execution import run_audit
from audit.judgement import judge
from audit.pictures import load_picture
from audit.plan import Plan
from audit.plan_file import load_plan
from audit.prompt_file import PlanError
from audit.prompt_length import prompt_length
from audit.published import read_published
from audit.report import render
from audit.schedule import expand
from audit.score import Audit, Control, MemoryRange, TimeRatio
from audit.side_by_side import side_by_side
from audit.statistics import MIN_PAIRS
from audit.timing import timing
from core.models import resolve
from core.platforms import Platform, detect
from core.request import Following, Model
from core.run import Effective, SlotEffect, TextSize, Timings
from core.store import Store
from tests.audit_records import BASELINE, Records, configuration, scene
from tests.fake_engine import PLATFORM, Behaviour, FakeEngine, FakeWorkers
from webapp.articles_card import articles as card

DATA = Path(__file__).resolve().parents[1] / "data"
ARTICLE = DATA / "plans" / "article.toml"
FIGURES = DATA / "platforms" / "rtx-4090.toml"


@pytest.fixture(scope="module")
def platform() -> Platform:
    return detect("cpu")


@pytest.fixture(scope="module")
def pocket() -> Model:
    return resolve("pocket", DATA / "pocket")


@pytest.fixture(scope="module")
def plan(pocket: Model, platform: Platform) -> Plan:
    return load_plan(ARTICLE, pocket, platform)


@pytest.fixture(scope="module")
def audit(pocket: Model, tmp_path_factory: pytest.TempPathFactory) -> Audit:
    """The article's plan with one cluster, carried out by fake workers and stored."""
    short = load_plan(ARTICLE, pocket, PLATFORM, clusters=1)
    with Store(tmp_path_factory.mktemp("article") / "seedproof.db") as store:
        workers = FakeWorkers(
            pictures=store.pictures,
            behaviours={
                "attention=none": Behaviour(slowdown=1.5),
                "token-merging=fixed:0.7": Behaviour(levels=90, slowdown=0.9),
            },
        )
        audit_id = run_audit(store, short, PLATFORM, pocket, workers)
        assert store.plan(audit_id, Plan) == short
        made = judge(store, audit_id)
        assert store.result(audit_id, Audit) == made
        return made


def test_the_plan_has_every_row_of_the_articles_tables(plan: Plan) -> None:
    assert plan.published is not None
    keys = {configuration.key for configuration in (plan.baseline, *plan.candidates)}
    assert len(keys) == 14
    for table in plan.published.table:
        for row in table.row:
            wanted = {**plan.baseline.as_dict(), **row.settings}
            assert " ".join(f"{slot}={text}" for slot, text in sorted(wanted.items())) in keys


def test_the_plan_is_the_articles_set_up_fitted_to_the_model(plan: Plan) -> None:
    assert plan.published is not None
    theirs, first = plan.published.setup, plan.timing_batches[0][0]
    assert (first.width, first.height) == (128, 128), "the shipped model's own size"
    assert first.sampler == theirs.sampler
    assert first.num_inference_steps == theirs.num_inference_steps
    assert first.guidance_scale == theirs.guidance_scale
    seeds = [[request.seed for request in batch] for batch in plan.timing_batches]
    assert seeds == [[100, 101], [102, 103]], "batch count by batch size, from their seed on"
    assert first.prompt not in {request.prompt for request in plan.requests}
    assert plan.requests[0].seed == theirs.seed
    assert set(plan.axes) == {"batch-size", "batch-position"}
    assert set().union(*plan.axes.values()) == {plan.baseline.key}


def test_the_plan_ends_within_half_an_hour_on_two_cores(plan: Plan, platform: Platform) -> None:
    assert estimate(expand(plan, replace(platform, cores=2, threads=2))).seconds < 30 * 60


def test_the_full_plan_is_larger_in_batches_and_clusters_only(
    plan: Plan, pocket: Model, platform: Platform
) -> None:
    full = load_plan(DATA / "plans" / "article-full.toml", pocket, platform)
    assert full.candidates == plan.candidates
    assert [len(batch) for batch in full.timing_batches] == [8, 8]
    assert [batch[0].seed for batch in full.timing_batches] == [100, 108]
    assert len(full.requests) >= 59, "so that a failure rate above 5 % can be excluded"
    assert full.published == plan.published


def test_batches_are_timed_in_turn_and_paired_one_by_one(audit: Audit) -> None:
    rows = [row for row in audit.scores if row.available and row.time_ratio]
    assert len(rows) == 14, "thirteen configurations and the placebo"
    for row in rows:
        assert row.time_ratio is not None
        assert row.time_ratio.pairs == 6 >= MIN_PAIRS
        assert row.memory_range is not None
        assert row.memory_range.runs == 6
    slow = next(row for row in rows if "attention=none" in row.key)
    assert slow.time_ratio is not None
    assert slow.time_ratio.ci95 == pytest.approx((1.49, 1.49), abs=0.02)


def test_a_batch_is_compared_with_the_same_batch() -> None:
    """The second one takes ten times as long, for both."""
    records, other = Records(), configuration(attention="none")
    for chosen in (BASELINE, other):
        for repeat, seconds in ((0, 1.0), (1, 10.0)):
            records.add(
                "timing",
                chosen,
                0,
                "timing 0.0",
                [scene(0)],
                repeat=repeat,
                block=1,
                seconds=seconds,
                peak=10**9 + repeat,
            )
    rows = {
        chosen: [entry for entry in records.planned if entry.configuration == chosen]
        for chosen in (BASELINE, other)
    }
    figures = timing(rows[other], rows[BASELINE], records.runs)
    assert figures.ratio == TimeRatio(median=1.0, ci95=(1.0, 1.0), pairs=2)
    assert figures.memory_range == MemoryRange(smallest=10**9, largest=10**9 + 1, runs=2)


def test_a_session_warms_up_with_one_batch(plan: Plan, platform: Platform) -> None:
    timed = [run for run in expand(plan, platform) if run.role == "timing"]
    baseline = [run for run in timed if run.configuration == plan.baseline and not run.placebo]
    places = [(run.group, run.block, run.repeat) for run in baseline]
    assert places == [
        (f"timing {session}.0", block, repeat)
        for session in range(3)
        for block, repeat in ((0, 0), (session + 1, 0), (session + 1, 1))
    ]
    assert all(len(run.job.requests) == 2 for run in timed)
    assert len({run.identity for run in timed}) == len(timed)


def lengths_of(
    plan: Plan, platform: Platform, long_keys: int
) -> tuple[tuple[Control, ...], list[str]]:
    """The control of prompt lengths, where a longer prompt takes a fifth longer."""
    planned = expand(plan, platform)
    runs = {}
    for entry in planned:
        if entry.role != "prompt-length":
            continue
        long = entry.repeat % 2
        run = FakeEngine().run(entry.job, Following())
        slot = SlotEffect(
            slot="attention",
            requested="sdp",
            effect="applied",
            counts={f"unet 2x2x1024x32 on {long_keys if long else 77} keys": 1.0},
        )
        runs[entry.identity] = replace(
            run,
            effective=Effective(slots=(slot,)),
            timings=Timings(denoise=(1.2 if long else 1.0) * (10 if not entry.block else 1)),
        )
    return prompt_length(planned, runs)


def test_what_a_long_prompt_costs_is_timed_in_turn(plan: Plan, platform: Platform) -> None:
    planned = [run for run in expand(plan, platform) if run.role == "prompt-length"]
    assert len(planned) == 3 * 3 * 2, "a pair after every batch, the warm-up's included"
    assert {run.group for run in planned} == {f"timing {session}.0" for session in range(3)}
    timed = {run.process for run in expand(plan, platform) if run.role == "timing"}
    assert timed.isdisjoint(run.process for run in planned)
    assert {len(run.job.requests[0].prompt.split()) > 75 for run in planned if run.repeat % 2} == {
        True
    }
    firsts = [run.repeat % 2 for run in planned[::2]]
    assert sorted(set(firsts)) == [0, 1], "neither always comes first"
    (control,), problems = lengths_of(plan, platform, long_keys=154)
    assert control.time_ratio is not None
    assert (control.time_ratio.median, control.time_ratio.pairs) == (pytest.approx(1.2), 6)
    assert problems == []
    assert prompt_length(expand(plan, platform), {}) == ((), [])


def test_a_long_prompt_that_was_cut_costs_nothing_and_says_so(
    plan: Plan, platform: Platform
) -> None:
    found, problems = lengths_of(plan, platform, long_keys=77)
    assert found == ()
    assert "no more keys than the shorter one (77)" in problems[0]


def test_what_differs_from_the_article_is_said(audit: Audit) -> None:
    told = "\n".join(audit.deviations)
    for piece in (
        "Machine: a fake CPU, torch of an unknown version; theirs: NVIDIA GeForce RTX 4090",
        "theirs: Chillout Mix",
        "Size: 128 × 128 px; theirs: 512 × 512 px.",
        "Batch count × batch size: 2 × 2; theirs: 2 × 8.",
        "judged on 1 prompt of the plan's own, seed 100;",
        "Memory: made up; theirs: peak VRAM.",
    ):
        assert piece in told, piece
    for same in ("Sampler", "Steps", "CFG scale", "First seed"):
        assert same not in told
    assert any("other pictures than those judged" in note for note in audit.notes)


def test_how_the_timed_prompts_were_read_is_what_the_engine_recorded(
    plan: Plan, platform: Platform
) -> None:
    planned = [run for run in expand(plan, platform) if run.role == "timing"][:40]
    cut = TextSize(tokens=90, chunks=2, chunk_tokens=75, padded_to=2, cut=3)
    short = replace(cut, tokens=60, chunks=1, cut=0)
    runs = {}
    for entry in planned:
        run = FakeEngine().run(entry.job, Following())
        effective = Effective(prompts=(cut,), negative_prompts=(short,), notes=("3 were lost.",))
        runs[entry.identity] = replace(run, effective=effective)
    (told,) = [s for s in deviations(plan, planned, runs, platform) if "timed prompts" in s]
    assert told == (
        "The timed prompts, as the engine read them (a1111): prompt of 90 tokens in 2 chunks of "
        "75, 154 keys for the UNet; negative prompt of 60 tokens in 1 chunk of 75, 154 keys for "
        "the UNet. 3 were lost."
    )


def test_a_plan_without_figures_differs_from_nothing(pocket: Model, platform: Platform) -> None:
    smoke = load_plan(DATA / "plans" / "smoke.toml", pocket, platform)
    assert smoke.published is None
    assert smoke.timing_batches == ()


def test_their_figures_stand_beside_ours(audit: Audit) -> None:
    attention, merging, sigma = side_by_side(audit)
    found = {row.theirs.label: row for row in attention.rows}
    assert found["None"].their_ratio == pytest.approx(35.1 / 10.5)
    assert found["sdp"].ours is not None
    assert found["sdp"].ours.key == audit.baseline
    assert found["xFormers"].ours is not None
    assert not found["xFormers"].ours.available
    for table in (merging, sigma):
        assert [row.theirs.label for row in table.rows] == ["0", "0.3", "0.5", "0.7"]
        assert all(row.ours is not None and row.ours.available for row in table.rows)
        assert table.rows[0].their_ratio == 1
    gone = replace(audit, scores=audit.scores[:1])
    assert side_by_side(gone)[0].rows[0].ours is None
    assert "no such row" in terminal(gone)
    assert "no such row" in card(gone)


def terminal(audit: Audit, width: int = 100) -> str:
    console = Console(width=width, file=io.StringIO(), color_system=None)
    for table in articles(audit):
        console.print(table)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_every_door_shows_tables_deviations_and_claims(audit: Audit) -> None:
    page, told, shown = render(audit, load_picture), terminal(audit), card(audit)
    assert max(len(line.rstrip()) for line in told.splitlines()) <= 100
    for text in (page, told, shown):
        spaced = text.replace("\N{NO-BREAK SPACE}", " ").replace("&nbsp;", " ")
        words = " ".join(spaced.split())
        for piece in ("35.1 s", "Negative guidance minimum sigma", "Size: 128 × 128 px", "refuted"):
            assert piece in words, piece
    judged = next(row.prompt_followed for row in audit.scores if row.key == audit.baseline)
    assert judged is not None
    for text in (page, told, shown):
        assert "prompt" in text
        assert f"{judged.followed} of 1" in text, "its prompts are the shipped judge's words"
    made = json.loads(json.dumps(document(audit)))
    assert made["published"]["machine"].startswith("NVIDIA GeForce RTX 4090")
    assert made["deviations"] == list(audit.deviations)
    assert [len(table["rows"]) for table in made["side_by_side"]] == [8, 4, 4]
    none = made["side_by_side"][0]["rows"][0]
    assert none["theirs"] == {"seconds": 35.1, "ratio": 35.1 / 10.5, "peak_gb": 23.1}
    assert none["key"] in {score["key"] for score in made["scores"]}
    verdicts = {claim["id"]: claim for claim in made["claims"]}
    assert verdicts["doggettx-faster-than-none"]["verdict"] == "confirmed"
    assert "6 pairs" in verdicts["doggettx-faster-than-none"]["figures"][0]
    assert verdicts["sdp-no-mem-repeats"]["verdict"] == "not testable here"


def test_an_audit_of_another_plan_shows_no_tables_of_an_article(audit: Audit) -> None:
    other = replace(audit, published=None, deviations=())
    assert terminal(other) == ""
    assert 'id="beside"' not in render(other, load_picture)
    assert 'id="beside"' not in card(other)
    assert 'id="claims"' in card(other), "it decides some"
    assert card(replace(other, scores=other.scores[:1])) == ""


def test_what_others_wrote_is_text(audit: Audit) -> None:
    assert audit.published is not None
    evil = "<script>alert(1)</script>"
    table = audit.published.table[0]
    row = replace(table.row[0], label=evil)
    published = replace(
        audit.published,
        source=evil,
        machine=evil,
        limits=(evil,),
        table=(replace(table, title=evil, row=(row, *table.row[1:])),),
    )
    hostile = replace(audit, published=published, deviations=(evil,))
    assert evil not in card(hostile)
    assert evil not in render(hostile, load_picture)
    assert card(hostile).count("&lt;script&gt;") == 6


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (("native_size = true", "width = 128"), "request.height is missing"),
        (("native_size = true", "native_size = true\nwidth = 8"), "cannot stand beside native"),
        (("sessions = 3", 'sessions = "clusters"'), "timing.batches need sessions of their own"),
        (('prompt = "benchmark"', 'prompt = "mine"'), "no prompt is called 'mine'; there are "),
        (("size = 2", "size = 0"), "timing.batches.size should be greater than or equal to 1"),
        (("rtx-4090.toml", "rtx-9999.toml"), "rtx-9999.toml: not a readable TOML file"),
        (('prompt = "(close-up', 'prompt = "<lora:ink:1> (close-up'), "prompt 'benchmark': The "),
    ],
)
def test_a_wrong_plan_is_a_sentence(
    tmp_path: Path,
    pocket: Model,
    platform: Platform,
    change: tuple[str, str],
    sentence: str,
) -> None:
    text = ARTICLE.read_text(encoding="utf-8").replace("../platforms/", f"{FIGURES.parent}/")
    assert change[0] in text
    path = tmp_path / "mine.toml"
    path.write_text(text.replace(*change, 1), encoding="utf-8")
    with pytest.raises(PlanError, match=sentence):
        load_plan(path, pocket, platform)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (('unit = "sdp"', 'unit = "SDP"'), "its unit is 'SDP', and its rows are None, doggettx"),
        (("seconds = 35.1", 'seconds = "soon"'), "table.1.row.1.seconds should be a valid number"),
        (("[setup]", "[setup]\nprice = 3"), "setup.price is not a key that such a file has"),
    ],
)
def test_wrong_figures_are_a_sentence(
    tmp_path: Path, change: tuple[str, str], sentence: str
) -> None:
    path = tmp_path / "figures.toml"
    path.write_text(FIGURES.read_text(encoding="utf-8").replace(*change, 1), encoding="utf-8")
    with pytest.raises(PlanError, match=sentence):
        read_published(path)
