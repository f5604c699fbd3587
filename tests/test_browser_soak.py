"""The long walk: every option of the form, a full queue, thousands of pictures, restarts."""

# ruff: noqa: F401, F811, fixtures are imported by name and asked for by name

import re
from dataclasses import replace
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from core.models import resolve
from core.optimizations import SLOTS, availability, configure
from core.platforms import detect
from core.request import Following, Job, Request
from core.store import Store
from tests.browser_fixtures import App, Visit, add_audit, app, chromium, started, visit, watch_page
from tests.fake_engine import FakeEngine
from tests.test_browser import effects, generate, open_page, set_steps
from webapp import visitors
from webapp.places import REPOSITORY

pytestmark = [pytest.mark.browser, pytest.mark.soak, pytest.mark.timeout(7200)]

MANY = 3000


def test_every_option_that_the_form_offers_makes_a_picture_and_says_what_it_did(
    visit: Visit, app: App
) -> None:
    page, platform = open_page(visit, app.url), detect()
    set_steps(page, 2)
    page.evaluate("document.querySelectorAll('details').forEach(one => { one.open = true })")
    for slot in SLOTS:
        form = page.locator(f"[data-slot={slot.name}]")
        for option in slot.options:
            radio = form.locator(f"input[value='{option.name}']")
            if availability(option, platform, REPOSITORY / "data" / "pocket") is not None:
                expect(radio).to_be_disabled()
                continue
            radio.check()
            wanted = page.locator("#settings [data-value]").all_inner_texts()
            generate(page)
            assert effects(page), (slot.name, option.name)
            assert page.locator("#settings [data-value]").all_inner_texts() == wanted
        reset = page.locator("[data-reset]")
        if reset.is_enabled():  # not where only the default can run here
            reset.click()


def test_everybody_in_the_queue_knows_their_place(app: App, chromium: Browser) -> None:
    visits = [watch_page(chromium.new_context().new_page()) for _ in range(3)]
    pages = [open_page(visit, app.url) for visit in visits]
    for page in pages:
        set_steps(page, 60)
        page.locator("#generate").click()
        expect(page.locator("#stage [role=status]")).to_be_visible()
    expect(pages[1].locator("#stage [role=status]")).to_contain_text(
        re.compile("before yours|Next in line|Step")
    )
    expect(pages[2].locator("#stage [role=status]")).to_contain_text(
        re.compile(r"begins in (about|under)")
    )
    pages[0].locator("#cancel").click()
    pages[1].locator("#cancel").click()
    expect(pages[2].locator("#stage [role=status]")).to_contain_text(re.compile(r"Step \d+ of 60"))
    expect(pages[2].locator("#stage a[download]")).to_be_visible()
    for one in visits:
        assert not one.trouble
        one.page.context.close()


def test_thousands_of_pictures_are_paged_and_searched(app: App, chromium: Browser) -> None:
    secret = "a" * 32
    with Store(app.database) as store:
        engine = FakeEngine(pictures=store.pictures)
        model, configuration = (
            resolve("pocket", REPOSITORY / "data" / "pocket"),
            configure({}, detect()),
        )
        request = Request(prompt="filler", model=model, num_inference_steps=1)
        made = engine.run(
            Job(id="0", requests=(request,), configuration=configuration), Following()
        )
        for number in range(MANY):
            prompt = "a needle" if number == 17 else f"hay {number}"
            asked = replace(request, prompt=prompt, seed=number)
            job = replace(made.job, id=f"many-{number}", requests=(asked,))
            picture = replace(made.pictures[0], request=asked)
            store.add_generation(
                replace(made, job=job, pictures=(picture,)), visitors.owner(secret)
            )
    context = chromium.new_context()
    context.add_init_script(f"localStorage.setItem('seedproof-visitor', '{secret}')")
    visit = watch_page(context.new_page())
    page = open_page(visit, app.url + "history?page=125")
    expect(page.locator("#wall [role=status]")).to_have_text(f"{MANY} pictures of yours")
    expect(page.locator(".sp-shot").last).to_contain_text("hay 0")
    page.get_by_role("button", name="Newer").click()
    expect(page.locator("#wall")).to_contain_text("page 124 of 125")
    assert page.url.endswith("?page=124")
    page.get_by_label("Search prompts and settings").fill("needle")
    expect(page.locator(".sp-shot")).to_have_count(1)
    page.locator(".sp-shot a").first.click()
    expect(page.locator("#stage img")).to_have_attribute("alt", "Picture: a needle")
    context.close()
    assert not visit.trouble


def test_a_restart_keeps_the_history_and_the_audits(tmp_path: Path, chromium: Browser) -> None:
    database = tmp_path / "seedproof.db"
    audit_id = add_audit(database, resolve("pocket", REPOSITORY / "data" / "pocket"))
    context = chromium.new_context()
    secret = "b" * 32
    context.add_init_script(f"localStorage.setItem('seedproof-visitor', '{secret}')")
    visit = watch_page(context.new_page())
    seen: list[str] = []
    for round_number in range(3):
        with started(database) as url:
            page: Page = open_page(visit, url)
            set_steps(page, 2)
            generate(page)
            seen.append(page.url.partition("run=")[2])
            open_page(visit, url + "history")
            expect(page.locator(".sp-shot")).to_have_count(round_number + 1)
            open_page(visit, f"{url}?run={seen[0]}")
            expect(page.locator("#stage img")).to_be_visible()
            open_page(visit, f"{url}audit?run={audit_id}")
            expect(page.locator("#plot")).to_be_visible()
            page.goto("about:blank")
    context.close()
