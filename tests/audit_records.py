"""Hand-built audits: planned runs, runs and small pictures kept in memory."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from audit.metrics import Rgb
from audit.plan import Plan, PlannedRun, Role
from audit.score import (
    Audit,
    Axis,
    AxisVerdict,
    Determinism,
    Drift,
    DriftVerdict,
    Score,
    TimeRatio,
)
from audit.scoring import score
from core.optimization import Configuration
from core.platforms import Platform
from core.request import Conditions, Job, Model, ProcessKind, Request
from core.run import (
    Effect,
    Effective,
    Environment,
    Memory,
    Outcome,
    Picture,
    Run,
    SlotEffect,
    Timings,
)

MODEL = Model(name="made up", path=Path("nowhere"), digest="d" * 64)
PLATFORM = Platform(
    device="cpu",
    device_name="a made-up CPU",
    memory_bytes=16 * 10**9,
    cores=2,
    threads=2,
    instruction_set="AVX2",
    system="Linux x86_64",
    versions={"torch": "2.13.0"},
)
BASELINE = Configuration((("attention", "sdp"),))
STEPS = 4


def configuration(**slots: str) -> Configuration:
    """The baseline with some slots changed."""
    changed = {slot.replace("_", "-"): value for slot, value in slots.items()}
    return Configuration(tuple(sorted({**BASELINE.as_dict(), **changed}.items())))


def request(cluster: int) -> Request:
    return Request(
        prompt=f"prompt {cluster}",
        model=MODEL,
        seed=100 + cluster,
        width=48,
        height=32,
        num_inference_steps=STEPS,
    )


def scene(seed: int) -> Rgb:
    """Smooth colours with structure, 32 × 48, away from 0 and 255."""
    y, x = np.mgrid[0:32, 0:48]
    rng = np.random.default_rng(seed)
    waves = [
        np.sin(x / rng.uniform(3, 9) + rng.uniform(0, 6)) * np.cos(y / rng.uniform(3, 9))
        for _ in range(3)
    ]
    return np.asarray(128 + 90 * np.stack(waves, axis=-1), dtype=np.uint8)


def digest(*facts: object) -> str:
    return hashlib.sha256(repr(facts).encode()).hexdigest()


@dataclass
class Records:
    """Collects planned runs and their runs; `audit()` scores them."""

    clusters: int = 6
    planned: list[PlannedRun] = field(default_factory=list)
    runs: dict[str, Run] = field(default_factory=dict)
    files: dict[Path, Rgb] = field(default_factory=dict)

    def load(self, path: Path) -> Rgb:
        if path not in self.files:
            raise FileNotFoundError(str(path))
        return self.files[path]

    def picture(self, asked: Request, array: Rgb, differs_from: int | None = None) -> Picture:
        """`differs_from`: the step (from 1, 0 for the noise) from which digests are its own."""
        pixels = hashlib.sha256(array.tobytes()).hexdigest()
        path = Path(f"{pixels}.png")
        self.files[path] = array
        own = STEPS + 1 if differs_from is None else differs_from
        return Picture(
            request=asked,
            noise_sha256=digest("noise", asked.seed, pixels if own == 0 else ""),
            latents_sha256=digest("latents", asked.seed, pixels),
            pixels_sha256=pixels,
            step_sha256s=tuple(
                digest(asked.seed, step, pixels if step >= own else "")
                for step in range(1, STEPS + 1)
            ),
            path=path,
        )

    def add(
        self,
        role: Role,
        chosen: Configuration,
        cluster: int,
        label: str,
        arrays: Sequence[Rgb],
        *,
        requests: Sequence[Request] | None = None,
        placebo: bool = False,
        repeat: int = 0,
        block: int | None = None,
        differs_from: int | None = None,
        seconds: float = 1.0,
        outcome: Outcome = "ok",
        effect: Effect = "applied",
        peak: int | None = 10**9,
        process: ProcessKind = "forked",
        **environment: Any,
    ) -> PlannedRun:
        """One run; `label` names its process, really too unless `process_id` says otherwise."""
        asked = tuple(requests or (request(cluster),))
        group = label
        label = f"{chosen.key}{' placebo' if placebo else ''}/{label}"
        identity = digest(role, chosen.key, placebo, cluster, label, repeat, block)
        job = Job(
            id=identity,
            requests=asked,
            configuration=chosen,
            conditions=Conditions(process=process),
        )
        planned = PlannedRun(
            identity=identity,
            role=role,
            configuration=chosen,
            placebo=placebo,
            cluster=cluster,
            process=label,
            group=group if role == "timing" else label,
            repeat=repeat,
            block=block,
            job=job,
        )
        self.planned.append(planned)
        pictures = tuple(
            self.picture(one, array, differs_from) for one, array in zip(asked, arrays, strict=True)
        )
        facts: dict[str, Any] = {
            "fingerprint": PLATFORM.fingerprint,
            "device": "cpu",
            "threads": 2,
            "instruction_set": "AVX2",
            "process": process,
            "process_id": label,
            "calls_before": repeat,
            "versions": {},
            "started_at": "2026-01-01T00:00:00+00:00",
            **environment,
        }
        self.runs[identity] = Run(
            job=job,
            outcome=outcome,
            environment=Environment(**facts),
            pictures=pictures if outcome == "ok" else (),
            effective=Effective(
                slots=tuple(
                    SlotEffect(slot=slot, requested=value, effect=effect, reason="a reason")
                    for slot, value in chosen
                )
            ),
            timings=Timings(load=50, denoise=0.9 * seconds, decode=0.1 * seconds, save=9),
            memory=Memory(peak_bytes=peak, kind="made up"),
            reason="" if outcome == "ok" else f"it {outcome}",
        )
        return planned

    def row(
        self,
        chosen: Configuration = BASELINE,
        *,
        levels: int = 0,
        placebo: bool = False,
        seconds: float = 1.0,
        blocks: int = 8,
        **facts: Any,
    ) -> None:
        """A row that repeats: a/0, a/1, b/0 per cluster and one timed picture per block."""
        for cluster in range(self.clusters):
            array = scene(cluster) + np.uint8(levels)
            for label, repeat in (("a", 0), ("a", 1), ("b", 0)):
                kind: ProcessKind = "exec" if (label, cluster) == ("b", 0) else "forked"
                self.add(
                    "determinism",
                    chosen,
                    cluster,
                    f"{cluster}/{label}",
                    [array],
                    placebo=placebo,
                    repeat=repeat,
                    process=kind,
                    **facts,
                )
        for block in range(blocks + 1 if blocks else 0):
            cluster = block % self.clusters
            wobble = 1 + 0.004 * ((block * 7 + len(chosen.key)) % 5 - 2)
            self.add(
                "timing",
                chosen,
                cluster,
                "timing 0.0",
                [scene(cluster) + np.uint8(levels)],
                placebo=placebo,
                block=block,
                seconds=seconds * wobble * (10 if block == 0 else 1),
                calls_before=block,
                **facts,
            )

    def find(self, role: Role, chosen: Configuration = BASELINE, **facts: Any) -> PlannedRun:
        """The one planned run with these facts; `label` is the end of its own."""
        end = facts.pop("label", "")
        facts.setdefault("placebo", False)
        (found,) = [
            entry
            for entry in self.planned
            if entry.role == role
            and entry.configuration == chosen
            and entry.process.endswith(end)
            and all(getattr(entry, name) == value for name, value in facts.items())
        ]
        return found

    def change(self, entry: PlannedRun, **facts: Any) -> None:
        """Replace fields of a run; those of its environment by name."""
        run = self.runs[entry.identity]
        inside = {k: facts.pop(k) for k in list(facts) if hasattr(run.environment, k)}
        self.runs[entry.identity] = replace(
            run, environment=replace(run.environment, **inside), **facts
        )

    def disturb(self, entry: PlannedRun, levels: int = 20, differs_from: int | None = 2) -> None:
        """Give a run's first picture other bits."""
        run = self.runs[entry.identity]
        array = self.load(run.pictures[0].path or Path()) + np.uint8(levels)
        first = self.picture(run.pictures[0].request, array, differs_from)
        self.change(entry, pictures=(first, *run.pictures[1:]))

    def plan(self, *candidates: Configuration, **facts: Any) -> Plan:
        return Plan(
            name="by hand",
            baseline=BASELINE,
            candidates=candidates,
            requests=tuple(request(cluster) for cluster in range(self.clusters)),
            **facts,
        )

    def audit(self, *candidates: Configuration, **facts: Any) -> Audit:
        return score(
            self.plan(*candidates, **facts),
            self.planned,
            self.runs,
            PLATFORM,
            load_picture=self.load,
            audit_id="audit-1",
            started_at="2026-01-01T00:00:00+00:00",
            seconds=12.0,
        )


