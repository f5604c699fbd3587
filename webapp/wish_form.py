"""What somebody wants from a configuration, asked in plain words.

The answers stand in the page's address, one entry of the browser's history each: its back button
undoes an answer, and an address can be handed on.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from html import escape
from typing import Any, get_args

import gradio as gr

from audit.recommendation import MEANINGS, REQUIRED
from audit.score import AXES, DRIFT_VERDICTS, GOALS, Axis, DriftVerdict, Goal
from audit.verdicts import meaning
from webapp.heat_map import QUESTIONS

WISHES: Mapping[Goal, str] = {
    "exact": "Exactly the same pictures",
    "same-look": "Pictures that look the same",
    "fastest": "As fast as possible",
}
_SCRIPT = """
const form = element.querySelector("form");
const memory = form.querySelector("[name=memory]");
const read = () => {
  const data = new FormData(form);
  return {
    goal: data.get("goal"),
    far: data.get("far"),
    memory: memory.value.trim(),
    hold: data.getAll("hold").join(","),
  };
};
const usual = read();
const put = (wish) => {
  for (const input of form.querySelectorAll("[type=radio]")) {
    input.checked = input.value === (wish[input.name] ?? usual[input.name]);
  }
  const held = (wish.hold ?? "").split(",");
  for (const input of form.querySelectorAll("[name=hold]")) {
    input.checked = held.includes(input.value);
  }
  memory.value = wish.memory ?? "";
  if (form.querySelector("[name=far]:checked")?.value) form.querySelector("details").open = true;
};
const from_address = () => Object.fromEntries(new URLSearchParams(location.search));
let said = JSON.stringify(read());
let number = 0;
let undos = 0;
const send = () => trigger("wish", { ...read(), number });
const answer = () => {
  const wish = read();
  const text = JSON.stringify(wish);
  form.querySelector("[data-undo]").disabled = !undos;
  form.querySelector("[data-over]").disabled = text === JSON.stringify(usual);
  if (text !== said) {
    number += 1;
    send();
  }
  said = text;
};
const changed = () => {
  const wish = read();
  if (JSON.stringify(wish) === said) return;
  const query = new URLSearchParams();
  for (const [name, value] of Object.entries(wish)) {
    if (value && value !== usual[name]) query.set(name, value);
  }
  history.pushState(null, "", location.pathname + (query.size ? `?${query}` : ""));
  undos += 1;
  answer();
};
let typing;
form.addEventListener("input", (event) => {
  clearTimeout(typing);
  typing = setTimeout(changed, event.target === memory ? 400 : 0);
});
form.addEventListener("submit", (event) => {
  event.preventDefault();
  changed();
});
form.querySelector("[data-undo]").addEventListener("click", () => history.back());
form.querySelector("[data-over]").addEventListener("click", () => {
  put({});
  changed();
});
window.addEventListener("popstate", () => {
  undos = Math.max(0, undos - 1);
  put(from_address());
  answer();
});
put(from_address());
said = JSON.stringify(read());
answer();
let behind = 0;
const looking = setInterval(() => {
  if (!element.isConnected) return clearInterval(looking);
  const shown = document.querySelector("#answer [data-said]")?.dataset.said;
  behind = shown === undefined || Number(shown) === number ? 0 : behind + 1;
  if (behind && behind % 4 === 0) send();
}, 500);
"""
"""An answer says which question it is to. Of two quick questions Gradio may lose the second, or
show its answer first: one that has no answer after two seconds is asked again."""


@dataclass(frozen=True, kw_only=True)
class Wish:
    """What a recommendation has to respect."""

    goal: Goal = "same-look"
    farthest: DriftVerdict | None = None
    """In place of what the goal lets a picture drift."""
    memory: str = ""
    """GB, as it was typed."""
    must_hold: tuple[Axis, ...] = ()
    number: int = 0
    """Which question of the page this is, from 0 at its opening."""

    @property
    def memory_bytes(self) -> int | None:
        """Raises ValueError with a sentence for who typed it."""
        plain = self.memory.strip().lower().removesuffix("gb").strip().replace(",", ".")
        if not plain:
            return None
        try:
            value = float(plain)
        except ValueError:
            value = -1.0
        if not 0 < value < 1e6:
            raise ValueError(
                f"A memory limit is a number of GB, for example 8; not {self.memory.strip()!r}."
            )
        return int(value * 1e9)


def wish_of(sent: Mapping[str, Any]) -> Wish:
    """From an address or an event; what is no answer is left as it is by default."""
    goal, far = sent.get("goal"), sent.get("far")
    held = str(sent.get("hold", "")).split(",")
    return Wish(
        goal=next((one for one in GOALS if one == goal), Wish.goal),
        farthest=next((one for one in DRIFT_VERDICTS if one == far), None),
        memory=str(sent.get("memory", "")),
        must_hold=tuple(axis for axis in AXES if axis in held and axis not in REQUIRED),
        number=int(number) if (number := str(sent.get("number", ""))).isdecimal() else 0,
    )


class WishForm(gr.HTML):
    """Native controls, so that keyboard, focus and screen readers work as everywhere."""

    def __init__(self, memory_bytes: int, **kwargs: Any) -> None:
        super().__init__(
            _markup(memory_bytes),
            js_on_load=_SCRIPT,
            apply_default_css=False,
            elem_id="wish",
            **kwargs,
        )


def _markup(memory_bytes: int) -> str:
    goals = "".join(
        _choice("radio", "goal", goal, WISHES[goal], f"{MEANINGS[goal]}.", on=goal == Wish.goal)
        for goal in GOALS
    )
    always = "".join(
        _choice("checkbox", "", axis, QUESTIONS[axis], "", on=True, off=True) for axis in REQUIRED
    )
    axes = "".join(
        _choice("checkbox", "hold", axis, QUESTIONS[axis], "")
        for axis in AXES
        if axis not in REQUIRED
    )
    far = "".join(
        _choice("radio", "far", verdict, verdict, f"{meaning(verdict)}.")
        for verdict in get_args(DriftVerdict)[:-1]
    )
    return (
        '<form class="sp-wish"><fieldset><legend>What matters to you?</legend>'
        f"{goals}</fieldset>"
        '<fieldset><legend>How much memory may it take?</legend><label class="sp-limit">'
        '<input type="text" inputmode="decimal" name="memory" placeholder="no limit" size="9" '
        f'autocomplete="off"> GB</label><p class="sp-hint">This machine has '
        f"{memory_bytes / 1e9:.0f} GB.</p></fieldset>"
        "<fieldset><legend>When must it be the same picture, bit for bit?</legend>"
        f"{always}{axes}</fieldset>"
        '<details class="sp-more"><summary>How far may pictures move, exactly?</summary><fieldset>'
        '<legend class="sp-unseen">How far may pictures move?</legend>'
        f"{_choice('radio', 'far', '', 'as said above', '', on=True)}{far}</fieldset></details>"
        '<p class="sp-actions"><button type="button" class="sp-plain" data-undo disabled>Undo'
        '</button><button type="button" class="sp-plain" data-over disabled>Start over</button></p>'
        "</form>"
    )


def _choice(
    kind: str, name: str, value: str, words: str, more: str, *, on: bool = False, off: bool = False
) -> str:
    named = f' name="{name}"' if name else ""
    note = "always required" if off else escape(more)
    return (
        f'<label class="sp-option{" sp-off" if off else ""}">'
        f'<input type="{kind}"{named} value="{value}"{" checked" if on else ""}'
        f"{' disabled' if off else ''}><span><b>{escape(words)}</b>"
        f'<span class="sp-why">{note}</span></span></label>'
    )
