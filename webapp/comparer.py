"""Two pictures in one place: a line to move between them, a swap, and their difference amplified.

The browser computes the difference from the pictures themselves, by blending; nothing is made on
the server, and the gain can be turned.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

from webapp.run_card import url
from webapp.words import Tone, chip

SCRIPT = """
const gains = [1, 2, 4, 8, 16, 32, 64];
const within = (event) => event.target.closest?.(".sp-compare");
const paint = (box) => {
  const difference = box.querySelector("[value=difference]").checked;
  const gain = gains[box.querySelector("[data-gain]").value];
  box.classList.toggle("sp-apart", difference);
  box.style.setProperty("--at", `${box.querySelector("[data-at]").value}%`);
  box.style.setProperty("--gain", difference ? gain : 1);
  box.querySelector("output").textContent = `× ${gain}`;
  box.querySelector("[data-gain]").setAttribute("aria-valuetext", `times ${gain}`);
};
const swap = (box, on) => box?.classList.toggle("sp-swapped", on);
element.addEventListener("input", (event) => {
  if (within(event)) paint(within(event));
});
element.addEventListener("click", (event) => {
  const thumb = event.target.closest("[data-first]");
  if (!thumb) return;
  const box = within(event);
  const [first, second] = box.querySelectorAll(".sp-compare-stage img");
  first.src = thumb.dataset.first;
  second.src = thumb.dataset.second;
  box.querySelector("[data-words]").innerHTML = thumb.querySelector("template").innerHTML;
  for (const one of box.querySelectorAll("[data-first]")) {
    one.setAttribute("aria-pressed", one === thumb);
  }
});
for (const name of ["pointerdown", "keydown"]) {
  element.addEventListener(name, (event) => {
    const pressed = name === "pointerdown" || [" ", "Enter"].includes(event.key);
    if (pressed && event.target.closest("[data-swap]")) swap(within(event), true);
  });
}
for (const [name, on] of [["pointerover", true], ["pointerout", false]]) {
  element.addEventListener(name, (event) => {
    if (event.pointerType === "mouse" && event.target.closest("[data-swap]")) {
      swap(within(event), on);
    }
  });
}
for (const name of ["pointerup", "pointercancel", "keyup", "blur"]) {
  window.addEventListener(name, () => {
    for (const box of element.querySelectorAll(".sp-swapped")) swap(box, false);
  }, true);
}
watch("value", () => {
  const card = element.querySelector("section");
  if (!card) return;
  card.querySelector("h2")?.focus({ preventScroll: true });
  const calm = matchMedia("(prefers-reduced-motion: reduce)").matches;
  card.scrollIntoView({ behavior: calm ? "auto" : "smooth", block: "nearest" });
});
"""
"""For the component that shows the card: every comparer in it, now and later."""

_CRISP_BELOW = 256


@dataclass(frozen=True, kw_only=True)
class Pair:
    """Two picture files of one request, and what was measured between them."""

    first: Path | None
    second: Path | None
    word: str
    tone: Tone
    caption: str


def comparer(
    pairs: Sequence[Pair], names: tuple[str, str], size: tuple[int, int], label: str
) -> str:
    """The first pair large, the others a click away; says so where files are gone."""
    there = [pair for pair in pairs if _there(pair.first) and _there(pair.second)]
    if not there:
        words = "".join(f"<p>{_words(pair)}</p>" for pair in pairs)
        return f'{words}<p class="sp-hint">The picture files are gone.</p>'
    start, other = names
    width, height = size
    crisp = " sp-crisp" if max(size) < _CRISP_BELOW else ""
    images = "".join(
        f'<img class="{place}{crisp}" src="{url(path)}" alt="{escape(name)}" draggable="false">'
        for place, path, name in (
            ("sp-first", there[0].first, start),
            ("sp-second", there[0].second, other),
        )
        if path is not None
    )
    group = escape(f"compare {label}")
    thumbs = "".join(_thumb(pair, number == 0) for number, pair in enumerate(there))
    lost = len(pairs) - len(there)
    return (
        f'<div class="sp-compare" role="group" aria-label="{escape(label)}">'
        f'<div class="sp-compare-stage" style="aspect-ratio: {width} / {height}">'
        f'<div class="sp-compare-pictures">{images}</div>'
        f'<span class="sp-side sp-left">{escape(start)}</span>'
        f'<span class="sp-side sp-right">{escape(other)}</span>'
        '<input type="range" min="0" max="100" value="50" data-at '
        f'aria-label="Line between {escape(start)} and {escape(other)}"></div>'
        '<div class="sp-compare-side"><p data-words>'
        f'{_words(there[0])}</p><fieldset><legend class="sp-unseen">How to compare</legend>'
        f'<label><input type="radio" name="{group}" value="slide" checked> Side by side</label>'
        f'<label><input type="radio" name="{group}" value="difference"> Difference</label>'
        '</fieldset><div class="sp-gain"><span aria-hidden="true">Amplified</span>'
        '<output>× 8</output><input type="range" min="0" max="6" value="3" data-gain '
        'aria-label="Amplified" aria-valuetext="times 8"></div>'
        '<button type="button" class="sp-plain" data-swap>Hold to swap</button>'
        + (
            f'<div class="sp-thumbs" role="group" aria-label="Pictures">{thumbs}</div>'
            if thumbs and len(there) > 1
            else ""
        )
        + (f'<p class="sp-hint">{lost} more have no files any more.</p>' if lost else "")
        + "</div></div>"
    )


def _there(path: Path | None) -> bool:
    return path is not None and path.is_file()


def _words(pair: Pair) -> str:
    return f'{chip(pair.word, pair.tone)} <span class="sp-note">{escape(pair.caption)}</span>'


def _thumb(pair: Pair, shown: bool) -> str:
    if pair.first is None or pair.second is None:
        return ""
    return (
        f'<button type="button" aria-pressed="{"true" if shown else "false"}" '
        f'data-first="{url(pair.first)}" data-second="{url(pair.second)}" '
        f'title="{escape(pair.caption)}"><img src="{url(pair.second)}" loading="lazy" '
        f'alt="{escape(pair.caption)}"><span class="sp-chip sp-{pair.tone}">{escape(pair.word)}'
        f"</span><template>{_words(pair)}</template></button>"
    )
