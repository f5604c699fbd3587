"""What is not the same between a picture's receipt and a rerun of it: the possible causes."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from core.platforms import Platform
from core.receipt import PROGRAM, Receipt
from core.run import Run, SlotEffect


@dataclass(frozen=True, kw_only=True)
class Difference:
    """One fact, as it was when the picture was made and as it is in the rerun."""

    what: str
    then: str
    here: str

    @property
    def sentence(self) -> str:
        return f"{self.what}: {self.then} when the picture was made, {self.here} here."


def differences(receipt: Receipt, run: Run, platform: Platform) -> tuple[Difference, ...]:
    """Everything that a receipt records and that is otherwise in the rerun, likely causes first."""
    then, here = receipt.environment, run.environment
    facts = (
        ("model", receipt.request.model.digest[:12], run.job.requests[0].model.digest[:12]),
        ("batch", *_batches(receipt, run)),
        ("device", then.device, here.device),
        ("device name", receipt.device_name, platform.device_name),
        ("instruction set", then.instruction_set, here.instruction_set),
        ("threads", str(then.threads), str(here.threads)),
        *_versions(then.versions, here.versions),
        ("program", receipt.program, PROGRAM),
        ("system", receipt.system, platform.system),
        *_effects(receipt, run),
        ("process", _came(then.process), _came(here.process)),
        ("jobs done before in the process", str(then.calls_before), str(here.calls_before)),
    )
    return tuple(
        Difference(what=what, then=before[:80] or "not recorded", here=now[:80] or "unknown")
        for what, before, now in facts
        if before != now
    )


def _batches(receipt: Receipt, run: Run) -> tuple[str, str]:
    """Whether the same pictures were computed together; their paths do not count."""
    made = [(*_words(request), request.seed) for request in receipt.requests]
    again = [(*_words(request), request.seed) for request in run.job.requests]
    if made == again:
        return "", ""
    if len(made) != len(again):
        return f"{len(made)} together", f"{len(again)} together"
    return "with its neighbours", "with other neighbours"


def _words(request: object) -> tuple[object, ...]:
    names = ("prompt", "negative_prompt", "width", "height")
    return tuple(getattr(request, name) for name in names)


def _versions(then: Mapping[str, str], here: Mapping[str, str]) -> Iterator[tuple[str, str, str]]:
    """torch first, because it computes the pixels."""
    for name in sorted({*then, *here}, key=lambda name: (name != "torch", name)):
        yield name, then.get(name, "not installed"), here.get(name, "not installed")


def _effects(receipt: Receipt, run: Run) -> Iterator[tuple[str, str, str]]:
    """Settings that acted otherwise, by their own counts."""
    for made in receipt.effective.slots:
        again = run.effective.slot(made.slot)
        if again is not None and _acted(made) != _acted(again):
            yield f"what {made.slot}={made.requested} did", *_told(made, again)


def _acted(effect: SlotEffect) -> tuple[object, ...]:
    return effect.effect, effect.counts, effect.operators, effect.weights_sha256


def _told(made: SlotEffect, again: SlotEffect) -> tuple[str, str]:
    if made.effect != again.effect:
        return made.effect, again.effect
    if made.weights_sha256 != again.weights_sha256:
        return _weights(made), _weights(again)
    for then, here in ((made.operators, again.operators), (made.counts, again.counts)):
        for name in sorted({*then, *here}):
            if then.get(name, 0) != here.get(name, 0):
                return f"{name} × {then.get(name, 0):g}", f"{name} × {here.get(name, 0):g}"
    return made.effect, again.effect


def _weights(effect: SlotEffect) -> str:
    return f"weights {effect.weights_sha256[:12] or 'that were not recorded'}"


def _came(process: str) -> str:
    return {"same": "this one", "forked": "forked", "exec": "exec'd"}.get(process, process)
