"""Does the shipped model behave like a real one? `python data/pocket/training/behaviour.py
AUDIT.json`, where AUDIT.json is what `seedproof audit --plan standard --json` printed.

Says of every order that is reported for Stable Diffusion whether the audit's figures show it, and
writes `../evaluation/behaviour.json`, which the card tells. Nothing is made or timed here.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import dataclass, replace
from itertools import combinations
from pathlib import Path
from typing import Any

import figures

from audit.answers import answers
from audit.document import read_document
from audit.measured_counts import latent_tokens
from audit.measurement import Answer, Kind, Measurement
from audit.prompt_evidence import of_judged
from audit.score import Audit, Score
from audit.selection import name_of
from audit.units import interval, similarity

POCKET = Path(__file__).parent.parent
FILE = "behaviour.json"
"""What is found, beside the evaluation's results."""
SD_TOKENS = 4096
"""Latent tokens of Stable Diffusion 1.x at 512 × 512 px: 64 × 64."""
MOST = 4
"""Comparisons told of each order that does not hold; the file has all."""

Settings = dict[str, str]
KERNELS: tuple[Settings, ...] = tuple({"attention": t} for t in ("[!s]*", "sdp-*", "sp*", "su*"))
"""Every attention option but the baseline's."""
BF16: Settings = {"precision": "bf16"}
SIGMA: Settings = {"min-sigma": "*:*"}
MERGING: Settings = {"token-merging": "*:*"}
RATIOS = ("0.3", "0.5", "0.7")
KINDS = ("seeded", "fixed", "as-shipped")
"""Of token merging; only equal kinds are compared by ratio."""


@dataclass(frozen=True, kw_only=True)
class Order:
    """What is reported for Stable Diffusion, by whom, and what decides it here."""

    says: str
    source: str
    measured: tuple[Measurement, ...]
    why: str
    """Why it may be otherwise here. `{tokens}` are those of the largest self-attention."""


def merging(ratio: str, kind: str) -> Settings:
    return {"token-merging": f"{kind}:{ratio}"}


def every(
    kind: Kind, rows: tuple[Settings, ...], others: tuple[Settings, ...]
) -> list[Measurement]:
    """Each of the rows against each of the others."""
    return [Measurement(kind=kind, row=row, than=than) for row in rows for than in others]


def by_ratio(kind: Kind, more_first: bool) -> tuple[Measurement, ...]:
    """Every two ratios of each kind of merging."""
    return tuple(
        Measurement(kind=kind, row=merging(first, of), than=merging(second, of))
        for of in KINDS
        for less, more in combinations(RATIOS, 2)
        for first, second in [(more, less) if more_first else (less, more)]
    )


ORDERS: tuple[Order, ...] = (
    Order(
        says="Attention kernels change a picture least",
        source="PyTorch's page on scaled_dot_product_attention: which kernel is chosen may change "
        "its output, because fused operations round otherwise",
        measured=tuple(every("closer", KERNELS, (BF16, SIGMA, MERGING))),
        why="A minimum sigma may act in a step or two near the end, where little changes any more.",
    ),
    Order(
        says="bf16 comes next: it changes less than minimum sigma and token merging",
        source="no source compares them; it was so with this model's prototype",
        measured=tuple(every("closer", (BF16,), (SIGMA, MERGING))),
        why="bf16 rounds in every step; a low minimum sigma acts in a few late ones only.",
    ),
    Order(
        says="Minimum sigma changes less than token merging",
        source="the article behind the plan `article`, on its benchmark of minimum sigma",
        measured=tuple(every("closer", (SIGMA,), (MERGING,))),
        why="How many steps lie below a sigma is a matter of the scheduler, and `all` skips "
        "guidance in each of them, where the article's program skips every second.",
    ),
    Order(
        says="More merging changes more",
        source="Bolya and Hoffman, “Token Merging for Fast Stable Diffusion”, arXiv 2303.17604",
        measured=by_ratio("closer", more_first=False),
        why="The tokens most alike are merged first, and these pictures' flat backgrounds are full "
        "of them.",
    ),
    Order(
        says="Time falls with the ratio of merging",
        source="the same paper; at a ratio of 0.5, with xFormers, huggingface/diffusers#2940 "
        "measured 1.01 times the speed at 512 px and 1.65 times at 2048 px",
        measured=(
            *(Measurement(kind="faster", row=merging(RATIOS[0], kind)) for kind in KINDS),
            *by_ratio("faster", more_first=True),
        ),
        why="Merging saves in proportion to what attention costs, which grows with the square of "
        "the tokens, and finding what to merge costs time of its own. Self-attention has at most "
        f"{{tokens}} tokens here, and {SD_TOKENS:,} in Stable Diffusion 1.x at 512 × 512 px.",
    ),
)


