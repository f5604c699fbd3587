"""Statements of articles, each with what decides it, judged by what an audit measured."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Literal

from pydantic import ConfigDict

from audit.answers import answers
from audit.measured_counts import latent_tokens
from audit.measurement import Answer, Measurement
from audit.prompt_file import PlanError, in_shape, read_toml
from audit.score import Audit
from audit.selection import name_of, rows_with
from audit.units import counted

CLAIMS = Path(__file__).resolve().parents[1] / "data" / "claims.toml"
"""The shipped statements."""

ClaimVerdict = Literal["confirmed", "refuted", "not testable here"]
CLAIM_MEANINGS: Mapping[ClaimVerdict, str] = {
    "confirmed": "every measurement that decides it agrees, by intervals and counts",
    "refuted": "a measurement that decides it says the opposite, by intervals and counts",
    "not testable here": "something it needs is not here, or the figures leave it open",
}
CLAIM_CLASSES: Mapping[ClaimVerdict, str] = {
    "confirmed": "held",
    "refuted": "broken",
    "not testable here": "unverified",
}
"""As which words of determinism a report tints them."""
NEEDED_DEVICES: Mapping[str, str] = {"cuda": "an NVIDIA or AMD GPU", "mps": "a Mac's GPU"}
"""Types of torch devices in a reader's words."""


@dataclass(frozen=True, kw_only=True)
class Needs:
    """What has to be there for a statement to be testable at all."""

    __pydantic_config__ = ConfigDict(extra="forbid")

    device: str = ""
    """A type of torch device."""
    operator: str = ""
    """How the name of an operator begins that must have run in the row `of`."""
    of: Mapping[str, str] = field(default_factory=dict)
    tokens: int = 0
    """Latent tokens in the UNet's largest self-attention, at least."""
    other: str = ""
    """What no audit of this version measures, as the end of a sentence that begins with needs."""


@dataclass(frozen=True, kw_only=True)
class Claim:
    """One statement, in our words, and how it is decided."""

    __pydantic_config__ = ConfigDict(extra="forbid")

    id: str
    article: str
    place: str
    """The article's section or table."""
    says: str
    needs: Needs = field(default_factory=Needs)
    holds_if: Literal["all", "any"] = "all"
    """Whether all measurements must agree, or one is enough."""
    measured: tuple[Measurement, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Claims:
    """A file of claims; `article` is each article's id with its title."""

    __pydantic_config__ = ConfigDict(extra="forbid")

    article: Mapping[str, str]
    claim: tuple[Claim, ...]


@dataclass(frozen=True, kw_only=True)
class JudgedClaim:
    """A statement with its verdict for one machine and one model."""

    id: str
    article: str
    place: str
    says: str
    verdict: ClaimVerdict
    reason: str
    """Why, in one sentence."""
    figures: tuple[str, ...]
    """What it stands on, a sentence for each measurement, those that decided it first."""


@cache
def read_claims(path: Path = CLAIMS) -> Claims:
    """Raises PlanError with a sentence per mistake."""
    found = in_shape(path, read_toml(path), Claims)
    ids = [claim.id for claim in found.claim]
    mistakes = [
        f"the claim {one!r} is there twice" for one in dict.fromkeys(ids) if ids.count(one) > 1
    ]
    for claim in found.claim:
        if claim.article not in found.article:
            mistakes.append(f"{claim.id} is of an unknown article, {claim.article!r}")
        if not claim.measured and not claim.needs.other:
            mistakes.append(f"{claim.id} has no measurement, and nothing says why")
    if mistakes:
        raise PlanError("\n".join(f"{path}: {mistake}" for mistake in mistakes))
    return found


def judge_claims(audit: Audit, claims: Claims | None = None) -> tuple[JudgedClaim, ...]:
    """Every claim in the file's order. A pure function of the audit's scores."""
    claims = claims or read_claims()
    return tuple(_judged(audit, claim, claims.article[claim.article]) for claim in claims.claim)


def shown_claims(audit: Audit) -> tuple[JudgedClaim, ...]:
    """All claims where a reader wants them: the plan is about an article's figures, or the audit
    decides at least one."""
    judged = judge_claims(audit)
    if audit.published or any(claim.verdict != "not testable here" for claim in judged):
        return judged
    return ()


def _judged(audit: Audit, claim: Claim, article: str) -> JudgedClaim:
    verdict: ClaimVerdict = "not testable here"
    found: tuple[Answer, ...] = ()
    if unmet := _unmet(audit, claim.needs):
        reason = f"Needs {unmet}."
    else:
        found = tuple(answer for one in claim.measured for answer in answers(audit, one))
        verdict, reason = _combined(claim, found)
    deciding = {"confirmed": True, "refuted": False}.get(verdict)
    ordered = sorted(found, key=lambda answer: answer.agrees is not deciding)
    return JudgedClaim(
        id=claim.id,
        article=article,
        place=claim.place,
        says=claim.says,
        verdict=verdict,
        reason=reason,
        figures=tuple(dict.fromkeys(answer.sentence for answer in ordered if not answer.missing)),
    )


def _combined(claim: Claim, found: Sequence[Answer]) -> tuple[ClaimVerdict, str]:
    """One decisive answer settles it; its opposite needs all answers, none of them missing."""
    settles = claim.holds_if == "any"
    words: Mapping[bool, ClaimVerdict] = {True: "confirmed", False: "refuted"}
    whole = len(found)
    agree = sum(answer.agrees is settles for answer in found)
    oppose = sum(answer.agrees is (not settles) for answer in found)
    if agree:
        return words[settles], f"Decided by {counted(agree, 'comparison')} of {whole}."
    if found and oppose == whole:
        return words[not settles], f"Decided by {counted(whole, 'comparison')} of {whole}."
    if missing := [answer.sentence for answer in found if answer.missing]:
        return "not testable here", f"Needs what is not here: {missing[0]}"
    left_open = f"{counted(whole - oppose, 'comparison')} of {whole}"
    return "not testable here", f"Undecided: the figures leave {left_open} open."


def _unmet(audit: Audit, needs: Needs) -> str:
    """The first need that is not met, with what is here instead; empty where all are."""
    device = audit.platform.device.partition(":")[0]
    if needs.device and device != needs.device:
        return f"{NEEDED_DEVICES.get(needs.device, needs.device)}; this audit is of a {device}"
    if needs.operator:
        rows = [row for row in rows_with(audit, needs.of) if row.effective]
        seen = {
            operator
            for row in rows
            for slot in (row.effective.slots if row.effective else ())
            for operator in slot.operators
        }
        if not any(name.startswith(needs.operator) for name in seen):
            name = name_of(audit, rows[0]) if rows else "such a row"
            fused = ", ".join(sorted(n for n in seen if "attention" in n)) or "none was recorded"
            return f"the operator {needs.operator} to run in {name}; of attention's own ran {fused}"
    if needs.tokens and (tokens := latent_tokens(audit)) < needs.tokens:
        here = f"{tokens:,}" if tokens else "no count of them"
        return f"{needs.tokens:,} latent tokens in self-attention; here {here}"
    return needs.other
