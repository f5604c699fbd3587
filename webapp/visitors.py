"""Who asks, as long as there are no accounts: a browser that keeps a secret.

The secret is made in the browser, stays in its local storage and is sent with every event, so it
works inside a frame, where cookies may be blocked, and no other site can send it. What is stored
is its digest: who reads the database cannot act for anybody in it.
"""

import hashlib
import re

from core.history import NOBODY

SEND = """
(...values) => {
  const name = "seedproof-visitor";
  let secret = window.seedproofVisitor;
  try { secret = localStorage.getItem(name) ?? secret; } catch {}
  if (!secret) {
    const bytes = [...crypto.getRandomValues(new Uint8Array(16))];
    secret = bytes.map((byte) => byte.toString(16).padStart(2, "0")).join("");
    try { localStorage.setItem(name, secret); } catch {}
  }
  window.seedproofVisitor = secret;
  return [...values.slice(0, -1), secret];
}
"""
"""The `js` of an event: puts the secret in place of the last input. A browser that may keep nothing
has one for as long as the page is open."""

_SECRET = re.compile(r"[0-9a-f]{32}")


def bearer(authorization: str | None) -> str:
    """Whose a program's request is, from its `Authorization: Bearer SECRET`; nobody's otherwise.

    The secret is of the browser's kind: a program that sends a browser's own acts for that person.
    """
    scheme, _, secret = (authorization or "").partition(" ")
    return owner(secret.strip()) if scheme.lower() == "bearer" else NOBODY


def owner(secret: object) -> str:
    """Whose a picture is, from what the browser sent; nobody's where that is no secret."""
    if not isinstance(secret, str) or not _SECRET.fullmatch(secret):
        return NOBODY
    return f"visitor:{hashlib.sha256(secret.encode()).hexdigest()[:32]}"
