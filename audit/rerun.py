"""From a receipt to the job that makes its picture again, as far as this machine can."""

import uuid
from collections.abc import Sequence
from dataclasses import replace

from core.instruction_sets import smaller
from core.models import check
from core.optimization import Configuration
from core.optimizations import availability, chosen, configure
from core.platforms import Platform
from core.receipt import Receipt
from core.request import Conditions, Job, Model

_THREADS_PER_CORE = 4
"""More threads than this for a core are not started: on small machines they would hardly end."""


def rerun_job(receipt: Receipt, models: Sequence[Model], platform: Platform) -> Job:
    """The same batch under the same configuration and conditions, on the model of that digest.

    Raises ValueError with one sentence where the model is none of `models`, or where a setting
    does not exist or cannot run here.
    """
    model = _model(receipt, models)
    requests = tuple(replace(request, model=model) for request in receipt.requests)
    for request in requests:
        check(request)
    return Job(
        id=uuid.uuid4().hex,
        requests=requests,
        configuration=_configuration(receipt, platform, model),
        conditions=_conditions(receipt, platform),
    )


def _model(receipt: Receipt, models: Sequence[Model]) -> Model:
    wanted = receipt.request.model
    for model in models:
        if model.digest == wanted.digest:
            return model
    known = " and ".join(f"{model.name} is {model.digest[:12]}…" for model in models)
    raise ValueError(
        f"The picture was made with a model called {wanted.name[:80]!r} whose digest is "
        f"{wanted.digest[:64]}, and that is not here ({known}): give its folder with --model."
    )


def _configuration(receipt: Receipt, platform: Platform, model: Model) -> Configuration:
    settings = receipt.configuration.as_dict()
    full = configure(settings, platform)
    for option, _ in chosen(full):
        why_not = availability(option, platform, model.path)
        if option.slot in settings and why_not:
            raise ValueError(
                f"The picture was made with {option.slot}={settings[option.slot]}, which cannot "
                f"run here: {why_not}."
            )
    return Configuration(tuple((slot, value) for slot, value in full if slot in settings))


def _conditions(receipt: Receipt, platform: Platform) -> Conditions:
    """A process of the same kind, with as many threads where this machine has the cores, and
    limited to the picture's instruction set where that is a smaller one.

    Threads that are the platform's own number are left alone, as they were when the picture was
    made: to set a number and to leave it are not the same to every library.
    """
    made = receipt.environment
    threads: int | None = receipt.conditions.threads or made.threads
    if threads and threads > _THREADS_PER_CORE * platform.cores:
        threads = None
    if threads == platform.threads and receipt.conditions.threads is None:
        threads = None
    limited = receipt.conditions.instruction_set
    if limited is None and made.instruction_set in smaller(platform.instruction_set):
        limited = made.instruction_set
    if limited not in (*smaller(platform.instruction_set), None):
        limited = None
    return replace(
        receipt.conditions,
        threads=threads or None,
        instruction_set=limited,
        generator_seed=made.generator_seed,
        process="forked" if made.process == "forked" and limited is None else "exec",
    )
