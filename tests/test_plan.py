"""Plans: read with one sentence per mistake, expanded to runs in a reproducible order."""

import hashlib
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
from diffusers import EulerDiscreteScheduler

from audit.estimate import Costs, estimate, measured
from audit.plan import Plan, PlannedRun
from audit.plan_file import PlanError, load_plan, timing_workers
from audit.schedule import expand, groups_of
from audit.score import AXES
from audit.trials import trials
from audit.verdicts import MIN_TRIALS
from core.models import resolve
from core.optimization import Configuration
from core.optimizations import SLOTS, configure
from core.platforms import Platform, detect
from core.request import Following, Model, Request
from tests.fake_engine import MODEL, PLATFORM, FakeEngine

DATA = Path(__file__).resolve().parents[1] / "data"
BASELINE = Configuration((("attention", "sdp"), ("precision", "fp32")))
CANDIDATE = Configuration((("attention", "none"), ("precision", "fp32")))
OTHER = Configuration((("attention", "split-v1"), ("precision", "fp32")))
EVERYTHING = Plan(
    name="everything",
    baseline=BASELINE,
    candidates=(CANDIDATE, OTHER),
    skipped={OTHER.key: "cannot"},
    requests=tuple(
        Request(prompt=prompt, model=MODEL, seed=seed, num_inference_steps=3)
        for prompt in ("a cat", "a dog")
        for seed in (1, 2, 3)
    ),
    axes=dict.fromkeys(
        ("after-other-work", "batch-size", "batch-position", "threads"),
        (BASELINE.key, CANDIDATE.key),
    ),
    timing_sessions=2,
)

MINIMAL = """
name = "mine"
[request]
num_inference_steps = 3
guidance_scale = 5
width = 128
height = 128
[clusters]
count = 2
prompts = ["apple"]
first_seed = 40
"""


@pytest.fixture(scope="module")
def platform() -> Platform:
    return detect("cpu")


@pytest.fixture(scope="module")
def pocket() -> Model:
    return resolve("pocket", DATA / "pocket")


@pytest.fixture
def written(tmp_path: Path, pocket: Model, platform: Platform) -> Callable[[str], Plan]:
    def load(text: str) -> Plan:
        path = tmp_path / "mine.toml"
        path.write_text(text)
        return load_plan(path, pocket, platform)

    return load


def test_a_minimal_plan_has_the_platforms_defaults(
    written: Callable[[str], Plan], platform: Platform
) -> None:
    plan = written(MINIMAL)
    assert plan.baseline == configure({}, platform)
    assert [request.seed for request in plan.requests] == [40, 41]
    assert {request.prompt for request in plan.requests} == {
        "a red apple, cartoon style, white background"
    }
    assert plan.candidates == ()
    assert {run.placebo for run in expand(plan, platform)} == {False, True}


def test_a_plan_may_bring_its_own_prompts(written: Callable[[str], Plan]) -> None:
    text = MINIMAL.replace('"apple"', '"mine"') + '[[prompt]]\nname = "mine"\nprompt = "a boat"\n'
    assert written(text).requests[0].prompt == "a boat"


def test_a_plans_sampler_has_one_name_however_it_is_written(
    written: Callable[[str], Plan],
) -> None:
    plan = written(MINIMAL.replace("[clusters]", 'sampler = "euler ancestral"\n[clusters]'))
    assert {request.sampler for request in plan.requests} == {"Euler a"}


def test_a_plans_prompts_are_read_as_automatic1111_reads_them(
    written: Callable[[str], Plan],
) -> None:
    assert {r.prompt_syntax for r in written(MINIMAL).requests} == {"a1111"}
    plain = MINIMAL.replace("[clusters]", 'prompt_syntax = "plain"\n[clusters]')
    mine = '[[prompt]]\nname = "mine"\nprompt = "a boat <lora:ink:1>"\n'
    own = (text.replace('"apple"', '"mine"') + mine for text in (plain, MINIMAL))
    assert written(next(own)).requests[0].prompt_syntax == "plain"
    with pytest.raises(PlanError, match="prompt 'mine': The prompt has <lora:ink:1>"):
        written(next(own))


