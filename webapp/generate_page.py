"""The first page: a prompt, one button, a picture, and the truth about how it was made."""

import asyncio
import json
import random
import uuid
from collections.abc import AsyncIterator, Sequence
from html import escape
from typing import Any

import gradio as gr

from core.models import check, native_size, size_step
from core.optimizations import SLOTS, availability, chosen, configure
from core.request import Job, Request
from core.run import Run
from core.samplers import SAMPLERS
from webapp import run_card
from webapp.evidence_card import badge
from webapp.findings import Findings
from webapp.jobs import QueueFull, Ticket
from webapp.services import Services
from webapp.settings_form import SettingsForm, accepted
from webapp.words import settings_of

LOOK = 0.15
"""Seconds between two looks at a job."""
SEEDS = 2**32
QUIET: dict[str, Any] = {
    "concurrency_limit": None,
    "show_progress": "hidden",
    "api_visibility": "private",
}
"""Every event of ours only looks or hands over, so none has to wait for another."""

_EXAMPLES = """
element.addEventListener("click", (event) => {
  const button = event.target.closest("button");
  if (button) trigger("pick", { prompt: button.dataset.prompt });
});
document.addEventListener("keydown", (event) => {
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) {
    document.querySelector("#generate")?.click();
  }
});
"""
_STAGE = """
const remember = () => {
  const stage = element.querySelector("[data-run]");
  if (!stage) return;
  const run = stage.dataset.run;
  history.replaceState(null, "", `${location.pathname}?run=${run}`);
  const image = stage.querySelector("figure a[download]") && stage.querySelector("img");
  if (!image) return;
  const kept = JSON.parse(localStorage.getItem("seedproof-recent") ?? "[]");
  const others = kept.filter((one) => one.run !== run);
  const mine = { run, src: image.getAttribute("src"), alt: image.alt };
  localStorage.setItem("seedproof-recent", JSON.stringify([mine, ...others].slice(0, 14)));
  window.dispatchEvent(new Event("seedproof-recent"));
};
watch("value", remember);
remember();
"""
_RECENT = """
const draw = () => {
  const kept = JSON.parse(localStorage.getItem("seedproof-recent") ?? "[]");
  const strip = element.querySelector(".sp-recent");
  strip.replaceChildren(...kept.map(({ run, src, alt }) => {
    const link = document.createElement("a");
    link.href = `./?run=${encodeURIComponent(run)}`;
    const image = document.createElement("img");
    image.src = src;
    image.alt = alt;
    image.title = alt;
    image.loading = "lazy";
    image.addEventListener("error", () => link.remove());
    link.append(image);
    return link;
  }));
  element.firstElementChild.hidden = kept.length < 2;
};
window.addEventListener("seedproof-recent", draw);
draw();
"""
