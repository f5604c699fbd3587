"""What the pages work with: made once at the entry point, and handed down."""

from dataclasses import dataclass
from pathlib import Path

from core.history import NOBODY, Generation
from core.platforms import Platform
from core.request import Model
from core.store import Store
from core.worker import WorkerEngine
from webapp import visitors
from webapp.audits import Audits
from webapp.findings import Findings
from webapp.grids import Grids
from webapp.guard import Rules
from webapp.identity import Asked, Identity, visitor
from webapp.jobs import JobQueue
from webapp.metrics import Metrics
from webapp.policy import OWN, Policy
from webapp.shadow import Shadow


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
    shadow: Shadow | None = None
    """Reruns pictures with the baseline's settings; None where the machine is left in peace."""
    metrics: Metrics | None = None
    """What `/metrics` shows; None where nothing counts."""
    worker: WorkerEngine | None = None
    """The process that makes pictures; None where they are made otherwise."""
    rules: Rules | None = None
    """Who may come in and see what; None without accounts."""

    def asker(self, request: Asked, secret: object) -> Identity:
        """Who sent an event: by the server's own knowledge where there are accounts, else by the
        secret that the browser sends. Raises PermissionError where nobody is signed in any more."""
        if self.rules is None:
            return visitor(secret)
        found = self.rules.identify(request)
        if found is None:
            raise PermissionError("You are signed out: reload the page to sign in.")
        return found

    def program(self, request: Asked) -> str:
        """Whose a program's request is, see `webapp.rest`: its account's where there are accounts,
        else of its bearer token; nobody's where it does not say."""
        if self.rules is None:
            return visitors.bearer(request.headers.get("authorization"))
        found = self.rules.identify(request)
        return NOBODY if found is None else found.owner

    def generation(self, job_id: str, asker: Identity) -> Generation | None:
        """A stored picture of no audit, where it is for who asks: one that the asker sees, or one
        that is shared. None for all others, as if they were not there."""
        found = self.store.kept(job_id)
        return found if found and (found.shared or asker.sees(found.owner)) else None

    def give(self, file: Path, owner: str) -> None:
        """Let a file that was made for `owner` be fetched by nobody else, where there are accounts;
        elsewhere its name is the secret."""
        if self.rules is not None:
            self.rules.holdings.give(str(file.resolve()), owner)
