"""This machine in words: what it is, what it cannot run and why, how busy it is, what runs took."""

from collections.abc import Sequence
from html import escape
from statistics import median

from audit.units import counted, gigabytes
from core.bottleneck import PART_NAMES
from core.optimizations import OPTIMIZATIONS, SLOTS, availability
from core.platforms import Platform
from core.remedies import remedy
from core.request import Model
from core.run import Part, Run
from core.workload import Workload
from webapp.usage_card import what_follows
from webapp.usage_plots import (
    MEMORY_SHADES,
    NARROW,
    TIME_SHADES,
    legend,
    memory_bars,
    memory_plot,
    time_bars,
    time_plot,
)
from webapp.utilization import WINDOW, Sample
from webapp.words import seconds, setting, short

NO_RUNS = (
    '<div class="sp-empty" id="no-runs"><h3>No picture was measured yet</h3><p>Every picture keeps '
    "how long each part of the pipeline took and how much memory, so that this page can show them "
    'side by side.</p><p class="sp-actions"><a class="sp-plain" href="./">Make a picture</a></p>'
    "</div>"
)


def facts(platform: Platform, hardware: Sequence[str]) -> str:
    """What `seedproof doctor` says first."""
    threads = counted(platform.threads, "thread")
    rows = (
        ("Device", f"{platform.device_name} ({platform.device})"),
        ("Memory", gigabytes(platform.memory_bytes)),
        (
            "Computes with",
            f"{threads} on {counted(platform.cores, 'core')}, "
            f"{platform.instruction_set} kernels, {platform.dtype} by default",
        ),
        ("System", f"{platform.system}, torch {platform.versions.get('torch', 'unknown')}"),
        ("Fingerprint", platform.fingerprint),
    )
    items = "".join(f"<dt>{name}</dt><dd>{escape(value)}</dd>" for name, value in rows)
    sentences = "".join(f"<li>{escape(sentence)}</li>" for sentence in hardware)
    return (
        '<section class="sp-card" id="what"><h2 class="sp-title">What it is</h2>'
        f'<dl class="sp-facts">{items}</dl><h3 class="sp-title">What that allows</h3>'
        f'<ul class="sp-list">{sentences}</ul></section>'
    )


def missing(platform: Platform) -> str:
    """The options that cannot run here, together where the same thing would help."""
    labels = {slot.name: slot.label for slot in SLOTS}
    groups: dict[tuple[str, str], list[str]] = {}
    for option in OPTIMIZATIONS:
        if why_not := availability(option, platform):
            group = groups.setdefault((why_not, remedy(option, platform)), [])
            group.append(f"{labels[option.slot]}: {option.name}")
    count = sum(len(names) for names in groups.values())
    there = len(OPTIMIZATIONS) - count
    have = f"{there} of {len(OPTIMIZATIONS)} options run here: a real call of each succeeded."
    if not groups:
        rows = ""
    else:
        rows = "".join(
            f"<li><b>{escape(', '.join(names))}</b><span>{escape(_sentence(why_not))} "
            f"{escape(how)}</span></li>"
            for (why_not, how), names in groups.items()
        )
        rows = f'<ul class="sp-losers">{rows}</ul>'
    return (
        '<section class="sp-card" id="missing"><h2 class="sp-title">What is not available, and '
        f'how to get it</h2><p class="sp-hint">{have}</p>{rows}'
        "</section>"
    )


def live(samples: Sequence[Sample], queue: str) -> str:
    """The newest sample, with the two minutes before it as lines."""
    now = samples[-1]
    rows = [
        _meter("Processor", now.cpu_share, _percent(now.cpu_share), _line(samples, "cpu_share")),
        _meter(
            "Memory in use",
            now.memory_bytes / now.memory_total,
            f"{gigabytes(now.memory_bytes)} of {gigabytes(now.memory_total)}",
            "",
        ),
    ]
    if now.gpu_total:
        rows.append(
            _meter("GPU", now.gpu_share, _percent(now.gpu_share), _line(samples, "gpu_share"))
        )
        used = now.gpu_bytes or 0
        rows.append(
            _meter(
                "GPU memory",
                used / now.gpu_total,
                f"{gigabytes(used)} of {gigabytes(now.gpu_total)}",
                "",
            )
        )
    worker = "is not running"
    if now.worker_bytes is not None:
        busy = "" if now.worker_cores is None else f", {now.worker_cores:.1f} cores busy"
        worker = f"holds {gigabytes(now.worker_bytes)}{busy}"
    return (
        f'<div class="sp-meters sp-figures" id="live">{"".join(rows)}</div>'
        f'<p class="sp-hint">The process that makes pictures {worker}. {escape(queue)}</p>'
    )


