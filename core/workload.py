"""What decides how long a run takes here: runs of one workload may be compared, days apart too."""

from dataclasses import dataclass

from core.run import Run


@dataclass(frozen=True, kw_only=True)
class Workload:
    """Everything about a run that its time and memory depend on, apart from the moment."""

    fingerprint: str
    """The platform's."""
    model_digest: str
    configuration: str
    """`Configuration.key`."""
    width: int
    height: int
    num_inference_steps: int
    sampler: str
    schedule: str
    guided: bool
    """Guidance doubles the rows of the UNet's calls."""
    pictures: int
    """Computed together."""
    chunks: int
    """Of prompt tokens that the UNet was given; 0 where it was not told."""
    threads: int


def workload_of(run: Run) -> Workload:
    asked = run.job.requests[0]
    prompts = run.effective.prompts
    return Workload(
        fingerprint=run.environment.fingerprint,
        model_digest=asked.model.digest,
        configuration=run.job.configuration.key,
        width=asked.width,
        height=asked.height,
        num_inference_steps=asked.num_inference_steps,
        sampler=asked.sampler,
        schedule=asked.schedule,
        guided=asked.guidance_scale > 1,
        pictures=len(run.job.requests),
        chunks=prompts[0].padded_to if prompts else 0,
        threads=run.environment.threads,
    )


def picture_seconds(run: Run) -> float:
    """Wall seconds per picture, denoising and decoding; previews, which only the app makes, are
    taken off."""
    preview = run.usage.part("preview")
    return (run.timings.picture - (preview.seconds if preview else 0.0)) / len(run.job.requests)
