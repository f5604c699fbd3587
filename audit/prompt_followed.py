"""In how many of a row's pictures a model's judge sees what their prompts ask for."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class JudgedPicture:
    """One picture, and what of its prompt is not there."""

    prompt: str
    seed: int
    pixels_sha256: str
    missing: tuple[str, ...]
    """Aspects (`audit.prompt_judge.Aspect`) that the prompt asks for and the judge does not see;
    empty where the picture follows its prompt."""


@dataclass(frozen=True, kw_only=True)
class BesideBaseline:
    """The same prompts and seeds in both rows, picture by picture."""

    pairs: int
    baseline_followed: int
    lost: int
    """Pictures that do not follow their prompt where the baseline's does."""
    won: int
    """Pictures that follow it where the baseline's does not."""
    mcnemar_p: float
    """How often chance alone makes lost and won differ so much (`audit.statistics.mcnemar`)."""


@dataclass(frozen=True, kw_only=True)
class PromptFollowed:
    """One picture of each prompt and seed, so that the pictures are independent: the first one."""

    followed: int
    """Pictures in which the judge sees all that the prompt asks for."""
    of: int
    """Pictures that were judged."""
    ci95: tuple[float, float]
    """Shares that the count does not contradict, two-sided (Clopper-Pearson)."""
    unread: int
    """Pictures left out because their prompt says something that the judge does not know."""
    judge_sha256: str
    """The digest of the judge's weights."""
    beside_baseline: BesideBaseline | None
    """None for the baseline itself, and where no picture has one to stand beside."""
    pictures: tuple[JudgedPicture, ...]
