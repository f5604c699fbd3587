"""What the pages work with: made once at the entry point, and handed down."""

from dataclasses import dataclass
from pathlib import Path

from core.platforms import Platform
from core.request import Model
from core.store import Store
from webapp.audits import Audits
from webapp.findings import Findings
from webapp.grids import Grids
from webapp.jobs import JobQueue
from webapp.metrics import Metrics
from webapp.policy import OWN, Policy


@dataclass(frozen=True, kw_only=True)
class Services:
    """Everything below this reads neither the environment nor a global path."""

    platform: Platform
    model: Model
    store: Store
    jobs: JobQueue
    grids: Grids
    audits: Audits
    findings: Findings
    plans: Path
    """The folder of plan files."""
    reports: Path
    """Where reports are written before they are handed to a browser."""
    examples: tuple[str, ...] = ()
    """Prompts that this model can draw."""
    policy: Policy = OWN
    metrics: Metrics | None = None
    """What `/metrics` shows; None where nothing counts."""
