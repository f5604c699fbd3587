"""What the pages say, without a browser: every word from outside escaped, every state in words."""

import asyncio
import re
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, TypeVar

import gradio as gr
import pytest

from core.optimization import Configuration, Optimization, Parameter, Slot
from core.optimizations import SLOTS, availability, configure
from core.request import Job, Model, Request, StepEvent
from core.run import Effective, Picture, Run, SlotEffect
from core.store import Store
from tests.fake_engine import PLATFORM, FakeEngine, FakeWorkers
from webapp import client_endpoint, gallery, run_card, settings_form, theme, visitors
from webapp.app import build
from webapp.audits import Audits
from webapp.findings import Findings
from webapp.generate_page import GeneratePage
from webapp.grids import Grids
from webapp.history_filter import Chosen
from webapp.history_page import PER_PAGE, HistoryPage
from webapp.jobs import JobQueue
from webapp.picture_form import filled
from webapp.places import REPOSITORY
from webapp.recommend_page import RecommendPage
from webapp.services import Services
from webapp.ticket import Ticket
from webapp.wish_form import Wish, wish_of
from webapp.words import settings_of

T = TypeVar("T")
EVIL = '<img src=x onerror="alert(1)">'
POCKET = Model(name="pocket", path=REPOSITORY / "data" / "pocket", digest="p" * 64)


@pytest.fixture
def services(tmp_path: Path) -> Iterator[Services]:
    database = tmp_path / "seedproof.db"
    with Store(database) as store:
        jobs = JobQueue(
            FakeEngine(pictures=store.pictures),
            store.add_generation,
            closed=lambda ticket: grids.closed(ticket),
        )
        grids = Grids(store, jobs)
        audits = Audits(store, PLATFORM, FakeWorkers(pictures=store.pictures), jobs)
        yield Services(
            platform=PLATFORM,
            model=POCKET,
            store=store,
            jobs=jobs,
            grids=grids,
            audits=audits,
            findings=Findings(store),
            plans=REPOSITORY / "data" / "plans",
            reports=tmp_path,
            examples=(EVIL, "a red apple"),
        )
        audits.close()
        jobs.close()


def request(**changes: Any) -> Request:
    return replace(Request(prompt="a panda", model=POCKET, num_inference_steps=4), **changes)


def job(**changes: Any) -> Job:
    return Job(id="job", requests=(request(**changes),), configuration=configure({}, PLATFORM))


def run_of(tmp_path: Path, **changes: Any) -> Run:
    engine = FakeEngine(pictures=tmp_path)
    return engine.run(job(**changes), SimpleNamespace(on_step=print, cancelled=lambda: False))


# The settings form


def test_every_slot_and_option_stands_in_the_form() -> None:
    markup = settings_form.markup(SLOTS, PLATFORM, availability)
    for slot in SLOTS:
        assert f'data-slot="{slot.name}" data-default="{slot.default(PLATFORM)}"' in markup
        for option in slot.options:
            assert f'name="slot-{slot.name}" value="{option.name}"' in markup


def test_what_cannot_run_is_disabled_with_its_reason_and_escaped() -> None:
    slot = Slot(
        name="trick",
        label="Trick",
        options=(
            Optimization(slot="trick", name="on", summary=EVIL),
            Optimization(
                slot="trick",
                name="gone",
                summary="",
                parameter=Parameter(label="share", default=0.5, minimum=0, maximum=1, step=0.1),
            ),
        ),
    )
    markup = settings_form.markup(
        (slot,), PLATFORM, lambda option, _: f"no {EVIL}" if option.name == "gone" else None
    )
    assert EVIL not in markup
    assert 'value="gone" disabled' in markup
    assert "Not here: no &lt;img" in markup
    assert 'value="off" checked' in markup
    assert "data-for" not in markup


def test_the_usual_slots_come_first_and_the_others_are_folded() -> None:
    def slot(name: str, option: str = "on") -> Slot:
        options = (Optimization(slot=name, name=option, summary=""),)
        return Slot(name=name, label=name.title(), options=options)

    slots = (slot("rare"), slot("gone", "gpu-only"), slot("precision"), slot("attention"))
    shown = settings_form.markup(
        slots, PLATFORM, lambda option, _: "no GPU" if option.name == "gpu-only" else None
    )
    places = [
        shown.index(words)
        for words in (
            'data-slot="attention"',
            'data-slot="precision"',
            "More settings",
            'data-slot="rare"',
            "Not on this machine",
            'data-slot="gone"',
            "Not here: no GPU",
        )
    ]
    assert places == sorted(places)
    assert "Not on this machine" not in settings_form.markup(slots[:1], PLATFORM, lambda *_: None)