def test_a_candidate_stands_on_the_baseline(
    written: Callable[[str], Plan], platform: Platform
) -> None:
    plan = written(
        MINIMAL
        + """
[baseline]
settings = { attention = "none" }
[[candidate]]
settings = { token-merging = "0.5" }
axes = ["threads"]
[[candidate]]
settings = { attention = "none" }
"""
    )
    expected = configure({"attention": "none", "token-merging": "seeded:0.5"}, platform)
    assert plan.candidates == (expected,), "and one that equals the baseline is left out"
    assert plan.axes == {"threads": (expected.key,)}


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (("count = 2\n", ""), "clusters.count is missing"),
        (
            ('name = "mine"', 'name = "mine"\naxes = ["moon"]'),
            "axes.1 should be 'after-other-work'",
        ),
        (("count = 2", "count = 0"), "clusters.count should be greater than or equal to 1"),
        (("count = 2", 'count = "2"'), "clusters.count should be a valid integer"),
        (("width = 128\n", ""), "request.width is missing"),
        (("width = 128", "width = 100"), "request.width should be a multiple of 8"),
        (
            ("[clusters]", 'prompt_syntax = "compel"\n[clusters]'),
            "request.prompt_syntax should be 'a1111' or 'plain'",
        ),
        (("width = 128", "width = 72"), "request: width must be a multiple of 32"),
        (("count = 2", "count = 2\nclusters = 3"), "clusters.clusters is not a key"),
        (('"apple"', '"pear"'), "no prompt is called 'pear'; there are apple, panda"),
        (("name =", "nam ="), "name is missing"),
        (('name = "mine"', 'name = "mine'), "not a readable TOML file"),
        (
            ("height = 128", 'height = 128\nsampler = "Magic"'),
            "request.sampler: Unknown sampler 'Magic'",
        ),
        (("[clusters]", "[timing]\nsessions = 9\n[clusters]"), "9 sessions cannot share 4 blocks"),
        (
            ("[clusters]", '[[candidate]]\nsettings = { attention = "magic" }\n[clusters]'),
            "candidate 1: attention has no option 'magic'",
        ),
        (
            ("[clusters]", '[[candidate]]\naxes = ["same-process"]\n[clusters]'),
            "candidate.1.axes.1 should be 'after-other-work', 'batch-size'",
        ),
        (
            ("[clusters]", '[[candidate]]\nsettings = { attention = "none" }\n' * 2 + "[clusters]"),
            "candidate 2 repeats another one: attention=none",
        ),
    ],
)
def test_a_mistake_is_one_sentence(
    written: Callable[[str], Plan], change: tuple[str, str], sentence: str
) -> None:
    with pytest.raises(PlanError) as caught:
        written(MINIMAL.replace(*change))
    (line,) = [line for line in str(caught.value).splitlines() if "nam is not a key" not in line]
    assert "mine.toml: " in line
    assert sentence in line


def test_all_mistakes_are_told_at_once(written: Callable[[str], Plan]) -> None:
    with pytest.raises(PlanError) as caught:
        written(MINIMAL.replace("count = 2", "count = 0").replace("guidance_scale = 5\n", ""))
    assert len(str(caught.value).splitlines()) == 2


def test_a_plan_that_is_not_there_is_one_sentence(pocket: Model, platform: Platform) -> None:
    with pytest.raises(PlanError, match="not a readable TOML file"):
        load_plan(Path("nowhere.toml"), pocket, platform)


@pytest.mark.parametrize(
    "path", sorted((DATA / "plans").glob("*.toml")), ids=lambda path: path.stem
)
def test_shipped_plans_load(path: Path, pocket: Model, platform: Platform) -> None:
    plan = load_plan(path, pocket, platform)
    assert plan.name == path.stem
    assert plan.summary
    assert len(plan.requests) == len(set(plan.requests))


def test_the_quick_plan_can_hold_and_says_why_xformers_is_missing(
    pocket: Model, platform: Platform
) -> None:
    plan = load_plan(DATA / "plans" / "quick.toml", pocket, platform)
    assert len(plan.requests) == 6
    assert len(plan.runnable) == 9
    ((key, reason),) = plan.skipped.items()
    assert "xformers" in key
    assert reason
    with_avx512 = Costs(row_step=0.0425, picture=0.05)
    assert estimate(expand(plan, platform), with_avx512).seconds < 300


