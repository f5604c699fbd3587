"""One control per slot, made from the slots themselves: the usual ones first, the others folded.

Gradio's dropdown cannot grey one choice or say why, so this is a form of native radio buttons:
the browser then gives keyboard, focus and screen readers for nothing. What cannot run here stays
in view, greyed, with its reason.
"""

from collections.abc import Callable, Mapping, Sequence
from html import escape
from typing import Any

import gradio as gr

from core.optimization import Optimization, Parameter, Slot
from core.platforms import Platform

COMMON = ("attention", "token-merging", "min-sigma", "precision")
"""Slots that most people turn; a slot that is not named here waits in a fold of its own."""

WhyNot = Callable[[Optimization, Platform], "str | None"]

_SCRIPT = """
const slots = [...element.querySelectorAll("[data-slot]")];
const value_of = (slot) => {
  const radio = slot.querySelector("input[type=radio]:checked");
  if (!radio) return slot.dataset.default;
  const range = slot.querySelector(`[data-for="${radio.value}"] input`);
  return range ? `${radio.value}:${Number(range.value)}` : radio.value;
};
const shown = (text) => text.replace(":", " ");
const paint = () => {
  let changed = 0;
  for (const slot of slots) {
    const value = value_of(slot);
    changed += value !== slot.dataset.default;
    slot.classList.toggle("sp-changed", value !== slot.dataset.default);
    slot.querySelector("[data-value]").textContent = shown(value);
    for (const box of slot.querySelectorAll("[data-for]")) {
      box.hidden = !value.startsWith(box.dataset.for + ":");
      box.querySelector("output").textContent = Number(box.querySelector("input").value);
    }
  }
  const count = (number) => (number ? `${number} changed` : "defaults");
  element.querySelector("[data-count]").textContent = count(changed);
  for (const group of element.querySelectorAll(".sp-group [data-some]")) {
    group.textContent = count(group.closest(".sp-group").querySelectorAll(".sp-changed").length);
  }
  element.querySelector("[data-reset]").disabled = !changed;
};
const choose = (settings) => {
  for (const slot of slots) {
    const [name, number] = (settings[slot.dataset.slot] ?? slot.dataset.default).split(":");
    const radio = slot.querySelector(`input[value="${name}"]:not([disabled])`);
    if (radio) radio.checked = true;
    const range = slot.querySelector(`[data-for="${name}"] input`);
    if (range && number !== undefined) range.value = number;
  }
  paint();
};
const read = () => Object.fromEntries(slots.map((slot) => [slot.dataset.slot, value_of(slot)]));
let mine = "";
const tell = () => {
  paint();
  mine = JSON.stringify(read());
  props.value = read();
};
element.addEventListener("change", tell);
element.addEventListener("input", paint);
element.querySelector("[data-reset]").addEventListener("click", () => {
  choose({});
  tell();
  element.querySelector("summary").focus();
});
watch("value", () => {
  if (JSON.stringify(props.value) === mine) return;
  choose(props.value ?? {});
  const outer = element.querySelector("details");
  if (element.querySelector(".sp-changed")) outer.open = true;
  for (const group of element.querySelectorAll(".sp-group")) {
    group.open ||= Boolean(group.querySelector(".sp-changed"));
  }
});
choose(props.value ?? {});
"""


class SettingsForm(gr.HTML):
    """The form as a component; its value is slot → value text, as `configure` takes it."""

    def __init__(
        self, slots: Sequence[Slot], platform: Platform, why_not: WhyNot, **kwargs: Any
    ) -> None:
        super().__init__(
            value=defaults(slots, platform),
            html_template="${markup}",
            markup=markup(slots, platform, why_not),
            js_on_load=_SCRIPT,
            apply_default_css=False,
            elem_id="settings",
            **kwargs,
        )

    def api_info(self) -> dict[str, Any]:
        return {"type": "object", "title": "slot → value text"}


def defaults(slots: Sequence[Slot], platform: Platform) -> dict[str, str]:
    return {slot.name: slot.default(platform) for slot in slots}


def accepted(value: object, slots: Sequence[Slot]) -> Mapping[str, str]:
    """What a browser sent, cut down to texts of slots that exist; `configure` judges the rest."""
    names = {slot.name for slot in slots}
    if not isinstance(value, Mapping):
        return {}
    return {slot: text for slot, text in value.items() if slot in names and isinstance(text, str)}


