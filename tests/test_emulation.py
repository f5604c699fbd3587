"""Emulated platforms, from the plan's file to every place where their figures are shown."""

import io
import json
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
from rich.console import Console

from audit.document import document
from audit.emulation import CALLS, EmulatedPlatform, emulations
from audit.execution import run_audit
from audit.judgement import judge
from audit.pictures import load_picture
from audit.plan import Plan
from audit.plan_file import PlanError, load_plan
from audit.platform_grids import UNKNOWN, grids, remarks
from audit.platforms_table import platforms
from audit.published import read_published
from audit.report import render
from audit.schedule import expand, groups_of
from audit.score import Audit, CrossPlatform, PlatformPair
from audit.scoring import score
from audit.table import tables
from core.instruction_sets import current, smaller
from core.models import resolve
from core.optimization import Configuration
from core.platforms import detect
from core.request import Request
from core.store import Store
from core.worker import open_worker
from tests.fake_engine import MODEL, PLATFORM, Behaviour, FakeWorkers
from webapp.platforms_card import platforms as card

DATA = Path(__file__).resolve().parents[1] / "data"
BASELINE = Configuration((("attention", "sdp"),))
CANDIDATE = Configuration((("attention", "none"),))
HERE, ONE_THREAD = "FAKE kernels, 2 threads", "FAKE kernels, 1 thread"
KERNELS, BOTH = "AVX2 kernels, 2 threads", "AVX2 kernels, 1 thread"
RTX_4090 = read_published(DATA / "platforms" / "rtx-4090.toml")
PLAN = Plan(
    name="elsewhere",
    baseline=BASELINE,
    candidates=(CANDIDATE,),
    requests=tuple(
        Request(
            prompt=f"a cat {n}", model=MODEL, seed=n, num_inference_steps=2, width=32, height=32
        )
        for n in range(5)
    ),
    controls=(),
    timing_blocks=5,
    emulated=(
        EmulatedPlatform(threads=1, instruction_set="FAKE"),
        EmulatedPlatform(threads=2, instruction_set="AVX2"),
        EmulatedPlatform(threads=1, instruction_set="AVX2"),
    ),
    not_emulated={"AVX512 kernels, 2 threads": "torch has FAKE kernels here"},
    published_platforms=(RTX_4090,),
)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store(tmp_path / "seedproof.db") as store:
        yield store


def audited(store: Store, candidate: Behaviour, plan: Plan = PLAN) -> Audit:
    workers = FakeWorkers(pictures=store.pictures, behaviours={"attention=none": candidate})
    return judge(store, run_audit(store, plan, PLATFORM, MODEL, workers))


def crossed(audit: Audit) -> CrossPlatform:
    assert audit.cross_platform is not None
    return audit.cross_platform


def pair(audit: Audit, first: str, second: str, key: str = CANDIDATE.key) -> PlatformPair:
    (found,) = [
        p for p in crossed(audit).pairs if (p.first, p.second, p.key) == (first, second, key)
    ]
    return found


def test_what_no_platform_reaches_is_bit_exact_between_all_of_them(store: Store) -> None:
    found = crossed(audited(store, Behaviour(levels=40)))
    assert [p.name for p in found.platforms] == [HERE, ONE_THREAD, KERNELS, BOTH]
    assert [p.origin for p in found.platforms] == [
        "this machine as it is",
        *["emulated on this machine"] * 3,
    ]
    assert len(found.pairs) == 6 * 2, "each two of four platforms, two configurations"
    for compared in found.pairs:
        assert compared.equal == 5
        assert compared.drift is not None
        assert compared.drift.verdict == "bit-exact"


def test_threads_that_reach_pictures_part_the_platforms_that_differ_in_them(store: Store) -> None:
    audit = audited(store, Behaviour(leaks=frozenset({"threads"}), levels=40))
    for first, second, alike in [
        (HERE, ONE_THREAD, False),
        (HERE, KERNELS, True),
        (HERE, BOTH, False),
        (ONE_THREAD, BOTH, True),
        (KERNELS, BOTH, False),
    ]:
        found = pair(audit, first, second)
        assert found.equal == (5 if alike else 0)
        assert found.drift is not None
        assert (found.drift.verdict == "bit-exact") == alike
        assert len(found.drift.pictures) == 5
        assert pair(audit, first, second, BASELINE.key).equal == 5