def test_sessions_by_cluster_make_the_timed_processes_the_second_ones(
    pocket: Model, platform: Platform
) -> None:
    plan = load_plan(DATA / "plans" / "quick.toml", pocket, platform, clusters=7)
    assert (plan.timing_sessions, plan.timing_blocks) == (7, 7)
    planned = expand(plan, platform)
    for cluster in range(7):
        for row in ({}, {"placebo": True}):
            mine = [
                run
                for run in planned
                if run.cluster == cluster
                and run.configuration == plan.baseline
                and run.placebo == bool(row)
                and run.role in ("determinism", "timing")
            ]
            assert len({run.process for run in mine}) == 2
            assert [run.block for run in mine if run.role == "timing"] == [0, cluster + 1]
            assert all(run.job.requests == (plan.requests[cluster],) for run in mine)
    kinds = Counter(
        run.configuration.key
        for run in planned
        if run.job.conditions.process == "exec" and not run.placebo
    )
    assert set(kinds.values()) == {1}
    assert len(kinds) == len(plan.runnable)
    axes = trials([run for run in planned if run.configuration == plan.candidates[0]])
    assert len(axes["same-process"]) == len(axes["fresh-process"]) == 7
    for trial in axes["same-process"]:
        ((first, second),) = [(pair.first, pair.second) for pair in trial.pairs]
        assert first.process == second.process
        assert (first.block, second.block) == (0, trial.cluster + 1)
    for trial in axes["fresh-process"]:
        ((first, second),) = [(pair.first, pair.second) for pair in trial.pairs]
        assert first.process != second.process
        assert (first.role, second.role, second.block) == ("determinism", "timing", 0)


def test_axes_can_be_asked_for_every_configuration(
    written: Callable[[str], Plan],
) -> None:
    plan = written(
        MINIMAL.replace("[request]", 'axes = ["threads", "batch-size"]\n[request]')
        + '[[candidate]]\nsettings = { attention = "none" }\naxes = ["threads", "batch-position"]\n'
    )
    both = (plan.baseline.key, plan.candidates[0].key)
    assert plan.axes == {"threads": both, "batch-size": both, "batch-position": both[1:]}


def test_extra_axes_may_be_tried_in_fewer_clusters_than_there_are() -> None:
    runs = expand(replace(EVERYTHING, axis_clusters=2), PLATFORM)
    for axis in ("batch-size", "batch-position", "threads", "after-other-work"):
        assert {run.cluster for run in runs if run.role == axis} == {0, 1}
    assert {run.cluster for run in runs if run.role == "determinism"} == set(range(6))
    assert {run.cluster for run in runs if run.role == "ulp-nudge"} == set(range(6))


def test_clusters_can_be_asked_for(pocket: Model, platform: Platform) -> None:
    plan = load_plan(DATA / "plans" / "smoke.toml", pocket, platform, clusters=7)
    assert [request.seed for request in plan.requests] == list(range(1, 8))


def test_the_quick_plans_minimum_sigma_acts(pocket: Model, platform: Platform) -> None:
    """The sixth and eighth of eight steps lie below it, which `alternate` skips."""
    plan = load_plan(DATA / "plans" / "quick.toml", pocket, platform)
    scheduler = EulerDiscreteScheduler.from_pretrained(pocket.path / "scheduler")
    scheduler.set_timesteps(plan.requests[0].num_inference_steps)
    for value in {c.get("min-sigma") for c in plan.candidates} - {"off"}:
        limit = float(value.partition(":")[2])
        below = [i for i, sigma in enumerate(scheduler.sigmas[:-1].tolist()) if sigma < limit]
        assert below == [5, 6, 7]


def test_the_standard_plans_minimum_sigmas_skip_what_the_articles_skip(
    pocket: Model, platform: Platform
) -> None:
    """With 20 Euler steps 2, 4 and 6 lie below 0.3, 0.5 and 0.7: `alternate` skips 1, 2 and 3."""
    plan = load_plan(DATA / "plans" / "standard.toml", pocket, platform)
    scheduler = EulerDiscreteScheduler.from_pretrained(pocket.path / "scheduler")
    scheduler.set_timesteps(plan.requests[0].num_inference_steps)
    below = {}
    for value in {c.get("min-sigma") for c in plan.candidates} - {"off"}:
        limit = value.partition(":")[2]
        steps = [
            i for i, sigma in enumerate(scheduler.sigmas[:-1].tolist()) if sigma < float(limit)
        ]
        below[limit] = steps
        assert sum(step % 2 for step in steps) == len(steps) // 2
    assert {limit: len(steps) for limit, steps in below.items()} == {"0.3": 2, "0.5": 4, "0.7": 6}


