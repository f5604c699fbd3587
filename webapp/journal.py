"""What happened, a line of JSON each, for a server's log. No prompt and no picture is in it."""

import json
import sys
from datetime import UTC, datetime
from typing import TextIO

from webapp.ticket import Ticket


class Journal:
    """Writes a line when a job ends. `owner` is an account, or the digest of a secret."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = stream or sys.stderr

    def closed(self, ticket: Ticket) -> None:
        first = ticket.job.requests[0]
        self.write(
            "job",
            job=ticket.job.id,
            owner=ticket.owner,
            outcome=ticket.state,
            reason=ticket.reason,
            waited_seconds=round(ticket.waited, 3),
            seconds=round(ticket.seconds, 3),
            attempt=1 if ticket.run is None else ticket.run.attempt,
            pictures=len(ticket.job.requests),
            width=first.width,
            height=first.height,
            num_inference_steps=first.num_inference_steps,
            configuration=ticket.job.configuration.key,
        )

    def write(self, event: str, **fields: object) -> None:
        line = {"time": datetime.now(UTC).isoformat(timespec="milliseconds"), "event": event}
        # In one piece: print writes the line's end by itself, and other threads tell as well.
        self._stream.write(f"{json.dumps({**line, **fields})}\n")
        self._stream.flush()
