"""Whether an audit's pictures follow their prompts, by the judge that lies beside the model."""

from collections.abc import Mapping, Sequence

from audit.pictures import LoadPicture, pixels
from audit.plan import PlannedRun
from audit.prompt_followed import BesideBaseline, JudgedPicture, PromptFollowed
from audit.prompt_judge import PromptJudge, load_judge
from audit.prompt_words import asked
from audit.statistics import mcnemar, share_interval
from audit.trials import Runs, first_pictures
from core.request import Model
from core.run import Picture

UNJUDGED = "Whether pictures follow their prompts was not judged"
NO_JUDGE = "this audit had no judge"
UNREAD = "the judge does not know the words of its prompts"

Missing = tuple[str, ...]


class PromptReader:
    """A judge that opens and judges every picture once, however many rows share its pixels."""

    def __init__(self, judge: PromptJudge, load: LoadPicture) -> None:
        self._judge = judge
        self._load = load
        self._known: dict[tuple[str, str], Missing | None] = {}

    @property
    def sha256(self) -> str:
        return self._judge.weights_sha256

    def missing(self, picture: Picture) -> Missing | None:
        """What of its prompt the picture lacks; None where the judge cannot read the prompt.

        Raises OSError where the file is missing and ValueError where it holds other pixels.
        """
        key = picture.pixels_sha256, picture.request.prompt
        if key not in self._known:
            self._known[key] = self._look(picture)
        return self._known[key]

    def _look(self, picture: Picture) -> Missing | None:
        wanted = asked(picture.request.prompt, self._judge.words)
        if wanted is None:
            return None
        verdicts = self._judge.verdicts(pixels(picture, self._load), wanted)
        return tuple(aspect for aspect, there in verdicts.items() if not there)


def judge_of(model: Model) -> tuple[PromptJudge | None, str]:
    """The judge of a model's pictures, and in one sentence how good it is, or why there is none."""
    try:
        judge = load_judge(model.path)
    except (OSError, ValueError) as error:
        return None, f"{UNJUDGED}: {error}."
    if judge is None:
        return None, f"{UNJUDGED}: this model comes without a judge."
    accepted, refused = judge.accepted, judge.refused
    return judge, (
        "Whether pictures follow their prompts is what this model's judge says. Of renders that "
        f"it never saw it accepts {accepted.right} of {accepted.of} with their own captions, and "
        f"refuses {refused.right} of {refused.of} with captions that are wrong in one respect."
    )


def prompt_followed(
    row: Sequence[PlannedRun],
    baseline: Sequence[PlannedRun],
    runs: Runs,
    reader: PromptReader | None,
) -> tuple[PromptFollowed | None, str, list[str]]:
    """A row's count, why there is none, and which pictures could not be looked at.

    Judged is the first picture of each cluster, the one that drift begins with: further calls of
    the same prompt and seed are no independent pictures.
    """
    if reader is None:
        return None, NO_JUDGE, []
    problems: list[str] = []
    starts = first_pictures(row, runs)
    found = _read(starts, reader, problems)
    judged = {cluster: missing for cluster, missing in found.items() if missing is not None}
    if not judged:
        why = UNREAD if found else problems[0] if problems else "no run of it made a picture"
        return None, why, problems
    followed = sum(not missing for missing in judged.values())
    return (
        PromptFollowed(
            followed=followed,
            of=len(judged),
            ci95=share_interval(followed, len(judged)),
            unread=len(found) - len(judged),
            judge_sha256=reader.sha256,
            beside_baseline=None
            if row is baseline
            else _beside(judged, _read(first_pictures(baseline, runs), reader, [])),
            pictures=tuple(
                JudgedPicture(
                    prompt=starts[cluster].request.prompt,
                    seed=starts[cluster].request.seed,
                    pixels_sha256=starts[cluster].pixels_sha256,
                    missing=missing,
                )
                for cluster, missing in judged.items()
            ),
        ),
        "",
        problems,
    )


def _read(
    starts: Mapping[int, Picture], reader: PromptReader, problems: list[str]
) -> dict[int, Missing | None]:
    """What each cluster's picture lacks; those that cannot be opened are added to the problems."""
    found: dict[int, Missing | None] = {}
    for cluster, picture in starts.items():
        try:
            found[cluster] = reader.missing(picture)
        except (OSError, ValueError) as error:
            problems.append(f"a picture of seed {picture.request.seed} not judged: {error}")
    return found


def _beside(
    here: Mapping[int, Missing], there: Mapping[int, Missing | None]
) -> BesideBaseline | None:
    """Both rows on the clusters that were judged in both."""
    pairs = [
        (not missing, not theirs)
        for cluster, missing in here.items()
        if (theirs := there.get(cluster)) is not None
    ]
    if not pairs:
        return None
    lost = sum(base and not ours for ours, base in pairs)
    won = sum(ours and not base for ours, base in pairs)
    return BesideBaseline(
        pairs=len(pairs),
        baseline_followed=sum(base for _, base in pairs),
        lost=lost,
        won=won,
        mcnemar_p=mcnemar(lost, won),
    )
