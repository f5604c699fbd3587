"""The page that asks for a name and a password: plain HTML that needs nothing but itself."""

import re
import secrets
from html import escape

from starlette.responses import HTMLResponse

from webapp.shell import MARK
from webapp.theme import palette

_STYLE = """
* { box-sizing: border-box; }
body {
  margin: 0; min-height: 100vh; display: grid; place-items: center; padding: 24px 16px;
  background: var(--sp-page); color: var(--sp-ink);
  font: 16px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", sans-serif;
}
main {
  width: min(100%, 360px); background: var(--sp-surface); border: 1px solid var(--sp-line);
  border-radius: 14px; padding: 28px 26px 26px;
}
.brand { display: flex; align-items: center; gap: 8px; margin: 0; font-weight: 700; }
.brand svg { color: var(--sp-accent); }
h1 { font-size: 1.3rem; letter-spacing: -0.02em; margin: 20px 0 14px; }
label { display: block; font-size: 0.87rem; font-weight: 600; color: var(--sp-quiet); }
input {
  width: 100%; margin: 4px 0 14px; padding: 10px 12px; font: inherit; color: var(--sp-ink);
  background: var(--sp-surface); border: 1px solid var(--sp-edge); border-radius: 10px;
}
button {
  width: 100%; margin-top: 4px; padding: 11px 16px; font: inherit; font-weight: 600;
  cursor: pointer; color: var(--sp-on-accent); background: var(--sp-accent); border: 0;
  border-radius: 10px;
}
button:hover { background: var(--sp-accent-strong); }
:focus-visible { outline: 2px solid var(--sp-accent); outline-offset: 2px; }
[role="alert"] {
  margin: 0 0 14px; padding: 10px 12px; border-radius: 10px; font-size: 0.92rem;
  background: var(--sp-bad-soft); color: var(--sp-bad);
}
.hint { margin: 16px 0 0; font-size: 0.84rem; color: var(--sp-quiet); }
"""
_DARK = """
let chosen = null;
try { chosen = localStorage.getItem("seedproof-theme"); } catch {}
const system = matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light";
document.documentElement.classList.toggle("dark", (chosen ?? system) === "dark");
"""
_PLACE = re.compile(r"[a-z]{0,20}(\?[\w=&.%+-]{0,200})?", re.ASCII)


def login_page(
    *, place: str = "", name: str = "", problem: str = "", status: int = 200
) -> HTMLResponse:
    """The form; `place` is where one wanted to go, and `problem` one sentence."""
    alert = f'<p role="alert">{escape(problem)}</p>' if problem else ""
    body = (
        f'<main><p class="brand">{MARK}<span>Seedproof</span></p><h1>Sign in</h1>{alert}'
        '<form method="post" action="./login">'
        f'<input type="hidden" name="place" value="{escape(place)}">'
        '<label for="name">Name</label>'
        f'<input id="name" name="name" value="{escape(name)}" autocomplete="username" required '
        f'maxlength="64" autocapitalize="none" spellcheck="false"{"" if name else " autofocus"}>'
        '<label for="password">Password</label>'
        '<input id="password" name="password" type="password" required '
        f'autocomplete="current-password"{" autofocus" if name else ""}>'
        '<button type="submit">Sign in</button></form>'
        '<p class="hint">Whoever runs this server gives out accounts, and new passwords.</p></main>'
    )
    return plain_page("Sign in", body, status)


def refusal_page(sentence: str, status: int) -> HTMLResponse:
    """One sentence, where nothing can be typed that would help."""
    body = (
        f'<main><p class="brand">{MARK}<span>Seedproof</span></p>'
        f"<h1>Not from here</h1><p>{escape(sentence)}</p></main>"
    )
    return plain_page("Not from here", body, status)


def plain_page(title: str, body: str, status: int) -> HTMLResponse:
    """May not be framed by others, kept by anybody, or fetch anything."""
    nonce = secrets.token_urlsafe(16)
    page = (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)} · Seedproof</title>"
        f'<style nonce="{nonce}">{palette()}{_STYLE}</style>'
        f'<script nonce="{nonce}">{_DARK}</script></head><body>{body}</body></html>'
    )
    policy = (
        f"default-src 'none'; style-src 'nonce-{nonce}'; script-src 'nonce-{nonce}'; "
        "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    )
    return HTMLResponse(
        page,
        status_code=status,
        headers={
            "content-security-policy": policy,
            "cache-control": "no-store",
            "referrer-policy": "same-origin",
        },
    )


def safe_place(text: str) -> str:
    """A page of ours, relative to the app's root; the first page for anything else.

    Nothing with a slash or a colon passes, so no other site can be named.
    """
    return text if _PLACE.fullmatch(text) else ""
