"""What a program may do with jobs of its own: ask, look, list, cancel, fetch. Of nobody else's."""

from dataclasses import dataclass, field
from pathlib import Path

from webapp import job_document
from webapp.idempotency import LONGEST, IdempotencyKeys, KeyReused
from webapp.job_document import JobDocument
from webapp.jobs import QueueFull, Stopping
from webapp.order import Order, job_of
from webapp.services import Services


class Refused(Exception):
    """What is not done, as a status of HTTP and one sentence for each reason."""

    def __init__(self, status: int, *sentences: str) -> None:
        super().__init__(" ".join(sentences))
        self.status = status
        self.sentences = sentences


@dataclass(frozen=True, kw_only=True)
class OwnJobs:
    """Everything takes the owner and raises Refused; another's job is as one that is not there.

    `address` is where jobs are, for the links to their pictures.
    """

    services: Services
    address: str
    keys: IdempotencyKeys = field(default_factory=IdempotencyKeys)

    def ask(self, order: Order, owner: str) -> JobDocument:
        """Put a job into the queue. Tries its settings on the device before."""
        try:
            job = job_of(order, self.services)
            ticket = self.services.jobs.submit(job, owner)
        except ValueError as error:
            raise Refused(422, str(error)) from None
        except Stopping as error:
            raise Refused(503, str(error)) from None
        except QueueFull as error:
            raise Refused(429, str(error)) from None
        return job_document.of_ticket(ticket, self._images(job.id))

    def ask_once(self, order: Order, owner: str, key: str, body: bytes) -> tuple[JobDocument, bool]:
        """The same for a request that may be sent again; False where it was."""
        if len(key) > LONGEST:
            raise Refused(422, f"An Idempotency-Key has at most {LONGEST} characters.")
        try:
            job_id, new = self.keys.once(owner, key, body, lambda: self.ask(order, owner).id)
        except KeyReused as error:
            raise Refused(409, str(error)) from None
        return self.look(job_id, owner), new

    def look(self, job_id: str, owner: str) -> JobDocument:
        ticket = self.services.jobs.look(job_id)
        if ticket is not None and ticket.owner == owner:
            return job_document.of_ticket(ticket, self._images(job_id))
        store = self.services.store
        if ticket is None and store.owner(job_id) == owner and (run := store.generation(job_id)):
            return job_document.of_run(run, self._images(job_id))
        raise Refused(404, "You have no such job.")

    def every(self, owner: str, limit: int, skip: int) -> list[JobDocument]:
        """Those in the queue, then pictures from before, both the latest first."""
        now = [
            job_document.of_ticket(ticket, self._images(ticket.job.id))
            for ticket in self.services.jobs.of(owner)
        ]
        known = {job.id for job in now}
        kept = self.services.store.history(owner, limit=skip + limit + len(now)).generations
        before = [
            job_document.of_run(one.run, self._images(one.run.job.id))
            for one in kept
            if one.run.job.id not in known
        ]
        return (now + before)[skip : skip + limit]

    def cancel(self, job_id: str, owner: str) -> JobDocument:
        """Stop a job before its next step; one that has ended stays as it is."""
        self.look(job_id, owner)
        self.services.jobs.cancel(job_id, owner)
        return self.look(job_id, owner)

    def picture(self, job_id: str, owner: str, number: int) -> Path:
        """A picture's file."""
        job = self.look(job_id, owner)
        if job.state in ("waiting", "running"):
            raise Refused(409, "The pictures are not made yet: ask again when the state is ok.")
        if not job.images or not 0 <= number < len(job.images):
            had = len(job.images or ())
            raise Refused(404, f"This job has {had} pictures, counted from 0, and no {number}.")
        ticket = self.services.jobs.look(job_id)
        run = self.services.store.generation(job_id) if ticket is None else ticket.run
        path = run.pictures[number].path if run else None
        if path is None or not path.is_file():
            raise Refused(404, "The file of this picture is no longer there.")
        return path

    def _images(self, job_id: str) -> str:
        return f"{self.address}/{job_id}/images"
