"""The results of an evaluation as the card's tables and lists; nothing here is typed by hand."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

from audit.prompt_judge import ASPECTS
from audit.statistics import share_interval

Row = dict[str, Any]
"""One picture of `evaluate.Evaluation.judged`, with its group."""

GROUPS = {
    "middle": "one object in the middle, both styles",
    "tinted": "one tinted object",
    "small": "one small object",
    "sided": "one object on a side",
    "pair": "two objects",
}
"""Group of prompts → what it asks for."""
IN_SIZES = ("object", "style", "background")
"""What the prompts of other sizes ask for."""
FIVEFOLD = 5
"""How many times less often something has to be there that a negative prompt names."""
SHARP = 30.0
"""PSNR in dB that the autoencoder has to reach on held-out renders."""


def shown(rows: list[Row], aspect: str) -> list[bool]:
    """Whether each picture that was asked for an aspect shows it."""
    return [row["shows"][aspect] for row in rows if aspect in row["shows"]]


def single(rows: list[Row]) -> list[Row]:
    return [row for row in rows if row["group"] != "pair"]


def pairs(rows: list[Row]) -> list[Row]:
    return [row for row in rows if row["group"] == "pair"]


GOALS: tuple[tuple[str, float, Callable[[list[Row]], list[bool]]], ...] = (
    ("background colour", 0.95, lambda rows: shown(rows, "background")),
    ("object, where one is asked for", 0.80, lambda rows: shown(single(rows), "object")),
    ("style", 0.85, lambda rows: shown(rows, "style")),
    ("position", 0.80, lambda rows: shown(rows, "position")),
    ("both of two objects", 0.40, lambda rows: shown(pairs(rows), "object")),
)
"""What is asked for, the share that is wanted, and the pictures that count."""


def counted(hits: list[bool]) -> str:
    """`n / total (p %; low to high)`, the interval of 95 %."""
    if not hits:
        return "not asked"
    low, high = share_interval(sum(hits), len(hits))
    share = f"{100 * sum(hits) / len(hits):.0f} %; {100 * low:.0f} to {100 * high:.0f}"
    return f"{sum(hits)} / {len(hits)} ({share})"


def table(head: list[str], rows: list[list[str]]) -> str:
    """A table in Markdown."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def goals(results: dict[str, Any]) -> str:
    """Every goal, what was measured, and whether it is reached."""
    pictures = results["held_out"]["pictures"]
    rows = []
    for what, share, chosen in GOALS:
        hits = chosen(pictures)
        reached = sum(hits) >= share * len(hits)
        rows.append([what, f"≥ {100 * share:.0f} %", counted(hits), word(reached)])
    for what, key in (
        ("naming one of two objects as negative prompt", "negative_object"),
        ("naming a background that is left open", "negative_background"),
    ):
        without, with_ = (results[key][arm]["named"] for arm in ("without", "with"))
        reached = without > 0 and with_ * FIVEFOLD <= without
        measured = f"{without} → {with_} of {results[key]['pictures']}"
        rows.append([what, "five times less often", measured, word(reached)])
    sharp = results["autoencoder"]["psnr_db"]
    rows.append(["autoencoder", f"≥ {SHARP:g} dB", f"{sharp} dB", word(sharp >= SHARP)])
    return table(["what", "goal", "measured", ""], rows)


def word(reached: bool) -> str:
    return "reached" if reached else "**not reached**"


def groups(results: dict[str, Any], judge: dict[str, Any]) -> str:
    """Every aspect of every group of prompts, the judge's own figures beneath."""
    pictures = results["held_out"]["pictures"]
    rows = []
    for group, what in GROUPS.items():
        own = [row for row in pictures if row["group"] == group]
        rows.append([what, *(counted(shown(own, aspect)) for aspect in ASPECTS), followed(own)])
    everything = [counted(shown(pictures, aspect)) for aspect in ASPECTS]
    rows.append(["**all**", *everything, followed(pictures)])
    figures = (judge["figures"][aspect] for aspect in ASPECTS)
    right = [f"{one['right']} / {one['of']} ({one['right'] / one['of']:.1%})" for one in figures]
    rows.append(["the judge on held-out renders", *right, ""])
    return table(["prompts", *ASPECTS, "all that is asked"], rows)


def followed(rows: list[Row]) -> str:
    """Pictures that show everything their prompt asks for."""
    return counted([all(row["shows"].values()) for row in rows])