def queue_words(waiting: int, running: int, audits: bool) -> str:
    said = []
    if running:
        said.append("A picture is being made.")
    if waiting:
        said.append(f"{counted(waiting, 'picture')} wait{'s' if waiting == 1 else ''}.")
    if audits:
        said.append("An audit runs.")
    return " ".join(said) or "Nothing is being made."


def runs_card(runs: Sequence[Run]) -> str:
    """Runs of one workload, the oldest first: time and memory by part, and the bottleneck."""
    if not runs:
        return NO_RUNS
    times, memory = time_bars(runs), memory_bars(runs)
    peaks = ""
    if memory:
        peaks = (
            '<h3 class="sp-title">Peak memory</h3>'
            f"{legend(MEMORY_SHADES)}{memory_plot(memory)}{memory_plot(memory, NARROW)}"
        )
    return (
        f'<div id="runs" data-count="{len(runs)}"><h3 class="sp-title">Time</h3>'
        f"{legend(TIME_SHADES)}{time_plot(times)}{time_plot(times, NARROW)}{peaks}"
        f'{_table(runs)}<h3 class="sp-title">Bottleneck of the latest</h3>'
        f"{what_follows(runs[-1])}</div>"
    )


def workload_name(workload: Workload, platform: Platform, model: Model) -> str:
    """A workload as a line of a list."""
    asked = [
        f"{workload.width} × {workload.height} px",
        f"{counted(workload.num_inference_steps, 'step')} of {workload.sampler}",
    ]
    if workload.schedule != "Automatic":
        asked.append(f"{workload.schedule} schedule")
    if not workload.guided:
        asked.append("no guidance")
    if workload.pictures > 1:
        asked.append(f"{workload.pictures} at a time")
    if workload.chunks > 1:
        asked.append(f"{workload.chunks} chunks of prompt")
    asked.append(workload.configuration or "no settings")
    if workload.threads != platform.threads:
        asked.append(counted(workload.threads, "thread"))
    if workload.model_digest != model.digest:
        asked.append(f"another model ({short(workload.model_digest)})")
    if workload.fingerprint != platform.fingerprint:
        asked.append(f"on platform {workload.fingerprint}")
    return ", ".join(asked)


def _meter(name: str, share: float | None, value: str, line: str) -> str:
    width = 0.0 if share is None else share
    return (
        f'<div class="sp-meter"><span>{name}</span><b>{escape(value)}</b>'
        f'<div class="sp-bar-track" aria-hidden="true"><span style="width:{width:.1%}"></span>'
        f"</div>{line}</div>"
    )


def _line(samples: Sequence[Sample], field: str) -> str:
    """One share over the window; empty before there are two."""
    newest = samples[-1].at
    known = [(s.at, share) for s in samples if (share := getattr(s, field)) is not None]
    if len(known) < 2:
        return ""
    points = " ".join(
        f"{240 * (1 - (newest - at) / WINDOW):.1f},{30 - 28 * share:.1f}" for at, share in known
    )
    return (
        '<svg class="sp-spark" viewBox="0 0 240 32" preserveAspectRatio="none" '
        f'aria-hidden="true"><polyline points="{points}"/></svg>'
    )


def _percent(share: float | None) -> str:
    return "measuring" if share is None else f"{share:.0%}"


def _sentence(reason: str) -> str:
    return f"{reason[:1].upper()}{reason[1:].rstrip('.')}."


def _table(runs: Sequence[Run]) -> str:
    """Medians by part over all the bars, for whoever reads figures."""
    parts: dict[str, list[Part]] = {}
    for run in runs:
        for part in run.usage.parts:
            parts.setdefault(PART_NAMES[part.name], []).append(part)
    wholes = [r.timings.encode + r.timings.picture + r.timings.save for r in runs]
    whole = median(wholes) or 1.0
    rows = "".join(_row(name, found, whole) for name, found in parts.items())
    headings = ("Part", "Time, median", "Share", "Calls", "Memory, highest")
    head = "".join(f'<th scope="col">{heading}</th>' for heading in headings)
    return (
        f'<p class="sp-hint">{counted(len(runs), "run")} of this kind; a run takes '
        f"{seconds(median(wholes))} at the median, loading not counted.</p>"
        '<div class="sp-scroll" tabindex="0" role="region" aria-label="Parts">'
        f'<table class="sp-table" id="parts"><thead><tr>{head}</tr></thead>'
        f"<tbody>{rows}</tbody></table></div>"
    )


def _row(name: str, parts: Sequence[Part], whole: float) -> str:
    middle = median(part.seconds for part in parts)
    peaks = [part.peak_bytes for part in parts if part.peak_bytes is not None]
    cells = (
        setting(name),
        seconds(middle),
        f"{middle / whole:.0%}",
        f"{median(part.calls for part in parts):g}",
        gigabytes(max(peaks)) if peaks else "not told",
    )
    return "<tr>" + "".join(f'<td class="sp-number">{cell}</td>' for cell in cells) + "</tr>"
