"""What stands around every page: the bar with its doors, and where this runs."""

from html import escape
from typing import Any

import gradio as gr

from core.platforms import Platform

PAGES = (
    ("Generate", "./"),
    ("Grid", "./grid"),
    ("Audit", "./audit"),
    ("Recommend", "./recommend"),
    ("Verify", "./verify"),
    ("History", "./history"),
    ("Machine", "./machine"),
)
"""Names and addresses, relative so that the app may be mounted anywhere."""
QUEUE = ("Queue", "./queue")
"""A page more, where there are accounts."""

QUIET: dict[str, Any] = {
    "concurrency_limit": None,
    "show_progress": "hidden",
    "api_visibility": "private",
}
"""For every event: ours only look or hand over, so none waits for another; none is an API."""

MARK = (
    '<svg viewBox="0 0 24 24" width="22" height="22" aria-hidden="true" fill="none" '
    'stroke="currentColor" stroke-width="1.8" stroke-linecap="round" stroke-linejoin="round">'
    '<path d="M12 21v-8"/><path d="M12 13C12 8 9 5 4 5c0 5 3 8 8 8Z"/>'
    '<path d="m12.6 11 2.6 2.6L21 7.4"/></svg>'
)
_TOGGLE = """
const button = element.querySelector("button");
const name = () => {
  const dark = document.body.classList.contains("dark");
  button.textContent = dark ? "Light" : "Dark";
  button.setAttribute("aria-label", dark ? "Switch to light colours" : "Switch to dark colours");
};
button.addEventListener("click", () => {
  const dark = document.body.classList.toggle("dark");
  try { localStorage.setItem("seedproof-theme", dark ? "dark" : "light"); } catch {}
  name();
});
new MutationObserver(name).observe(document.body, { attributeFilter: ["class"] });
let stored = null;
// Inside another site's frame a browser may refuse to keep anything.
try { stored = localStorage.getItem("seedproof-theme"); } catch {}
if (stored && !new URLSearchParams(location.search).has("__theme")) {
  document.body.classList.toggle("dark", stored === "dark");
}
name();
"""
_ACCOUNT = """
const place = element.querySelector("[data-account]");
fetch("./account").then((answer) => {
  if (answer.status === 401) location.reload();
  return answer.ok ? answer.json() : null;
}).then((account) => {
  if (!account) return;
  place.querySelector("b").textContent = account.name;
  place.querySelector("span").textContent = account.role === "admin" ? "admin" : "";
  place.querySelector("form").hidden = !account.leave;
  place.hidden = false;
}).catch(() => {});
"""
"""Set as text: a proxy may pass any name on. Who is signed out meanwhile is led to sign in."""


def header(current: str, notice: str = "", *, accounts: bool = False) -> None:
    """The bar of the page called `current`, and below it what every visitor must know.

    Styles hide Gradio's own bar, which has no name for us.
    """
    told = f'<p class="sp-hint" id="notice">{escape(notice)}</p>' if notice else ""
    links = "".join(
        f'<a href="{address}"{" aria-current=page" if name == current else ""}>{name}</a>'
        for name, address in (*PAGES, *((QUEUE,) if accounts else ()))
    )
    account = (
        '<div class="sp-account" data-account hidden><b></b> <span class="sp-note"></span>'
        '<form method="post" action="./logout"><button class="sp-plain">Sign out</button></form>'
        "</div>"
    )
    gr.HTML(
        f'<header class="sp-bar"><a class="sp-brand" href="./">{MARK}<span>Seedproof</span></a>'
        f'<nav aria-label="Pages">{links}</nav>'
        '<button type="button" class="sp-plain sp-theme">Dark</button>'
        f"{account if accounts else ''}</header>"
        f"{told}",
        apply_default_css=False,
        js_on_load=_TOGGLE + (_ACCOUNT if accounts else ""),
        elem_classes="sp-shell",
    )


def footer(platform: Platform, model: str) -> None:
    """Where pictures are made, in one quiet line."""
    threads = "1 thread" if platform.threads == 1 else f"{platform.threads} threads"
    facts = (
        platform.device_name,
        f"{platform.memory_bytes / 1e9:.0f} GB",
        *((threads, platform.instruction_set) if platform.device == "cpu" else ()),
        f"torch {platform.versions.get('torch', 'unknown')}",
        f"model {model}",
        f"platform {platform.fingerprint}",
    )
    gr.HTML(
        f'<footer class="sp-foot">{escape(" · ".join(facts))}</footer>',
        apply_default_css=False,
        js_on_load=None,
    )