def confusion(results: dict[str, Any], most: int = 12) -> str:
    """The commonest mistakes."""
    mistakes = Counter(
        (asked, seen)
        for row in results["held_out"]["pictures"]
        for asked, seen in zip(row["asked"], row["seen"], strict=True)
        if asked != seen
    )
    common = mistakes.most_common(most)
    return ", ".join(f"{seen} for {asked} ({count})" for (asked, seen), count in common) or "none"


def failures(results: dict[str, Any]) -> str:
    """What was seen and what was asked for, in the order of the pictures."""
    rows = [row for row in results["held_out"]["pictures"] if not row["shows"]["object"]]
    lines = (f"{' and '.join(row['seen'])} for: {row['prompt']}" for row in rows)
    return "\n".join(f"{i}. {line}" for i, line in enumerate(lines, 1)) or "Nothing."


def sizes(results: dict[str, Any]) -> str:
    """Pictures beyond the native size."""
    rows = [
        [size.replace("x", " × "), *(counted(shown(made, aspect)) for aspect in IN_SIZES)]
        for size, made in results["sizes"]["pictures"].items()
    ]
    return table(["pixels", *IN_SIZES], rows)


def negatives(results: dict[str, Any]) -> str:
    """How often something is there, with and without naming it as a negative prompt."""
    rows = []
    for key, what in (
        ("negative_object", "the right one of two objects, its bare name as negative prompt"),
        ("negative_background", "a background that the prompt leaves open, as negative prompt"),
    ):
        of = results[key]["pictures"]
        arms = (results[key][arm]["named"] for arm in ("without", "with"))
        rows.append([what, *(counted([True] * n + [False] * (of - n)) for n in arms)])
    of, kept = results["negative_object"]["pictures"], results["negative_object"]
    arms = (kept[arm]["other"] for arm in ("without", "with"))
    what = "— the left one meanwhile, which nothing names"
    rows.insert(1, [what, *(counted([True] * n + [False] * (of - n)) for n in arms)])
    return table(["what is named", "there without", "there with"], rows)


def calibration(document: dict[str, Any]) -> str:
    """How well each metric tells the controls apart, and what they score."""
    rows = []
    for name, entry in document["metrics"].items():
        spans = (f"{q[1]:g} … {q[3]:g}" for q in entry["quantiles"].values())
        rows.append([f"`{name}`", *(f"{area:.3f}" for area in entry["auc"].values()), *spans])
    first = next(iter(document["metrics"].values()))
    head = ["metric", *(f"AUC, {name}" for name in first["auc"])]
    return table([*head, *(f"{name}, 5–95 %" for name in first["quantiles"])], rows)


def words(document: dict[str, Any]) -> str:
    """The words that the gates give to each control's pairs, before → after calibration."""
    rows = []
    for control, told in document["words"].items():
        before, after = told["starting"], told["calibrated"]
        cells = (f"{n}" if n == after[w] else f"{n} → {after[w]}" for w, n in before.items())
        rows.append([control, *cells])
    return table(["control", *next(iter(document["words"].values()))["starting"]], rows)


def history(log: list[dict[str, Any]], most: int = 12) -> str:
    """Checkpoints: minutes, pictures, loss by quarter of the noise steps."""
    kept = [*log[: -1 : max(1, len(log) // most)], log[-1]]
    rows = [
        [f"{line['minutes']:.0f}", str(line["steps"]), f"{line['pictures']:,}"]
        + [f"{value:.3f}" for value in line["held_out_loss"]]
        for line in kept
    ]
    return table(["minutes", "steps", "pictures", "least noise", "", "", "most noise"], rows)


def sittings(log: list[dict[str, Any]]) -> str:
    """What the log says of each stretch of training: one ends where its clock goes back, or where
    the learning rate begins or ceases to fall."""
    ends = [
        line
        for line, after in zip(log, [*log[1:], None], strict=True)
        if after is None
        or after["minutes"] < line["minutes"]
        or after.get("cooldown") != line.get("cooldown")
    ]
    return "\n".join(f"- up to minute {line['minutes']:.0f}: {rate(line)}" for line in ends)


def rate(line: dict[str, Any]) -> str:
    """A checkpoint's steps, pictures and learning rate."""
    done = f"{line['steps']:,} steps, {line['pictures']:,} pictures"
    if "learning_rate" not in line:
        return f"{done}, learning rate not in the log"
    course = "falling to zero" if line["cooldown"] else "constant"
    return f"{done}, learning rate {line['learning_rate']:g}, {course}"
