"""A picture's settings as the first page can take them, and what is said about them there."""

from dataclasses import replace
from html import escape
from pathlib import Path
from typing import Any

from core.models import native_size
from core.optimizations import SLOTS, availability, configure
from core.picture_file import read
from core.picture_settings import take_over
from core.platforms import Platform
from core.request import Model
from core.takeover import Remark, Taken
from webapp.advanced_form import SEEDS
from webapp.picture_form import GUIDANCE, MOST_GUIDANCE, MOST_STEPS, STEPS, sizes
from webapp.words import chip

OURS = "Seedproof"


def taken(path: Path, model: Model, platform: Platform) -> Taken:
    """What the form can be filled with. Raises ValueError with a sentence for people."""
    return _runnable(_offered(take_over(read(path), path.name, model)), platform)


def taken_card(found: Taken) -> str:
    """What came along, and the list of what did not or is otherwise here."""
    wrote = f" of {escape(found.program)}" if found.program else ""
    ours = found.program.startswith(OURS)
    like = "" if ours else " Another program computed it: expect a picture like it, not its pixels."
    all_of_it = "" if found.remarks else " Everything came along."
    return (
        f'<div class="sp-hint" role="status"><p>The settings{wrote} are filled in.{all_of_it}{like}'
        f"</p>{remark_list(found)}</div>"
    )


def remark_list(found: Taken) -> str:
    """One line for each remark: what was left first, then what is otherwise."""
    lines = "".join(
        f"<li>{_tag(remark)} <b>{escape(remark.key)}</b> {escape(_short(remark.value))}: "
        f"{escape(remark.sentence)}.</li>"
        for remark in sorted(found.remarks, key=lambda remark: not remark.left)
    )
    return f'<ul class="sp-list">{lines}</ul>' if lines else ""


def refused(sentence: str) -> str:
    return f'<div class="sp-alert sp-bad" role="alert">{escape(sentence)}</div>'


def _offered(found: Taken) -> Taken:
    """Without what the page has no room for."""
    asked, offered, side = (
        found.request,
        sizes(found.request.model),
        native_size(found.request.model),
    )
    limits: tuple[tuple[str, str, bool, str, dict[str, Any]], ...] = (
        (
            "Steps",
            f"{asked.num_inference_steps}",
            asked.num_inference_steps <= MOST_STEPS,
            f"up to {MOST_STEPS}",
            {"num_inference_steps": STEPS},
        ),
        (
            "CFG scale",
            f"{asked.guidance_scale:g}",
            1 <= asked.guidance_scale <= MOST_GUIDANCE,
            f"1 to {MOST_GUIDANCE}",
            {"guidance_scale": GUIDANCE},
        ),
        (
            "Size",
            f"{asked.width}x{asked.height}",
            {asked.width, asked.height} <= set(offered),
            f"{offered[0]} to {offered[-1]} pixels",
            {"width": side, "height": side},
        ),
        ("Seed", f"{asked.seed}", asked.seed < SEEDS, f"seeds up to {SEEDS - 1}", {"seed": 0}),
        (
            "Variation seed",
            f"{asked.variation_seed}",
            asked.variation_seed < SEEDS,
            f"seeds up to {SEEDS - 1}",
            {"variation_seed": 0},
        ),
    )
    for key, value, fits, room, instead in limits:
        if not fits:
            remark = Remark(key=key, value=value, sentence=f"this page offers {room}")
            found = replace(
                found,
                request=replace(found.request, **instead),
                remarks=(*found.remarks, remark),
            )
    return found


def _runnable(found: Taken, platform: Platform) -> Taken:
    """Without settings that cannot run here."""
    kept, remarks = {}, list(found.remarks)
    options = {(option.slot, option.name): option for slot in SLOTS for option in slot.options}
    for slot, text in found.settings.items():
        try:
            value = configure({slot: text}, platform).get(slot)
        except ValueError as error:
            remarks.append(Remark(key=slot, value=text, sentence=str(error).rstrip(".")))
            continue
        option = options.get((slot, value.partition(":")[0]))
        why_not = availability(option, platform, found.request.model.path) if option else None
        if why_not:
            remarks.append(Remark(key=slot, value=text, sentence=f"it cannot run here: {why_not}"))
        else:
            kept[slot] = text
    return replace(found, settings=kept, remarks=tuple(remarks))


def _tag(remark: Remark) -> str:
    return chip("left", "care") if remark.left else chip("otherwise", "quiet")


def _short(text: str) -> str:
    return text if len(text) <= 60 else f"{text[:59]}…"