def test_the_standard_plan_tries_every_axis_on_every_configuration(
    pocket: Model, platform: Platform
) -> None:
    plan = load_plan(DATA / "plans" / "standard.toml", pocket, platform)
    keys = {c.key for c in (plan.baseline, *plan.candidates)}
    extra = set(AXES) - {"same-process", "fresh-process"}
    assert {axis: set(rows) for axis, rows in plan.axes.items()} == dict.fromkeys(extra, keys)
    assert (plan.axis_clusters or 0) >= MIN_TRIALS
    wanted = {
        *(f"token-merging=seeded:{ratio}" for ratio in (0.3, 0.5, 0.7)),
        *(f"min-sigma=alternate:{sigma}" for sigma in (0.3, 0.5, 0.7)),
        "token-merging=as-shipped:0.5",
        "min-sigma=all:0.7",
    }
    assert wanted <= {part for key in keys for part in key.split()}
    attention = next(slot for slot in SLOTS if slot.name == "attention")
    tried = {c.get("attention") for c in (plan.baseline, *plan.candidates)}
    assert tried == {option.name for option in attention.options} - {"auto"}, "auto is one of them"


def test_few_workers_where_memory_is_small(tiny_model_path: Path) -> None:
    model = Model(name="tiny", path=tiny_model_path, digest="")
    small, large = (replace(PLATFORM, memory_bytes=n * 10**9) for n in (1, 64))
    assert timing_workers(model, small) == 2
    assert timing_workers(model, large) > 20


def test_identities_are_unique_stable_and_do_not_know_where_weights_lie() -> None:
    runs = expand(EVERYTHING, PLATFORM)
    assert len({run.identity for run in runs}) == len(runs)
    assert expand(EVERYTHING, PLATFORM) == runs
    moved = replace(MODEL, path=Path("elsewhere"), name="another name")
    requests = tuple(replace(request, model=moved) for request in EVERYTHING.requests)
    assert [r.identity for r in expand(replace(EVERYTHING, requests=requests), PLATFORM)] == [
        run.identity for run in runs
    ]
    others = replace(MODEL, digest="0" * 64)
    requests = tuple(replace(request, model=others) for request in EVERYTHING.requests)
    changed = {r.identity for r in expand(replace(EVERYTHING, requests=requests), PLATFORM)}
    assert changed.isdisjoint(run.identity for run in runs)


def test_identities_are_those_of_audits_that_are_older_than_some_fields() -> None:
    """So that they go on: their plain prompts are not told apart by fields that came later."""
    identities = "".join(run.identity for run in expand(EVERYTHING, PLATFORM))
    assert hashlib.sha256(identities.encode()).hexdigest() == (
        "c2909f502ebaa2f61b0444bb4e3d5b7e9c1989755707cd789a6943d11e04a741"
    )
    requests = tuple(replace(request, prompt_syntax="a1111") for request in EVERYTHING.requests)
    others = expand(replace(EVERYTHING, requests=requests), PLATFORM)
    assert {run.identity for run in others}.isdisjoint(
        run.identity for run in expand(EVERYTHING, PLATFORM)
    )


def test_the_order_follows_from_the_seed_and_not_from_the_set_of_runs() -> None:
    runs = expand(EVERYTHING, PLATFORM)
    again = expand(replace(EVERYTHING, order_seed=1), PLATFORM)
    assert [run.identity for run in again] != [run.identity for run in runs]
    assert {run.process for run in again} == {run.process for run in runs}


def test_every_comparison_has_its_runs() -> None:
    runs = expand(EVERYTHING, PLATFORM)
    for cluster in range(6):
        for configuration, placebo in ((BASELINE, False), (BASELINE, True), (CANDIDATE, False)):
            row = [
                run
                for run in runs
                if (run.configuration, run.placebo, run.cluster)
                == (configuration, placebo, cluster)
                and run.role != "timing"
            ]
            roles = Counter(run.role for run in row)
            controls = {"ulp-nudge": 1, "other-seed": 1}
            axes = {
                "batch-size": 2,
                "batch-position": 1,
                "threads": 1,
                "other-work": 1,
                "after-other-work": 1,
            }
            expected = {"determinism": 3}
            if not placebo:
                expected |= axes
            if configuration == BASELINE and not placebo:
                expected |= controls
            assert roles == expected
    assert not [run for run in runs if run.configuration == OTHER]


