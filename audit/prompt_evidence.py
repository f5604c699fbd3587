"""How many pictures follow their prompts, in words: the same in terminal, report and pages."""

from collections.abc import Iterator

from audit.prompt_followed import PromptFollowed
from audit.score import Audit
from audit.units import counted, percent

HEADING = "Follows its prompt"
CAVEAT = (
    "Prompts: one picture of each prompt and seed, looked at by a small network that lies beside "
    "the model. It says whether all that was asked for is there, nothing about how good it looks."
)
"""What must stand beside any such count."""
NAMED = 3
"""Pictures named in a sentence; the JSON has all."""


def any_judged(audit: Audit) -> bool:
    """Whether there is anything to show."""
    return any(row.prompt_followed for row in audit.scores)


def of_judged(found: PromptFollowed) -> str:
    """`5 of 6`."""
    return f"{found.followed} of {found.of}"


def bounds(found: PromptFollowed) -> str:
    """The interval of the share: `35.9 % to 99.6 %`."""
    low, high = found.ci95
    return f"{percent(low)} to {percent(high)}"


def exchanged(found: PromptFollowed) -> str:
    """What changed against the baseline, empty where nothing did: `1 lost, 0 won`."""
    beside = found.beside_baseline
    if beside is None or not beside.lost + beside.won:
        return ""
    return f"{beside.lost} lost, {beside.won} won"


def sentences(found: PromptFollowed) -> Iterator[str]:
    """The count, the baseline's of the same prompts and seeds, and what is not there."""
    said = (
        "The model's judge sees all that the prompt asks for in "
        f"{found.followed} of {counted(found.of, 'picture')} (95 %: {bounds(found)})"
    )
    if beside := found.beside_baseline:
        said += f"; of the baseline's in {beside.baseline_followed} of {beside.pairs}"
        said += f": {exchanged(found) or 'none lost, none won'}"
    yield f"{said}."
    if lacking := [picture for picture in found.pictures if picture.missing]:
        named = "; ".join(
            f"{' and '.join(picture.missing)} with seed {picture.seed}"
            for picture in lacking[:NAMED]
        )
        more = len(lacking) - NAMED
        yield f"Not seen: {named}{f'; and {more} more' if more > 0 else ''}."
    if found.unread:
        yield (
            f"{counted(found.unread, 'picture')} not judged: their prompts say what the judge does "
            "not know."
        )
