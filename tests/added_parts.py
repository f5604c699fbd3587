"""What the rest of the program makes of the guide's examples; run in the copy that has them."""

import hashlib
from dataclasses import replace
from pathlib import Path

from audit.drift import compare, drift
from audit.plan_file import load_plan
from core.models import resolve
from core.optimizations import OPTIMIZATIONS, SLOTS, availability
from core.platforms import detect
from core.run import Picture
from tests.audit_records import scene
from tests.tiny_run import tiny_job
from webapp.settings_form import markup


def test_the_attention_option_is_offered_where_the_ability_it_needs_is_there() -> None:
    platform = detect("cpu")
    (double,) = [option for option in OPTIMIZATIONS if option.name == "double"]
    assert platform.capabilities["float64"] is None
    assert availability(double, platform) is None
    lacking = replace(
        platform, capabilities={**platform.capabilities, "float64": "no such numbers"}
    )
    assert availability(double, lacking) == "no such numbers"


def test_the_form_in_the_browser_offers_both_options() -> None:
    html = markup(SLOTS, detect("cpu"), availability)
    for name in ("double", "two-of-three"):
        assert f'value="{name}"' in html


def test_every_comparison_has_the_metric() -> None:
    pictures = {"a": scene(1), "b": scene(1) // 2}
    request = tiny_job().requests[0]
    first, second = (
        Picture(
            request=request,
            noise_sha256="",
            latents_sha256="",
            pixels_sha256=hashlib.sha256(pictures[name].tobytes()).hexdigest(),
            path=Path(name),
        )
        for name in pictures
    )
    found = drift([compare(first, second, lambda path: pictures[path.name])])
    assert found is not None
    assert 1 < found.more["mean_abs"] < 255


def test_the_plan_emulates_the_machine_and_lists_the_published_one() -> None:
    root = Path(__file__).parents[1]
    machine = replace(detect("cpu"), cores=2, threads=2, instruction_set="AVX512")
    plan = load_plan(root / "mine.toml", resolve("pocket", root / "data" / "pocket"), machine)
    assert [one.name for one in plan.emulated] == ["DEFAULT kernels, 1 thread"]
    assert "An example of a machine" in [one.machine for one in plan.published_platforms]
