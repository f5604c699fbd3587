"""Which of an owner's pictures are meant: by words, by settings, by tags."""

from dataclasses import dataclass
from typing import Any

Evidence = tuple[str, str, str]
"""A configuration's key, a platform's fingerprint and a model's digest: what an audit's row is
about."""

MOST_WORDS = 50
"""Of a search; SQLite reads no condition of a thousand parts."""


@dataclass(frozen=True, kw_only=True)
class Narrowing:
    """Every part that is not empty has to hold."""

    search: str = ""
    """Words that all occur in prompts or settings; those after the first fifty are left out."""
    sampler: str = ""
    size: str = ""
    """As 128x192, in pixels."""
    setting: str = ""
    """One of a configuration's, as `attention=sdp`."""
    tag: str = ""
    evidence: tuple[Evidence, ...] | None = None
    """Pictures with one of these; None asks for none, and nothing has one of an empty tuple."""

    @property
    def words(self) -> list[str]:
        return self.search.casefold().split()[:MOST_WORDS]

    def where(self) -> tuple[str, list[Any]]:
        """SQL over columns of `generations`, all of them in one index, with its parameters."""
        parts = ["instr(searched, ?)"] * len(self.words)
        parameters: list[Any] = [*self.words]
        for column, value in (("sampler", self.sampler), ("size", self.size)):
            if value:
                parts.append(f"{column} = ?")
                parameters.append(value)
        if self.setting:
            parts.append("instr(' ' || settings || ' ', ?)")
            parameters.append(f" {self.setting} ")
        if self.tag:
            parts.append("instr(tags, ?)")
            parameters.append(f"\n{self.tag}\n")
        if self.evidence is not None:
            places = ", ".join(["(?, ?, ?)"] * len(self.evidence))
            meant = f"(settings, platform, model) in (values {places})"
            parts.append(meant if self.evidence else "0")
            parameters += [value for triple in self.evidence for value in triple]
        return "".join(f" and {part}" for part in parts), parameters


EVERYTHING = Narrowing()
MOST_TAG = 40
"""Characters of one tag."""


def tag(text: str) -> str:
    """A tag as it is kept: small letters, single spaces. Raises ValueError with a sentence."""
    kept = " ".join(text.casefold().split())
    if not kept or len(kept) > MOST_TAG or "," in kept:
        raise ValueError(
            f"A tag is 1 to {MOST_TAG} characters without a comma, not {text.strip()[:60]!r}."
        )
    return kept
