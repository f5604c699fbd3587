"""The model under measurement, and the pictures it has made so far."""

from __future__ import annotations

import hashlib
from pathlib import Path

from PIL import Image
from scenes import NATIVE, Size

from core.diffusion import DiffusersEngine
from core.models import resolve
from core.optimizations import configure
from core.platforms import detect
from core.request import Conditions, Following, Job, Request

STEPS, GUIDANCE = 20, 5.0
BATCH = 6
"""Pictures per job. The batch's size moves the last bits, so that what is compared bit by bit has
to be made in the same batches."""


class Subject:
    """A model, drawn with by the product's own engine in its default configuration: by test the
    bits of diffusers' pipeline. Pictures are kept under the digest of its weights, so that a run
    that was stopped goes on, and none is taken for another model's."""

    def __init__(self, pocket: Path, work: Path) -> None:
        self.model = resolve(str(pocket), pocket)
        self.folder = work / "pictures" / self.model.digest[:16]
        self.platform = detect()
        self.engine = DiffusersEngine(self.platform, self.folder)

    def pictures(
        self,
        arm: str,
        prompts: list[str],
        seeds: list[int],
        steps: int = STEPS,
        size: Size = NATIVE,
        negative: list[str] | None = None,
        nudge: int | None = None,
    ) -> list[Image.Image]:
        """One picture per prompt and seed, in batches of BATCH, for a person under the name `arm`.

        `nudge` moves that element of each picture's initial latents up by one unit in the last
        place. Raises RuntimeError with the reason where a batch cannot be made.
        """
        requests = [
            Request(
                prompt=prompt,
                model=self.model,
                negative_prompt=without,
                seed=seed,
                width=size[0],
                height=size[1],
                num_inference_steps=steps,
                guidance_scale=GUIDANCE,
            )
            for prompt, seed, without in zip(
                prompts, seeds, negative or [""] * len(prompts), strict=True
            )
        ]
        # All that is asked for is in the name: another list must not find this one's pictures.
        text = repr([(r.prompt, r.negative_prompt, r.seed, r.guidance_scale) for r in requests])
        asked = hashlib.sha256(f"{text} {nudge}".encode()).hexdigest()[:8]
        folder = self.folder / f"{arm}-{steps}-{size[0]}x{size[1]}-{asked}"
        folder.mkdir(parents=True, exist_ok=True)
        paths = [folder / f"{index:03}.png" for index in range(len(prompts))]
        for start in range(0, len(paths), BATCH):
            part = slice(start, start + BATCH)
            if not all(path.exists() for path in paths[part]):
                self.make(requests[part], paths[part], nudge)
                print(
                    f"{folder.name}: {min(start + BATCH, len(paths))} of {len(paths)}", flush=True
                )
        return [Image.open(path).convert("RGB") for path in paths]

    def make(self, requests: list[Request], paths: list[Path], nudge: int | None) -> None:
        """One batch; a picture comes to its path in one move, so that half a file never counts."""
        job = Job(
            id=paths[0].stem,
            requests=tuple(requests),
            configuration=configure({}, self.platform),
            conditions=Conditions(nudge=nudge),
            capture_steps=False,
        )
        run = self.engine.run(job, Following())
        if run.outcome != "ok":
            raise RuntimeError(run.reason)
        for picture, path in zip(run.pictures, paths, strict=True):
            assert picture.path is not None
            picture.path.replace(path)
