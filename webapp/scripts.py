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

STAGE = """
let shown = new URLSearchParams(location.search).get("run");
const remember = () => {
  const stage = element.querySelector("[data-run]");
  if (!stage) return;
  const run = stage.dataset.run;
  history.replaceState(null, "", `${location.pathname}?run=${run}`);
  if (stage.dataset.run !== shown && stage.getBoundingClientRect().top > innerHeight * 0.7) {
    stage.scrollIntoView({ behavior: "smooth", block: "start" });
  }
  shown = run;
  const image = stage.querySelector("a[download]") && stage.querySelector("img");
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
"""Puts the shown run into the address, brings a new one into view, and remembers its picture."""

RECENT = """
const draw = () => {
  const kept = JSON.parse(localStorage.getItem("seedproof-recent") ?? "[]");
  element.querySelector(".sp-recent").replaceChildren(...kept.map(({ run, src, alt }) => {
    const link = document.createElement("a");
    link.href = `./?run=${encodeURIComponent(run)}`;
    const image = document.createElement("img");
    Object.assign(image, { src, alt, title: alt, loading: "lazy" });
    image.addEventListener("error", () => link.remove());
    link.append(image);
    return link;
  }));
  element.firstElementChild.hidden = kept.length < 2;
};
window.addEventListener("seedproof-recent", draw);
draw();
"""
"""Recent pictures are known to this browser only: on a shared server others have others."""

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

PICK = """
element.addEventListener("click", (event) => {
  const picked = event.target.closest("[data-pick]");
  if (picked && !event.target.closest("summary")) trigger("pick", { which: picked.dataset.pick });
});
"""
"""A click on a row, a point or a button that carries `data-pick`."""