def test_batches_hold_the_request_where_they_say_and_neighbours_with_other_seeds() -> None:
    for run in expand(EVERYTHING, PLATFORM):
        request = EVERYTHING.requests[run.cluster]
        place = {"batch-size": 0, "batch-position": -1}.get(run.role)
        if place is not None:
            assert run.job.requests[place] == request
            assert len({r.seed for r in run.job.requests}) == len(run.job.requests)


def test_position_needs_the_first_of_four_even_where_sizes_have_none() -> None:
    plan = replace(EVERYTHING, batch_sizes=(2,), axes={"batch-position": (BASELINE.key,)})
    sizes = {
        (run.role, len(run.job.requests))
        for run in expand(plan, PLATFORM)
        if run.role in ("batch-size", "batch-position")
    }
    assert sizes == {("batch-size", 4), ("batch-position", 4)}


def test_other_work_is_another_configuration_and_picture() -> None:
    runs = expand(EVERYTHING, PLATFORM)
    for before, after in pairwise(runs):
        if after.role == "after-other-work":
            assert before.role == "other-work"
            assert before.process == after.process
            assert before.job.configuration != after.job.configuration == after.configuration
            assert after.job.requests[0] not in before.job.requests


def test_runs_of_a_process_are_adjacent_and_of_one_kind() -> None:
    runs = expand(EVERYTHING, PLATFORM)
    for group in groups_of(runs).values():
        start = runs.index(group[0])
        assert runs[start : start + len(group)] == group
    for process in {run.process for run in runs}:
        conditions = {
            (run.job.conditions.process, run.job.conditions.threads)
            for run in runs
            if run.process == process
        }
        assert len(conditions) == 1


def test_every_configuration_has_an_execd_second_process() -> None:
    runs = expand(replace(EVERYTHING, exec_clusters=2), PLATFORM)
    execd = [run for run in runs if run.job.conditions.process == "exec"]
    assert all(run.role == "determinism" and run.process.endswith("/b") for run in execd)
    assert Counter((run.configuration, run.placebo) for run in execd) == {
        (BASELINE, False): 2,
        (BASELINE, True): 2,
        (CANDIDATE, False): 2,
    }
    assert len({run.cluster for run in execd}) > 2


def test_rounds_finish_a_cluster_everywhere_before_the_next() -> None:
    clusters = [run.cluster for run in expand(EVERYTHING, PLATFORM) if run.role != "timing"]
    assert clusters == sorted(clusters)


def test_blocks_time_every_configuration_once_against_the_baseline() -> None:
    runs = [run for run in expand(EVERYTHING, PLATFORM) if run.role == "timing"]
    sessions = groups_of(runs)
    assert len(sessions) == 2
    blocks = Counter[int]()
    for session in sessions.values():
        assert {run.block for run in session[:3]} == {0}, "the warm-up comes first"
        assert len({run.process for run in session}) == 3
        for block in {run.block for run in session}:
            members = [run for run in session if run.block == block]
            assert len({run.cluster for run in members}) == 1
            assert len(members) == 3
            blocks[block or 0] += 1
    assert blocks == {0: 2, 1: 1, 2: 1, 3: 1, 4: 1}
    assert not any(run.job.capture_steps for run in runs if run.block)


def test_a_session_is_held_in_parts_where_few_workers_fit() -> None:
    plan = replace(EVERYTHING, timing_sessions=1, timing_workers=2)
    parts = groups_of([run for run in expand(plan, PLATFORM) if run.role == "timing"])
    assert len(parts) == 2
    scored = [run for run in expand(plan, PLATFORM) if run.role == "timing" and run.block]
    rows = Counter((run.configuration, run.placebo) for run in scored)
    assert rows == {(BASELINE, False): 8, (BASELINE, True): 4, (CANDIDATE, False): 4}
    baseline = [r.block for r in scored if r.configuration == BASELINE and not r.placebo]
    assert len(set(baseline)) == len(baseline), "a block's number names one run of the baseline"


def test_threads_are_the_other_number() -> None:
    def threads(platform: Platform) -> set[int | None]:
        runs = expand(EVERYTHING, platform)
        return {run.job.conditions.threads for run in runs if run.role == "threads"}

    assert threads(PLATFORM) == {1}
    assert threads(replace(PLATFORM, threads=1)) == {2}


