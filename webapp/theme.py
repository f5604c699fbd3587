"""How every page looks: one accent, the system's own fonts, light and dark from the same names.

Gradio's components read the theme's variables, our own markup reads `style.css` and
`pictures.css`; all take their colours from `PALETTE`, the one place where a colour is decided.
"""

from pathlib import Path

import gradio as gr
from gradio.themes.utils import colors, sizes

PALETTE: dict[str, tuple[str, str]] = {
    "page": ("#f6f5f2", "#121413"),
    "surface": ("#ffffff", "#1a1d1b"),
    "sunken": ("#efeeea", "#222624"),
    "line": ("#dfddd6", "#323734"),
    "edge": ("#8d8f88", "#6d746f"),
    "ink": ("#1d211f", "#e9ece9"),
    "quiet": ("#5b625e", "#a3aca6"),
    "accent": ("#0b6e5f", "#5cc8b3"),
    "accent-strong": ("#085a4e", "#7ad6c4"),
    "accent-soft": ("#e2f0ed", "#17302b"),
    "on-accent": ("#ffffff", "#08211c"),
    "good": ("#1c6b3a", "#7fcf9b"),
    "good-soft": ("#e3f1e7", "#1a2f22"),
    "care": ("#7d5200", "#e6b765"),
    "care-soft": ("#faefd8", "#352a14"),
    "bad": ("#a3271d", "#f2978d"),
    "bad-soft": ("#fbe6e3", "#3a1d1a"),
}
"""Name → colour on light and on dark. Text colours keep 4.5:1 on their grounds, edges 3:1."""

_STYLES = tuple(Path(__file__).with_name(name) for name in ("style.css", "pictures.css"))
_SANS = ("system-ui", "-apple-system", "Segoe UI", "Roboto", "Noto Sans", "sans-serif")
_MONO = ("ui-monospace", "SF Mono", "Cascadia Mono", "Menlo", "DejaVu Sans Mono", "monospace")

HEAD = """
<meta name="color-scheme" content="light dark">
<script>
  // A stored choice of light or dark wins over the system's, before the first paint.
  (() => {
    let chosen = null;
    try { chosen = localStorage.getItem("seedproof-theme"); } catch {}
    const query = new URLSearchParams(location.search);
    if (chosen && !query.has("__theme")) {
      const apply = () => document.body.classList.toggle("dark", chosen === "dark");
      if (document.body) apply();
      document.addEventListener("DOMContentLoaded", apply);
    }
  })();
</script>
"""


def palette() -> str:
    """The colours as CSS variables, light, and dark below the class `dark`."""
    light = "".join(f"--sp-{name}: {pair[0]};" for name, pair in PALETTE.items())
    dark = "".join(f"--sp-{name}: {pair[1]};" for name, pair in PALETTE.items())
    return f":root {{{light}}}\n.dark {{{dark}}}\n"


def css() -> str:
    """The palette, then the rules of our own markup."""
    ours = "\n".join(file.read_text(encoding="utf-8") for file in _STYLES)
    return palette() + ours


def theme() -> gr.themes.Base:
    """Gradio's own parts in the palette. No font is fetched from anywhere."""
    base = gr.themes.Base(
        primary_hue=colors.teal,
        secondary_hue=colors.teal,
        neutral_hue=colors.stone,
        text_size=sizes.text_md,
        spacing_size=sizes.spacing_md,
        radius_size=sizes.radius_lg,
        font=_SANS,
        font_mono=_MONO,
    )
    return base.set(
        **_both(
            body_background_fill="page",
            body_text_color="ink",
            body_text_color_subdued="quiet",
            background_fill_primary="surface",
            background_fill_secondary="sunken",
            block_background_fill="surface",
            block_border_color="line",
            block_label_background_fill="surface",
            block_label_text_color="quiet",
            block_title_text_color="quiet",
            block_info_text_color="quiet",
            border_color_primary="line",
            border_color_accent="accent",
            border_color_accent_subdued="accent",
            color_accent_soft="accent-soft",
            input_background_fill="surface",
            input_background_fill_focus="surface",
            input_border_color="edge",
            input_border_color_focus="accent",
            input_border_color_hover="ink",
            input_placeholder_color="quiet",
            button_primary_background_fill="accent",
            button_primary_background_fill_hover="accent-strong",
            button_primary_border_color="accent",
            button_primary_border_color_hover="accent-strong",
            button_primary_text_color="on-accent",
            button_primary_text_color_hover="on-accent",
            button_secondary_background_fill="surface",
            button_secondary_background_fill_hover="sunken",
            button_secondary_border_color="edge",
            button_secondary_border_color_hover="ink",
            button_secondary_text_color="ink",
            button_secondary_text_color_hover="ink",
            button_cancel_background_fill="surface",
            button_cancel_background_fill_hover="bad-soft",
            button_cancel_border_color="bad",
            button_cancel_border_color_hover="bad",
            button_cancel_text_color="bad",
            button_cancel_text_color_hover="bad",
            checkbox_background_color="surface",
            checkbox_background_color_selected="accent",
            checkbox_border_color="edge",
            checkbox_border_color_selected="accent",
            checkbox_label_background_fill="surface",
            checkbox_label_background_fill_selected="accent-soft",
            checkbox_label_border_color="line",
            checkbox_label_border_color_selected="accent",
            checkbox_label_text_color="ink",
            checkbox_label_text_color_selected="ink",
            link_text_color="accent",
            link_text_color_hover="accent-strong",
            link_text_color_visited="accent",
            link_text_color_active="accent-strong",
            slider_color="accent",
            loader_color="accent",
            panel_background_fill="page",
            panel_border_color="line",
            table_border_color="line",
        ),
        color_accent="var(--sp-accent)",
        block_border_width="0px",
        block_shadow="none",
        block_shadow_dark="none",
        block_padding="0",
        block_label_text_size="*text_sm",
        block_title_text_size="*text_sm",
        block_title_text_weight="600",
        button_large_radius="10px",
        button_large_text_weight="600",
        button_border_width="1px",
        button_border_width_dark="1px",
        button_transition="background-color 120ms ease, border-color 120ms ease",
        button_primary_shadow="none",
        button_secondary_shadow="none",
        input_border_width="1px",
        input_border_width_dark="1px",
        input_shadow="none",
        input_shadow_focus="none",
        input_shadow_focus_dark="none",
        input_radius="10px",
        section_header_text_weight="600",
        layout_gap="16px",
    )


def _both(**names: str) -> dict[str, str]:
    """Each theme variable in its light and its dark colour."""
    values: dict[str, str] = {}
    for variable, name in names.items():
        values[variable], values[f"{variable}_dark"] = PALETTE[name]
    return values
