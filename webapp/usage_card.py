"""Where the time and memory of a run went, and what follows: on the page and in a terminal."""

from html import escape

from audit.units import gigabytes
from core.bottleneck import PART_NAMES, bottlenecks, cores_busy
from core.run import Part, Run
from webapp.words import seconds


def parts(run: Run) -> str:
    """A line for each part, as a list; empty for a run that did not measure them."""
    told = [_part(part) for part in run.usage.parts]
    if busy := _busy(run):
        told.append(busy)
    items = "".join(f"<li>{escape(line)}</li>" for line in told)
    return f'<ul class="sp-list sp-figures">{items}</ul>' if items else ""


def what_follows(run: Run) -> str:
    found = (f"<p>{escape(b.sentence)} {escape(b.hint)}</p>" for b in bottlenecks(run))
    return "".join(found)


def lines(run: Run) -> tuple[str, ...]:
    """The same as plain lines."""
    told = [_part(part) for part in run.usage.parts]
    if busy := _busy(run):
        told.append(busy)
    return (*told, *(f"{b.sentence} {b.hint}".strip() for b in bottlenecks(run)))


def _part(part: Part) -> str:
    calls = "" if part.calls == 1 else f" in {part.calls} calls"
    peak = "" if part.peak_bytes is None else f", peak {gigabytes(part.peak_bytes)}"
    busy = cores_busy(part)
    cores = "" if busy is None else f", {busy:.1f} cores busy"
    return f"{PART_NAMES[part.name]} {seconds(part.seconds)}{calls}{cores}{peak}"


def _busy(run: Run) -> str:
    """How busy the device was over the whole run."""
    usage = run.usage
    if usage.gpu_percent is not None:
        return f"the GPU was busy {usage.gpu_percent:.0f} % of the time, other programs included"
    if not usage.seconds:
        return ""
    return f"whole run {seconds(usage.seconds)}, {usage.cpu_seconds / usage.seconds:.1f} cores busy"