def test_threads_are_not_varied_on_one_core() -> None:
    roles = {run.role for run in expand(EVERYTHING, replace(PLATFORM, cores=1))}
    assert "threads" not in roles
    assert "batch-size" in roles


def test_instruction_sets_are_the_smaller_ones_in_turn_each_in_an_execd_process() -> None:
    plan = replace(EVERYTHING, axes={"instruction-set": (BASELINE.key, CANDIDATE.key)})

    def limited(**facts: object) -> list[PlannedRun]:
        runs = expand(plan, replace(PLATFORM, **facts))  # type: ignore[arg-type]
        return [run for run in runs if run.role == "instruction-set"]

    runs = limited(instruction_set="AVX512")
    assert {run.job.conditions.process for run in runs} == {"exec"}
    assert len({run.process for run in runs}) == len(runs) == 2 * 6
    for run in runs:
        expected = ("AVX2", "DEFAULT")[run.cluster % 2]
        assert run.job.conditions.instruction_set == expected
    smallest = {run.job.conditions.instruction_set for run in limited(instruction_set="AVX2")}
    assert smallest == {"DEFAULT"}
    assert limited(instruction_set="DEFAULT") == limited(instruction_set="NEON") == []
    assert limited(instruction_set="AVX512", device="cuda:0") == []


def test_nudges_lie_inside_the_latents_and_differ() -> None:
    nudges = [
        run.job.conditions.nudge for run in expand(EVERYTHING, PLATFORM) if run.role == "ulp-nudge"
    ]
    assert len(set(nudges)) > 1
    assert all(nudge is not None and 0 <= nudge < 4 * 16 * 16 for nudge in nudges)


def test_nudges_lie_inside_the_small_latents_where_the_baseline_has_two_passes(
    tiny_model_path: Path,
) -> None:
    """At 256 px the small first pass has a quarter of the latents."""
    model = resolve(str(tiny_model_path), Path("unused"))
    requests = tuple(
        replace(request, model=model, width=256, height=256, seed=seed)
        for seed, request in enumerate(EVERYTHING.requests * 4)
    )

    def nudges(baseline: Configuration) -> list[int]:
        plan = replace(EVERYTHING, baseline=baseline, requests=requests, axes={})
        runs = (run for run in expand(plan, PLATFORM) if run.role == "ulp-nudge")
        return [run.job.conditions.nudge or 0 for run in runs]

    small = nudges(configure({"two-pass": "latent:0.5"}, PLATFORM))
    assert len(set(small)) > 1
    assert max(small) < 4 * 16 * 16 < max(nudges(BASELINE))


def test_an_estimate_counts_what_is_left() -> None:
    runs = expand(EVERYTHING, PLATFORM)
    whole = estimate(runs)
    assert whole.runs == len(runs)
    assert whole.processes == len({run.process for run in runs})
    assert "processes, about" in str(whole)
    limited = [run for run in runs if run.role == "threads"]
    conditions = replace(limited[0].job.conditions, threads=None, instruction_set="DEFAULT")
    slow = replace(limited[0], job=replace(limited[0].job, conditions=conditions))
    free = Costs(forked=0, exec=0)
    assert estimate([slow], free).seconds == pytest.approx(
        estimate(limited[:1], free).seconds / 1.5 * 2.6
    )
    nothing = estimate(runs, done={run.identity for run in runs})
    assert (nothing.runs, nothing.processes, nothing.seconds) == (0, 0, 0)


def test_a_sampler_that_calls_the_unet_twice_a_step_costs_twice_the_steps() -> None:
    costs = Costs(row_step=1.0, picture=0.0, forked=0.0, exec=0.0)
    heun = tuple(replace(request, sampler="Heun") for request in EVERYTHING.requests)
    once, twice = (
        estimate(expand(plan, PLATFORM), costs).seconds
        for plan in (EVERYTHING, replace(EVERYTHING, requests=heun))
    )
    assert twice == pytest.approx(2 * once)


def test_costs_follow_measured_runs() -> None:
    assert measured([]) is None
    planned: PlannedRun = expand(EVERYTHING, PLATFORM)[0]
    run = FakeEngine().run(planned.job, Following())
    costs = measured([run, replace(run, outcome="failed")])
    assert costs is not None
    assert costs.row_step == pytest.approx(0.01 / 2)
    assert costs.picture == pytest.approx(0.01)
    assert costs.forked == Costs().forked
