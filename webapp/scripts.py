"""The little that runs in the browser. Each is the `js_on_load` of one HTML component.

Addresses are built from `location.pathname`, because Gradio's pages set a base that a bare `?query`
would be resolved against. Names in `localStorage` begin with `seedproof-`.
"""

EXAMPLES = """
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
"""A click on an example; Ctrl+Enter anywhere generates."""

TOKENS = """
const text = () =>
  ["prompt", "negative"].map((name) => document.querySelector(`#${name} textarea`)?.value ?? "")
    .join("\\n\\n");
let before, counted;
setInterval(() => {
  const now = text();
  if (now === before && now !== counted) {
    counted = now;
    trigger("count");
  }
  before = now;
}, 300);
"""
"""Has the tokens of the prompts counted as soon as one pauses; also where no key was pressed, as
when an example is picked."""

STAGE = """
let shown = new URLSearchParams(location.search).get("run");
const remember = () => {
  const stage = element.querySelector("[data-run]");
  if (!stage) return;
  const run = stage.dataset.run;
  history.replaceState(null, "", `${location.pathname}?run=${run}`);
  if (stage.dataset.run !== shown && stage.getBoundingClientRect().top > innerHeight * 0.7) {
    const calm = matchMedia("(prefers-reduced-motion: reduce)").matches;
    stage.scrollIntoView({ behavior: calm ? "auto" : "smooth", block: "start" });
  }
  shown = run;
};
watch("value", remember);
remember();
"""
"""Puts the shown run into the address, and brings a new one into view."""

HISTORY = """
const keep = () => {
  const page = element.querySelector("[data-page]");
  if (!page) return;
  const query = new URLSearchParams(page.dataset.query);
  if (page.dataset.page !== "1") query.set("page", page.dataset.page);
  history.replaceState(null, "", location.pathname + (query.size ? `?${query}` : ""));
};
let everything = false;
const boxes = () => [...element.querySelectorAll(".sp-shot input[type=checkbox]")];
const picked = () => boxes().filter((box) => box.checked).map((box) => box.value);
const ask = (asking) => {
  const tools = element.querySelector(".sp-tools-more");
  for (const one of tools.querySelectorAll("[data-ask-all], .sp-sure")) {
    one.hidden = one.matches(".sp-sure") !== asking;
  }
};
const paint = () => {
  const tools = element.querySelector(".sp-tools");
  if (!tools) return;
  const runs = picked(), total = Number(element.querySelector("[data-page]").dataset.total);
  const count = everything ? total : runs.length;
  const all = runs.length === boxes().length;
  tools.querySelector("[data-all]").checked = all;
  tools.querySelector("[data-count]").textContent = count ? `${count} selected` : "";
  tools.querySelector(".sp-tools-more").hidden = !count;
  const more = tools.querySelector("[data-everything]");
  more.hidden = !all || everything || total === runs.length;
  more.textContent = `Select all ${total}`;
  tools.querySelector("[data-act=delete]").textContent = `Delete ${count} for good`;
  const compare = tools.querySelector("[data-compare]");
  compare.hidden = runs.length !== 2;
  compare.href = `./compare?a=${runs[0]}&b=${runs[1]}`;
  ask(false);
};
element.addEventListener("change", (event) => {
  if (!event.target.matches("input[type=checkbox]")) return;
  everything = false;
  if (event.target.matches("[data-all]")) {
    for (const box of boxes()) box.checked = event.target.checked;
  }
  paint();
});
element.addEventListener("click", (event) => {
  const button = event.target.closest("button");
  if (!button) return;
  const actions = button.closest(".sp-shot-actions");
  if (button.dataset.turn) trigger("turn", { page: button.dataset.turn });
  if (button.dataset.remove) trigger("remove", { run: button.dataset.remove });
  if (button.matches("[data-ask], [data-keep]")) {
    const asking = button.matches("[data-ask]");
    for (const one of actions.children) one.hidden = one.matches(".sp-sure") !== asking;
    actions.querySelector(asking ? "[data-keep]" : "[data-ask]").focus();
  }
  if (button.matches("[data-everything]")) {
    everything = true;
    paint();
  }
  if (button.matches("[data-ask-all], [data-keep-all]")) {
    const asking = button.matches("[data-ask-all]");
    ask(asking);
    element.querySelector(asking ? "[data-keep-all]" : "[data-ask-all]").focus();
  }
  if (button.dataset.act) {
    const tag = element.querySelector("[data-tag]").value;
    trigger("act", { what: button.dataset.act, runs: picked().join(" "), everything, tag });
  }
});
watch("value", () => {
  everything = false;
  keep();
  paint();
});
keep();
"""
"""Puts search and page into the address, turns pages, keeps what is selected, and deletes only who
was asked twice."""

SEARCH = """
const input = element.querySelector("input");
input.value = new URLSearchParams(location.search).get("q") ?? "";
let typing;
input.addEventListener("input", () => {
  clearTimeout(typing);
  typing = setTimeout(() => trigger("search", { words: input.value.trim() }), 200);
});
"""
"""Searches while one types, as soon as one pauses."""

AUDIT = """
const keep = () => {
  const named = element.querySelector("[data-audit]");
  if (named) {
    history.replaceState(null, "", `${location.pathname}?run=${named.dataset.audit}`);
  }
};
watch("value", keep);
keep();
"""
"""Puts the shown audit into the address."""

GRID = """
const keep = () => {
  const named = element.querySelector("[data-grid]");
  if (named) {
    history.replaceState(null, "", `${location.pathname}?grid=${named.dataset.grid}`);
  }
};
watch("value", keep);
keep();
"""
"""Puts the shown grid into the address."""

PICK = """
element.addEventListener("click", (event) => {
  const picked = event.target.closest("[data-pick]");
  if (picked && !event.target.closest("summary")) trigger("pick", { which: picked.dataset.pick });
});
"""
"""A click on a row, a point or a button that carries `data-pick`."""
