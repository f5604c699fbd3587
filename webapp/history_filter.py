"""By what a history is narrowed: one list per question, made from what is there."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape

from core.history import Facet
from core.narrowing import Evidence, Narrowing
from webapp.evidence_card import STANDINGS, standing
from webapp.findings import Findings

QUESTIONS = (
    ("sampler", "Sampler"),
    ("size", "Size"),
    ("setting", "Setting"),
    ("verdict", "Verdict"),
    ("tag", "Tag"),
)

SCRIPT = """
element.addEventListener("change", (event) => {
  const chosen = [...element.querySelectorAll("select")].map((one) => [one.name, one.value]);
  trigger("narrow", { chosen: JSON.stringify(Object.fromEntries(chosen)) });
});
"""


@dataclass(frozen=True, kw_only=True)
class Chosen:
    """What somebody chose, as texts of an address; empty where nothing is."""

    words: str = ""
    sampler: str = ""
    size: str = ""
    setting: str = ""
    verdict: str = ""
    tag: str = ""

    @property
    def narrows(self) -> bool:
        return any(getattr(self, name) for name, _ in QUESTIONS)


def chosen_of(asked: Mapping[str, object], words: str) -> Chosen:
    """From an address or a browser; what is no text is left out."""
    texts = {name: asked.get(name) for name, _ in QUESTIONS}
    kept = {name: value[:200] for name, value in texts.items() if isinstance(value, str)}
    return Chosen(words=words, **kept)


def narrowing(chosen: Chosen, facets: Sequence[Facet], findings: Findings) -> Narrowing:
    """The same for the store. A verdict becomes the settings, platforms and models that have it."""
    evidence: tuple[Evidence, ...] | None = None
    if chosen.verdict:
        evidence = tuple(
            about for about, word in standings(facets, findings).items() if word == chosen.verdict
        )
    return Narrowing(
        search=chosen.words,
        sampler=chosen.sampler,
        size=chosen.size,
        setting=chosen.setting,
        tag=chosen.tag,
        evidence=evidence,
    )


def standings(facets: Iterable[Facet], findings: Findings) -> dict[Evidence, str]:
    """What the audits say about everything that an owner's pictures were made with."""
    return {
        about: standing(findings.about(about))
        for about in dict.fromkeys(facet.evidence for facet in facets)
    }


def lists(
    chosen: Chosen, facets: Sequence[Facet], tags: Mapping[str, int], findings: Findings
) -> str:
    """One list per question, each value with its count; nothing where there is nothing to choose.
    Counts are of all of an owner's pictures."""
    words = standings(facets, findings)
    counts: dict[str, Counter[str]] = {name: Counter() for name, _ in QUESTIONS}
    for facet in facets:
        counts["sampler"][facet.sampler] += facet.count
        counts["size"][facet.size] += facet.count
        counts["verdict"][words[facet.evidence]] += facet.count
        for setting in facet.settings.split():
            counts["setting"][setting] += facet.count
    counts["tag"].update(tags)
    selects = "".join(
        _select(name, label, counts[name], getattr(chosen, name)) for name, label in QUESTIONS
    )
    return f'<div class="sp-filters">{selects}</div>' if facets else ""


def _select(name: str, label: str, counts: Counter[str], chosen: str) -> str:
    values = [word for word in STANDINGS if word in counts] if name == "verdict" else sorted(counts)
    if chosen and chosen not in values:
        values.append(chosen)
    if not values:
        return ""
    options = "".join(
        f'<option value="{escape(value)}"{" selected" if value == chosen else ""}>'
        f"{escape(value)} ({counts[value]})</option>"
        for value in values
    )
    return (
        f'<label><span>{label}</span><select name="{name}"><option value="">any</option>'
        f"{options}</select></label>"
    )
