"""The body of one of Gradio's events, read before Gradio does: whose session, and which files."""

import json
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from typing import Any

from starlette.requests import Request
from starlette.types import Message, Receive

MOST_BYTES = 4_000_000
"""Of one event's values; files are not among them."""


@dataclass(frozen=True)
class Named:
    """What an event names. A name that stands twice counts twice: which one would be read later
    is not ours to guess."""

    sessions: list[str]
    files: list[str]


def named(body: bytes) -> Named | None:
    """None where it is no event: no object, no text where text belongs, nested without end."""
    try:
        read = json.loads(body, object_pairs_hook=list)
        sessions = [value for name, value in read if name == "session_hash"]
        files = [value for name, value in _pairs(read) if name == "path" and value is not None]
    except (ValueError, TypeError, RecursionError):
        return None
    if not all(isinstance(one, str) for one in (*sessions, *files)):
        return None
    return Named(sessions, files)


async def whole(request: Request) -> bytes | None:
    """The body; None where it is too long to be an event of ours."""
    parts, length = [], 0
    async for chunk in request.stream():
        parts.append(chunk)
        length += len(chunk)
        if length > MOST_BYTES:
            return None
    return b"".join(parts)


def again(body: bytes, receive: Receive) -> Receive:
    """A body that was read already, once more; then whatever comes after it."""
    left = _once({"type": "http.request", "body": body})

    async def receiving() -> Message:
        return await anext(left, None) or await receive()

    return receiving


async def _once(message: Message) -> AsyncIterator[Message]:
    yield message


def _pairs(value: Any) -> Iterator[tuple[str, Any]]:
    """Every name with its value at any depth of JSON whose objects were read as lists of pairs."""
    if isinstance(value, tuple):
        yield value
        yield from _pairs(value[1])
    elif isinstance(value, list):
        for one in value:
            yield from _pairs(one)