def test_the_usual_slots_are_slots() -> None:
    assert set(settings_form.COMMON) <= {slot.name for slot in SLOTS}


def test_a_browser_can_only_send_texts_of_slots_that_exist() -> None:
    sent = {"attention": "sdp", "precision": 3, "rm -rf": "x"}
    assert settings_form.accepted(sent, SLOTS) == {"attention": "sdp"}
    assert settings_form.accepted("nonsense", SLOTS) == {}


def test_a_key_is_read_back_as_settings() -> None:
    configuration = configure({"token-merging": "0.5"}, PLATFORM)
    assert settings_of(configuration.key) == configuration.as_dict()
    assert configure(settings_of(configuration.key), PLATFORM) == configuration
    assert settings_of("nonsense here") == {}


# One run


def test_a_picture_is_shown_by_its_file_with_its_digests(tmp_path: Path) -> None:
    run = run_of(tmp_path, prompt=EVIL)
    picture = run.pictures[0]
    shown = run_card.finished(run) + run_card.facts(run, SLOTS)
    assert EVIL not in shown
    assert f"./gradio_api/file={picture.path}" in shown
    assert picture.pixels_sha256 in shown
    assert "made up" in shown
    assert picture.path is not None
    picture.path.unlink()
    assert "file is gone" in run_card.finished(run)


def test_more_unet_calls_than_steps_are_told(tmp_path: Path) -> None:
    run = run_of(tmp_path)
    steps = len(run.timings.steps)
    for calls, told in ((steps, False), (2 * steps - 1, True)):
        facts = run_card.facts(replace(run, effective=Effective(unet_calls=calls)), SLOTS)
        assert (f"{steps} steps in {calls} UNet calls" in facts) is told


def test_a_setting_that_did_nothing_is_loud_and_comes_first(tmp_path: Path) -> None:
    slots = (
        SlotEffect(slot="attention", requested="sdp", effect="applied", counts={"calls": 3.0}),
        SlotEffect(
            slot="token-merging", requested="seeded:0.5", effect="none", reason=f"too few {EVIL}"
        ),
        SlotEffect(slot="precision", requested="bf16", effect="fell-back", reason="no kernel"),
    )
    effective = Effective(slots=slots, notes=("12 tokens were cut",))
    facts = run_card.facts(replace(run_of(tmp_path), effective=effective), SLOTS)
    assert re.findall(r'data-effect="([a-z-]+)"', facts) == ["none", "fell-back", "applied"]
    assert facts.count("sp-loud") == 2
    assert "too few &lt;img" in facts
    assert "12 tokens were cut" in facts


@pytest.mark.parametrize(
    ("state", "step", "words"),
    [
        ("waiting", 0, "2 pictures before yours"),
        ("running", 0, "Getting ready"),
        ("running", 1, "Step 1 of 4"),
        ("running", 4, "Decoding the picture"),
    ],
)
def test_work_under_way_is_told_in_words(state: Any, step: int, words: str) -> None:
    event = StepEvent(step=step, num_inference_steps=4, sigma=1.0, seconds=2.0) if step else None
    ticket = Ticket(job=job(), owner="ann", state=state, ahead=2, step=event, denoising=2.0 * step)
    shown = run_card.working(ticket)
    assert words in shown
    assert ("about 6 s left" in shown) == (step == 1)


def test_a_run_without_a_picture_is_one_sentence(tmp_path: Path) -> None:
    run = run_of(tmp_path)
    failed = replace(run, outcome="failed", reason=f"out of {EVIL}", pictures=())
    shown = run_card.finished(failed)
    assert 'role="alert"' in shown
    assert EVIL not in shown
    assert run_card.facts(failed, SLOTS) == ""


# The pages


def made(make: Callable[[], T], *, alone: bool = True) -> T:
    """Build inside a running loop: outside one, Gradio makes loops and never closes them."""

    async def inside() -> T:
        with gr.Blocks(analytics_enabled=False) if alone else nullcontext():
            return make()

    return asyncio.run(inside())


def test_all_pages_are_built_and_no_event_of_theirs_is_an_api(services: Services) -> None:
    app = made(lambda: build(services), alone=False)
    assert [path for path, *_ in app.pages] == [
        "",
        "grid",
        "audit",
        "recommend",
        "verify",
        "history",
        "compare",
        "machine",
    ]
    assert app.fns
    public = [event.api_name for event in app.fns.values() if event.api_visibility != "private"]
    assert public == [client_endpoint.NAME]
    for event in app.fns.values():
        assert event.concurrency_limit is None, event.fn
        assert event.queue, event.fn
    config = str(app.config)
    assert EVIL not in config.replace("'value': '" + EVIL, "")


