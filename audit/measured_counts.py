"""What the runs of a row counted while they ran: merged tokens, skipped calls, attention's keys."""

import re
from collections.abc import Mapping

from audit.measurement import Answer, Measurement
from audit.score import Audit, Score
from audit.selection import name_of, rows_with
from audit.units import percent
from core.run import Effective, SlotEffect

_SHAPE = re.compile(r"unet (\d+)x(\d+)x(\d+)x(\d+) on (\d+) keys")
"""How the attention slot's counts are named (`core.optimizations.attention.slicing.Shape`)."""


def latent_tokens(audit: Audit) -> int:
    """Tokens in the largest self-attention of the baseline's UNet; 0 where none was recorded."""
    baseline = next(iter(rows_with(audit, {})), None)
    shapes = _shapes(baseline.effective if baseline else None)
    return max((queries for queries, keys in shapes if queries == keys), default=0)


def count(audit: Audit, asked: Measurement, row: Score, than: Score) -> Answer:
    slot = _slot(row, asked.slot)
    if slot is None or asked.count not in slot.counts:
        return Answer(agrees=None, sentence=f"{name_of(audit, row)}: {asked.count} not recorded.")
    number = slot.counts[asked.count]
    return Answer(
        agrees=(number > 0) is (asked.kind == "counted"),
        sentence=f"{name_of(audit, row)}: {asked.count} {number:g} "
        f"of {row.effective.unet_calls if row.effective else 0} UNet calls in one run.",
    )


def merges_its_ratio(audit: Audit, asked: Measurement, row: Score, than: Score) -> Answer:
    """Of the tokens that entered merging, the share that its number names, rounded to a token."""
    slot, name = _slot(row, "token-merging"), name_of(audit, row)
    counts: Mapping[str, float] = slot.counts if slot else {}
    if not counts.get("tokens_in"):
        return Answer(agrees=None, sentence=f"{name}: no merging recorded.")
    asked_for = float(row.configuration.get("token-merging").partition(":")[2])
    share = 1 - counts["tokens_out"] / counts["tokens_in"]
    token = counts["merge_calls"] / counts["tokens_in"]
    calls = counts["self_attention_calls"]
    return Answer(
        agrees=abs(share - asked_for) <= token,
        sentence=f"{name}: {counts['tokens_in'] - counts['tokens_out']:,.0f} of "
        f"{counts['tokens_in']:,.0f} tokens merged ({percent(share)}), in "
        f"{counts['merge_calls']:.0f} of {calls:.0f} self-attention calls.",
    )


def merges_the_prompt(audit: Audit, asked: Measurement, row: Score, than: Score) -> Answer:
    """Whether cross-attention, whose keys are the prompts' tokens, has fewer keys."""
    ours, theirs = (prompt_keys(one.effective) for one in (row, than))
    tokens = _slot(row, "token-merging")
    if not ours or not theirs or tokens is None:
        return Answer(agrees=None, sentence=f"{name_of(audit, row)}: no attention shapes recorded.")
    merged = tokens.counts.get("tokens_in", 0) - tokens.counts.get("tokens_out", 0)
    return Answer(
        agrees=sum(ours) < sum(theirs),
        sentence=f"{name_of(audit, row)}: cross-attention has {' and '.join(map(str, ours))} keys "
        f"from the prompts, without merging {' and '.join(map(str, theirs))}; the {merged:,.0f} "
        "tokens that were merged are the picture's.",
    )


def prompt_keys(effective: Effective | None) -> list[int]:
    """Numbers of keys that are not the number of queries: those of cross-attention."""
    return sorted({keys for queries, keys in _shapes(effective) if queries != keys})


def _shapes(effective: Effective | None) -> list[tuple[int, int]]:
    """Queries and keys of every shape that the UNet's attention was called with."""
    slot = effective.slot("attention") if effective else None
    found = (_SHAPE.fullmatch(name) for name in (slot.counts if slot else ()))
    return [(int(match[3]), int(match[5])) for match in found if match]


def _slot(row: Score, name: str) -> SlotEffect | None:
    return row.effective.slot(name) if row.effective else None