def test_kernels_that_reach_pictures_part_the_others(store: Store) -> None:
    audit = audited(store, Behaviour(leaks=frozenset({"instruction-set"})))
    assert pair(audit, HERE, ONE_THREAD).equal == 5
    assert pair(audit, HERE, KERNELS).equal == pair(audit, ONE_THREAD, BOTH).equal == 0


def test_latents_that_differ_below_equal_pixels_are_told(store: Store) -> None:
    """A fake engine's latents differ with its pixels; here the pixels are made the same again."""
    leaks = Behaviour(leaks=frozenset({"threads"}))
    workers = FakeWorkers(pictures=store.pictures, behaviours={"attention=none": leaks})
    audit_id = run_audit(store, PLAN, PLATFORM, MODEL, workers)
    planned, runs = expand(PLAN, PLATFORM), store.runs(audit_id)
    shown = {
        (e.cluster, e.configuration): runs[e.identity].pictures[0].pixels_sha256
        for e in planned
        if e.role == "determinism" and not e.placebo
    }
    for entry in planned:
        if entry.role == "platform":
            run, pixels = runs[entry.identity], shown[entry.cluster, entry.configuration]
            same = replace(run.pictures[0], pixels_sha256=pixels)
            runs[entry.identity] = replace(run, pictures=(same,))
    result = score(
        PLAN, planned, runs, PLATFORM, load_picture=load_picture, audit_id="", started_at=""
    )
    found = pair(result, HERE, ONE_THREAD)
    assert (found.equal, found.equal_latents) == (5, 0)
    assert pair(result, HERE, KERNELS).equal_latents == 5
    assert grids(result)[1].rows[0].cells[1] == ("bit-exact", "5/5 bit-exact", "latents 0/5")


def test_time_is_a_ratio_to_the_same_platforms_baseline(store: Store) -> None:
    for platform in crossed(audited(store, Behaviour(slowdown=3.0))).platforms:
        unit, slower = platform.figures
        assert unit.time_ratio is not None
        assert unit.time_ratio.ci95 == (1.0, 1.0)
        assert slower.time_ratio is not None
        assert 2 < slower.time_ratio.median < 3, "decoding is as fast as the baseline's"
        calls = 1 if platform.name == HERE else CALLS
        assert slower.time_ratio.pairs == 5 * calls


def test_a_picture_that_does_not_repeat_on_a_platform_is_said_not_to(store: Store) -> None:
    audit = audited(store, Behaviour(leaks=frozenset({"call"})))
    for platform in crossed(audit).platforms:
        unit, moody = platform.figures
        assert (unit.repeated, unit.pictures) == (5, 5)
        assert (moody.repeated, moody.pictures) == (0, 5)
    assert "does not repeat: 0/5" in grids(audit)[0].rows[1].cells[1]


def test_runs_that_were_not_limited_do_not_count(store: Store) -> None:
    audit_id = run_audit(store, PLAN, PLATFORM, MODEL, FakeWorkers(pictures=store.pictures))
    planned, runs = expand(PLAN, PLATFORM), store.runs(audit_id)
    for entry in planned:
        if entry.job.conditions.instruction_set:
            run = runs[entry.identity]
            there = replace(run.environment, instruction_set="FAKE")
            runs[entry.identity] = replace(run, environment=there)
    result = score(
        PLAN, planned, runs, PLATFORM, load_picture=load_picture, audit_id="", started_at=""
    )
    assert pair(result, HERE, ONE_THREAD).equal == 5
    assert pair(result, HERE, KERNELS).drift is None
    limited = crossed(result).platforms[2].figures[0]
    assert (limited.pictures, limited.time_ratio) == (0, None)
    assert "runs were not made with AVX2 kernels, 2 threads, and do not count" in limited.reason
    assert any(limited.reason in sentence for sentence in remarks(result))