def made_score(
    chosen: Configuration = BASELINE,
    *,
    verdict: DriftVerdict = "bit-exact",
    ratio: float = 1.0,
    width: float = 0.005,
    pairs: int = 12,
    word: Determinism = "held",
    trials: int = 6,
    broken: Axis | None = None,
    **facts: Any,
) -> Score:
    """A row as scoring would make it, straight from its figures."""
    held = AxisVerdict(verdict=word, trials=trials, p_upper95=0.393)
    determinism: dict[Axis, AxisVerdict] = {"same-process": held, "fresh-process": held}
    if broken:
        determinism[broken] = AxisVerdict(verdict="broken", trials=6, failures=2, p_upper95=0.73)
    exact = verdict == "bit-exact"
    interval = (1.0, 1.0) if chosen == BASELINE else (ratio * (1 - width), ratio * (1 + width))
    values: dict[str, Any] = {
        "configuration": chosen,
        "key": chosen.key,
        "effect": "applied",
        "effective": Effective(
            slots=tuple(
                SlotEffect(slot=slot, requested=value, effect="applied") for slot, value in chosen
            )
        ),
        "determinism": determinism,
        "drift": Drift(
            verdict=verdict,
            not_attributable=False,
            ssim_mean=1.0 if exact else 0.97,
            ssim_min=1.0 if exact else 0.96,
            ssim_worst_tile=1.0 if exact else 0.85,
            delta_e_mean=0.0 if exact else 0.4,
            delta_e_worst_tile=0.0 if exact else 2.1,
            phash_max=0 if exact else 2,
            max_abs=0 if exact else 12,
            pictures=(),
        ),
        "time_ratio": TimeRatio(median=ratio, ci95=interval, pairs=pairs),
        "seconds_median": ratio,
        "peak_memory_bytes": 10**9,
        "memory_kind": "made up",
        "runs": 30,
        **facts,
    }
    return Score(**values)