def found_answers(audit: Audit, order: Order) -> list[Answer]:
    """One for each pair of rows that this audit has."""
    found = (answer for one in order.measured for answer in answers(audit, one))
    return [answer for answer in found if not answer.missing]


def verdict(found: list[Answer]) -> str:
    """One comparison that says the opposite is enough against an order, all are needed for it."""
    if not found:
        return "not in this audit"
    if any(answer.agrees is False for answer in found):
        return "does not hold"
    return "holds" if all(answer.agrees for answer in found) else "left open"


def judged(audit: Audit, order: Order) -> dict[str, Any]:
    """The order's verdict, and what every comparison says."""
    found = found_answers(audit, order)
    told: dict[bool | None, list[str]] = {True: [], False: [], None: []}
    for answer in found:
        told[answer.agrees].append(answer.sentence)
    tokens = latent_tokens(audit)
    return {
        "says": order.says,
        "source": order.source,
        "verdict": verdict(found),
        "agree": told[True],
        "against": told[False],
        "open": told[None],
        "why": order.why.format(tokens=f"{tokens:,}" if tokens else "an unknown number of"),
    }


def row_of(audit: Audit, row: Score) -> list[str]:
    """A configuration's line: drift, time, prompts."""
    drift, time = row.drift, row.time_ratio
    return [
        name_of(audit, row),
        f"{similarity(drift.ssim_mean)} / {similarity(drift.ssim_min)}" if drift else "",
        interval(time) if time else "not timed",
        of_judged(row.prompt_followed) if row.prompt_followed else "not judged",
    ]


def behaviour(audit: Audit) -> dict[str, Any]:
    """What the card tells. Raises ValueError where the audit is not complete."""
    if not audit.complete:
        raise ValueError(f"it is not complete: {audit.runs_done} of {audit.runs_planned} runs")
    here = replace(audit, scores=tuple(row for row in audit.scores if row.available))
    compared = [row for row in here.scores if row.drift and not row.placebo]
    compared.sort(key=lambda row: -row.drift.ssim_mean if row.drift else 0.0)
    return {
        "weights": audit.model_digest,
        "plan": audit.plan,
        "machine": audit.platform.device_name,
        "pictures": f"{audit.width} × {audit.height} px, {audit.num_inference_steps} steps",
        "rows": [row_of(here, row) for row in compared],
        "orders": [judged(here, order) for order in ORDERS],
    }


def text(found: dict[str, Any]) -> str:
    """The findings in Markdown."""
    lines = [
        f"Plan `{found['plan']}` on {found['machine']}, {found['pictures']}. An order holds where "
        "every comparison shows it, by more than half of the pictures or by an interval (95 %), "
        "and does not where one shows the opposite.",
        "",
    ]
    for order in found["orders"]:
        word = order["verdict"]
        lines.append(f"- **{word.capitalize()}:** {order['says']} ({order['source']}).")
        agree, against, undecided = (order[name] for name in ("agree", "against", "open"))
        if compared := len(agree) + len(against) + len(undecided):
            lines.append(
                f"  Comparisons: {compared}, of which {len(agree)} agree, {len(against)} say the "
                f"opposite and {len(undecided)} decide nothing."
            )
        lines += [f"  {sentence}" for sentence in (*against, *undecided)[:MOST]]
        if against:
            lines.append(f"  Why it may be so: {order['why']}")
    head = ["setting", "SSIM mean / worst picture", "time ÷ baseline", "follows its prompt"]
    return "\n".join([*lines, "", figures.table(head, found["rows"])])


def main() -> None:
    """Reads an audit, and says what it shows."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("audit", type=Path, help="what `seedproof audit --json` printed")
    parser.add_argument("--out", type=Path, default=POCKET / "evaluation" / FILE)
    options = parser.parse_args()
    try:
        found = behaviour(read_document(json.loads(options.audit.read_text(encoding="utf-8"))))
    except (OSError, ValueError) as error:
        sys.exit(f"{options.audit}: {error}")
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(found, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    print(text(found))


if __name__ == "__main__":
    main()