def test_the_rows_of_this_machine_know_nothing_of_the_emulated_ones(store: Store) -> None:
    """A candidate that fails only where kernels are limited stays whole here."""
    leaky = Behaviour(leaks=frozenset({"instruction-set", "threads"}), levels=90)
    rows = audited(store, leaky).scores
    plain = audited(store, leaky, replace(PLAN, name="here", emulated=(), not_emulated={})).scores
    assert [replace(r, effective=None) for r in rows] == [replace(r, effective=None) for r in plain]


def test_every_platform_has_a_session_of_its_own_after_all_other_runs() -> None:
    planned = expand(PLAN, PLATFORM)
    groups = [g for g in groups_of(planned).values() if g[0].role == "platform"]
    assert planned[-sum(map(len, groups)) :] == tuple(run for group in groups for run in group)
    assert len(groups) == 3
    for group in groups:
        assert {run.job.conditions.process for run in group} == {"exec"}
        assert len({run.job.conditions for run in group}) == 1
        assert len({run.process for run in group}) == 2, "one process per configuration"
        assert len(group) == 2 * (1 + CALLS * 5)
        assert [run.block for run in group[:2]] == [0, 0], "everybody warms up first"
    usual = replace(PLAN, emulated=(), not_emulated={})
    assert expand(usual, PLATFORM) == planned[: len(expand(usual, PLATFORM))]


def test_where_few_processes_fit_the_baseline_is_in_every_part() -> None:
    third = Configuration((("attention", "sdp-no-mem"),))
    plan = replace(PLAN, candidates=(CANDIDATE, third), timing_workers=2)
    groups = [g for g in groups_of(expand(plan, PLATFORM)).values() if g[0].role == "platform"]
    assert len(groups) == 3 * 2
    for group in groups:
        assert len({run.process for run in group}) == 2
        assert BASELINE in {run.configuration for run in group}


def test_a_machine_emulates_what_it_has_and_says_why_not_the_rest() -> None:
    asked = [(1, None), (None, "AVX512"), (None, "AVX2"), (2, "AVX2"), (8, None)]
    machine = replace(PLATFORM, instruction_set="AVX512")
    found, refused = emulations(asked, machine)
    assert [one.name for one in found] == ["AVX512 kernels, 1 thread", "AVX2 kernels, 2 threads"]
    assert refused == {
        "AVX512 kernels, 8 threads": "there are 2 cores here: its threads would take turns"
    }
    small, refused = emulations(asked[:3], replace(PLATFORM, instruction_set="AVX2"))
    assert [one.name for one in small] == ["AVX2 kernels, 1 thread"]
    assert "cannot emulate what it does not have" in refused["AVX512 kernels, 2 threads"]
    found, refused = emulations(asked[:1], replace(machine, device="cuda:0"))
    assert not found
    assert "computed on cuda:0" in refused["AVX512 kernels, 1 thread"]


def test_the_shipped_plan_names_its_platforms_and_published_ones() -> None:
    machine = replace(PLATFORM, instruction_set="AVX512")
    plan = load_plan(DATA / "plans" / "platforms.toml", resolve("pocket", DATA / "pocket"), machine)
    assert [one.name for one in plan.emulated] == [
        "AVX512 kernels, 1 thread",
        "AVX2 kernels, 2 threads",
        "AVX2 kernels, 1 thread",
        "DEFAULT kernels, 2 threads",
    ]
    assert RTX_4090 in plan.published_platforms
    keys = [configuration.key for configuration in plan.candidates]
    for slot in ("attention=sub", "precision=bf16", "token-merging=seeded", "min-sigma="):
        assert any(slot in key for key in keys), slot


@pytest.mark.parametrize(
    ("lines", "sentence"),
    [
        ("[[platform]]\n", "platform 1 is this machine: give it threads"),
        ('[[platform]]\ninstruction_set = "SSE9"\n', "platform.1.instruction_set"),
        ("[[platform]]\nthreads = 0\n", "platform.1.threads"),
    ],
)
def test_a_platform_that_is_none_is_refused_with_its_place(
    tmp_path: Path, lines: str, sentence: str
) -> None:
    path = tmp_path / "mine.toml"
    path.write_text((DATA / "plans" / "smoke.toml").read_text("utf-8") + lines, "utf-8")
    with pytest.raises(PlanError, match=sentence):
        load_plan(path, resolve("pocket", DATA / "pocket"), PLATFORM)