def markup(slots: Sequence[Slot], platform: Platform, why_not: WhyNot) -> str:
    """The whole form, folded; every slot folded in it.

    A slot of which nothing but the default can run here stands at the end, with its reasons.
    """
    common: list[str] = []
    more: list[str] = []
    absent: list[str] = []
    for slot in sorted(slots, key=_place):
        place = common if slot.name in COMMON else more
        if not _has_choice(slot, platform, why_not):
            place = absent
        place.append(_slot(slot, platform, why_not))
    return (
        '<details class="sp-fold"><summary><span>Speed and memory</span>'
        '<span class="sp-note" data-count>defaults</span></summary>'
        '<p class="sp-hint">How the picture is computed. Some of these change the picture a '
        "little; the audit measures how much.</p>"
        f"{''.join(common)}{_group('More settings', more, 'defaults')}"
        f"{_group('Not on this machine', absent, str(len(absent)))}"
        '<button type="button" class="sp-plain" data-reset disabled>Back to defaults</button>'
        "</details>"
    )


def _place(slot: Slot) -> int:
    return COMMON.index(slot.name) if slot.name in COMMON else len(COMMON)


def _has_choice(slot: Slot, platform: Platform, why_not: WhyNot) -> bool:
    default = slot.default(platform).split(":")[0]
    return any(
        option.name != default and why_not(option, platform) is None for option in slot.options
    )


def _group(title: str, slots: Sequence[str], note: str) -> str:
    if not slots:
        return ""
    kind = " data-some" if note == "defaults" else ""
    return (
        f'<details class="sp-group"><summary><span>{title}</span>'
        f'<span class="sp-note"{kind}>{note}</span></summary>{"".join(slots)}</details>'
    )


def _slot(slot: Slot, platform: Platform, why_not: WhyNot) -> str:
    default = slot.default(platform)
    rows = []
    if all(option.name != "off" for option in slot.options) and default == "off":
        rows.append(_radio(slot, "off", "", "Leave it out.", None, checked=True))
    for option in slot.options:
        reason = why_not(option, platform)
        checked = option.name == default.split(":")[0]
        rows.append(
            _radio(slot, option.name, option.changes, option.summary, reason, checked=checked)
        )
        if option.parameter is not None and reason is None:
            rows.append(_range(slot, option.name, option.parameter))
    name, label, text = escape(slot.name), escape(slot.label), escape(default)
    return (
        f'<details class="sp-slot" data-slot="{name}" data-default="{text}">'
        f'<summary><span>{label}</span><span class="sp-note" data-value>{text}</span></summary>'
        f'<fieldset><legend class="sp-unseen">{label}</legend>{"".join(rows)}</fieldset>'
        "</details>"
    )


def _radio(
    slot: Slot, name: str, changes: str, summary: str, reason: str | None, *, checked: bool
) -> str:
    off = reason is not None
    cost = f'<span class="sp-cost">Cost: {escape(changes)}</span>' if changes and not off else ""
    why = f'<span class="sp-why">Not here: {escape(reason)}</span>' if reason is not None else ""
    return (
        f'<label class="sp-option{" sp-off" if off else ""}">'
        f'<input type="radio" name="slot-{escape(slot.name)}" value="{escape(name)}"'
        f"{' checked' if checked and not off else ''}{' disabled' if off else ''}>"
        f'<span><b>{escape(name)}</b><span class="sp-summary">{escape(summary)}</span>'
        f"{cost}{why}</span></label>"
    )


def _range(slot: Slot, name: str, parameter: Parameter) -> str:
    return (
        f'<label class="sp-range" data-for="{escape(name)}" hidden>'
        f"<span>{escape(parameter.label)}</span>"
        f"<output>{parameter.default:g}</output>"
        f'<input type="range" min="{parameter.minimum or parameter.step:g}" '
        f'max="{parameter.maximum:g}" '
        f'step="{parameter.step:g}" value="{parameter.default:g}" '
        f'aria-label="{escape(slot.label)}: {escape(name)}, {escape(parameter.label)}"></label>'
    )