def test_nothing_of_ours_is_fetched_from_anywhere() -> None:
    made = theme.theme()
    assert not [sheet for sheet in made._stylesheets if sheet]
    for text in (theme.css(), theme.HEAD):
        assert "http" not in text
        assert "url(" not in text
        assert "@import" not in text


def test_text_can_be_read_on_every_ground() -> None:
    for shade in (0, 1):
        colours = {name: pair[shade] for name, pair in theme.PALETTE.items()}
        for ink in ("ink", "quiet", "accent", "good", "care", "bad"):
            for ground in ("page", "surface", "sunken", f"{ink}-soft"):
                if ground in colours:
                    assert contrast(colours[ink], colours[ground]) >= 4.5, (shade, ink, ground)
        for fill in ("accent", "accent-strong"):
            assert contrast(colours["on-accent"], colours[fill]) >= 4.5
        assert contrast(colours["edge"], colours["surface"]) >= 3


def contrast(a: str, b: str) -> float:
    """WCAG 2.2's contrast ratio of two #rrggbb colours."""
    light, dark = sorted((luminance(a), luminance(b)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def luminance(colour: str) -> float:
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.fixture
def generate(services: Services) -> GeneratePage:
    return made(lambda: GeneratePage(services))


SECRET = "5" * 32
NO_REQUEST: Any = SimpleNamespace()
"""Without accounts nothing in a request says who asks."""
FORM = ("a panda", "", "a1111", "7", 4, 5.0, 128, 128, "Euler", {"attention": "none"})


def asked(page: GeneratePage, *form: Any) -> list[Any]:
    async def all_updates() -> list[Any]:
        return [update async for update in page._generate(NO_REQUEST, *form, SECRET)]

    return asyncio.run(all_updates())


def test_a_form_becomes_a_picture_and_is_kept(generate: GeneratePage, services: Services) -> None:
    stage, facts, _, job_id, seed, *_ = asked(generate, *FORM)[-1]
    assert "<img" in stage
    assert "never audited here" in facts
    assert seed == "7"
    kept = services.store.generations()
    assert [run.job.id for run in kept] == [job_id]
    assert kept[0].job.configuration.get("attention") == "none"
    assert isinstance(kept[0].pictures[0], Picture)


def test_prompts_are_read_as_the_form_says_and_counted(generate: GeneratePage) -> None:
    for syntax in ("a1111", "plain"):
        job = generate.form.job(*FORM[:2], syntax, *FORM[3:])  # type: ignore[arg-type]
        assert job.requests[0].prompt_syntax == syntax
        assert filled(job)[:4] == ("a panda", "", syntax, "7")
    assert "Not read" in generate.form.counted("a panda", "fog", "a1111", 1)[1]
    prompt, negative = generate.form.counted("a panda " * 40, EVIL, "a1111", 5)
    assert "80 tokens, 2 chunks of 75: the UNet" in prompt
    assert "of 75 tokens" in negative


@pytest.mark.parametrize(
    ("place", "value", "words"),
    [
        (0, "  ", "Write what the picture should show"),
        (0, "a panda <lora:ink:1>", "loads no networks that a prompt names"),
        (1, "[fog:rain:0.5]", "The negative prompt has [fog:rain:0.5]"),
        (2, "compel", "Unknown prompt syntax"),
        (3, "-1", "A seed is a whole number"),
        (3, str(2**32), "A seed is a whole number"),
        (6, 100, "Choose a width and a height from 64"),
        (9, {"attention": "xformers"}, "xformers cannot run here: this is a fake CPU"),
        (9, {"attention": "magic"}, "has no option"),
    ],
)
def test_a_form_that_cannot_be_is_one_sentence(
    generate: GeneratePage, place: int, value: Any, words: str
) -> None:
    form = [*FORM]
    form[place] = value
    updates = asked(generate, *form)
    assert len(updates) == 1
    assert words in updates[0][0]
    assert 'role="alert"' in updates[0][0]


def test_settings_from_elsewhere_are_filled_in_or_refused_in_one_sentence(
    generate: GeneratePage,
) -> None:
    settings, words = generate._used("attention=none min-sigma=alternate:0.7")
    assert settings["min-sigma"] == "alternate:0.7"
    assert "min-sigma alternate:0.7" in words
    for key, sentence in (
        ("attention=xformers", "xformers cannot run here"),
        (f"{EVIL}=1", "There is no setting"),
        ("attention=magic", "has no option"),
    ):
        settings, words = generate._used(key)
        assert "update" in str(settings)
        assert sentence in words
        assert EVIL not in words


def test_an_empty_seed_is_a_new_one_every_time(generate: GeneratePage) -> None:
    form = [*FORM]
    form[3] = ""
    assert asked(generate, *form)[-1][4] != asked(generate, *form)[-1][4]


def test_history_lists_ones_own_pictures_only(services: Services, generate: GeneratePage) -> None:
    page = made(lambda: HistoryPage(services))
    evil = (EVIL, *FORM[1:])
    job_id = asked(generate, *evil)[-1][3]
    shown, *_ = page._wall(Chosen(), 1, visitors.owner(SECRET))
    assert f'data-shot="{job_id}"' in shown
    assert "1 picture of yours" in shown
    assert "never audited" in shown
    assert EVIL not in shown
    mine = visitors.owner(SECRET)
    assert "Every word has to occur" in page._wall(Chosen(words="rocket"), 1, mine)[0]
    for stranger in ("6" * 32, "", None, f" {SECRET}"):
        nothing = (gallery.NONE_YET, 1, Chosen())
        assert page._wall(Chosen(), 1, visitors.owner(stranger)) == nothing
    event = SimpleNamespace(run=job_id)
    for secret, left in (("6" * 32, 1), (SECRET, 0)):
        asyncio.run(page._removed(event, Chosen(), 1, secret, NO_REQUEST))  # type: ignore[arg-type]
        assert services.store.history(visitors.owner(SECRET)).total == left


def test_a_page_beyond_the_last_is_the_last(services: Services, tmp_path: Path) -> None:
    for number in range(PER_PAGE + 1):
        run = run_of(services.store.pictures)
        run = replace(run, job=replace(run.job, id=str(number)))
        services.store.add_generation(run, visitors.owner(SECRET))
    page = made(lambda: HistoryPage(services))
    shown, number, _ = page._wall(Chosen(), 9, visitors.owner(SECRET))
    assert number == 2
    assert "page 2 of 2" in shown
    assert shown.count("data-shot=") == 1
    assert page._wall(Chosen(), 0, visitors.owner(SECRET))[0].count("data-shot=") == PER_PAGE


def test_what_is_stored_about_a_visitor_is_not_the_secret() -> None:
    owner = visitors.owner(SECRET)
    assert owner.startswith("visitor:")
    assert SECRET not in owner
    assert owner == visitors.owner(SECRET) != visitors.owner("6" * 32)
    for nonsense in ("", "visitor", SECRET.upper() + "G", None, 5, ["a"]):
        assert visitors.owner(nonsense) == ""


def test_several_pictures_are_jobs_of_their_own_with_a_seed_and_a_reason_each(
    services: Services, generate: GeneratePage
) -> None:
    async def all_updates(count: float) -> list[Any]:
        return [
            update async for update in generate._several(NO_REQUEST, count, False, *FORM, SECRET)
        ]

    assert "gradio_api/file=" in asyncio.run(all_updates(3))[-1][0]
    found = services.store.history(visitors.owner(SECRET)).generations
    assert [one.run.job.requests[0].seed for one in found] == [9, 8, 7]
    assert {one.run.job.notes for one in found} == {
        ("One at a time: no audit here has tried batches with these settings.",)
    }
    asyncio.run(all_updates(1))
    assert services.store.history(visitors.owner(SECRET)).generations[0].run.job.notes == ()
    assert "From 1 to 8 pictures" in asyncio.run(all_updates(9))[-1][0]


def test_without_an_audit_the_recommendation_teaches(services: Services) -> None:
    page = made(lambda: RecommendPage(services))
    visitor = SimpleNamespace(query_params={})
    _, _, words = asyncio.run(page._opened(visitor))  # type: ignore[arg-type]
    assert "Start an audit" in words
    assert "never a guess" in words


def test_a_wish_is_read_from_an_address_and_nonsense_is_left_out() -> None:
    asked = {"goal": "exact", "far": "rounding", "memory": " 0,5 GB", "hold": "threads,batch-size"}
    wish = wish_of(asked)
    assert wish == Wish(
        goal="exact",
        farthest="rounding",
        memory=" 0,5 GB",
        must_hold=("batch-size", "threads"),
    )
    assert wish.memory_bytes == 5 * 10**8
    assert wish_of({"goal": EVIL, "far": EVIL, "hold": f"{EVIL},same-process"}) == Wish()
    assert Wish().memory_bytes is None
    for text in ("lots", "-1", "0", "nan", "inf"):
        with pytest.raises(ValueError, match="number of GB"):
            _ = Wish(memory=text).memory_bytes


def test_configurations_have_keys_that_fit_into_an_address() -> None:
    key = Configuration((("attention", "sdp"), ("min-sigma", "alternate:0.7"))).key
    assert re.fullmatch(r"[a-z0-9=:. -]+", key)