def test_emulated_is_said_wherever_the_figures_are_shown(store: Store) -> None:
    audit = audited(store, Behaviour(leaks=frozenset({"threads"}), levels=2))
    each, between = grids(audit)
    assert [row.label for row in each.rows[1:4]] == ["emulated on this machine"] * 3
    assert [row.label for row in between.rows] == [
        *["the second is emulated on this machine"] * 3,
        *["both emulated on this machine"] * 3,
        "published, not measured by us",
    ]
    out = io.StringIO()
    for table in platforms(audit):
        Console(file=out, width=110).print(table)
    assert len(list(tables(audit))) >= len(list(platforms(audit)))
    told = json.dumps(document(audit)["cross_platform"])
    page, html = render(audit, load_picture), card(audit)
    for text in (" ".join(out.getvalue().split()), told, page, html):
        assert text.count("emulated on this machine") >= 3
        assert "NVIDIA GeForce RTX 4090" in text
        assert "undated article" in text, "where its figures come from"
    for text in (out.getvalue(), page, html):
        assert text.count(UNKNOWN.split()[-1]) >= 2
        assert "AVX512 kernels, 2 threads: not emulated here" in text
    assert {one["origin"] for one in json.loads(told)["platforms"]} == {
        "this machine as it is",
        "emulated on this machine",
    }


def test_a_published_machine_has_ratios_and_no_word_on_determinism(store: Store) -> None:
    each, between = grids(audited(store, Behaviour()))
    theirs = each.rows[-1]
    assert theirs.label == "published, not measured by us"
    # 35.1 s without optimization against 10.5 s with sdp.
    assert theirs.cells == (("1.00 ×", "one run", UNKNOWN), ("3.34 ×", "one run", UNKNOWN))
    assert between.rows[-1].cells == ((UNKNOWN,), (UNKNOWN,))


def test_an_audit_without_platforms_shows_none(store: Store) -> None:
    audit = audited(store, Behaviour(), replace(PLAN, emulated=(), not_emulated={}))
    assert audit.cross_platform is None
    assert (grids(audit), remarks(audit), list(platforms(audit)), card(audit)) == ((), (), [], "")
    assert "This machine and others" not in render(audit, load_picture)


@pytest.mark.slow
def test_a_real_process_takes_the_platforms_place(store: Store, tiny_model_path: Path) -> None:
    machine, model = detect("cpu"), resolve(str(tiny_model_path), DATA / "pocket")
    sets = (*smaller(current()), machine.instruction_set)
    wanted = EmulatedPlatform(threads=1, instruction_set=sets[0])
    assert wanted.name != f"{machine.instruction_set} kernels, {machine.threads} threads"
    request = Request(
        prompt="a cat", model=model, seed=1, num_inference_steps=2, width=128, height=128
    )
    plan = replace(PLAN, candidates=(), requests=(request,), emulated=(wanted,))
    plan = replace(plan, timing_blocks=0, exec_clusters=0, calls=1)
    start = partial(
        open_worker, platform=machine, pictures=store.pictures, lease_folder=store.path.parent
    )
    audit_id = run_audit(store, plan, machine, model, start)
    runs = store.runs(audit_id)
    for entry in expand(plan, machine):
        there = runs[entry.identity].environment
        expected = wanted if entry.role == "platform" else machine
        assert runs[entry.identity].outcome == "ok", runs[entry.identity].reason
        assert (there.threads, there.instruction_set) == (
            expected.threads,
            expected.instruction_set,
        )
        assert there.fingerprint == machine.fingerprint
    found = crossed(judge(store, audit_id))
    assert found.pairs[0].drift is not None, "one picture on each"
    assert (found.platforms[1].figures[0].repeated, found.platforms[1].figures[0].pictures) == (
        1,
        1,
    )
