"""Presets and styles on the first page: chosen, saved, renamed, deleted, imported, exported."""

import asyncio
from base64 import b64encode
from html import escape
from pathlib import Path
from typing import Any, Protocol

import gradio as gr

from core.presets import Preset
from core.styles import MOST_BYTES, Style, read_csv, with_style, write_csv
from webapp import visitors
from webapp.services import Services
from webapp.shell import QUIET


class FilledForm(Protocol):
    """The form around this one: what presets are taken from, and put into."""

    prompt: Any
    negative: Any

    @property
    def inputs(self) -> list[Any]: ...

    def preset(self, name: str, *fields: Any) -> Preset: ...

    def with_preset(self, preset: Preset, *fields: Any) -> tuple[Any, ...]: ...


class KeptRow:
    """One list of names with what can be done about it. Made inside a `gr.Blocks`."""

    def __init__(self, what: str, save: str) -> None:
        # A text that is not in the list must not be refused by Gradio: lists differ per visitor.
        self.chosen = gr.Dropdown(
            [], value=None, label=what.title(), allow_custom_value=True, elem_id=f"{what}-chosen"
        )
        with gr.Row():
            self.name = gr.Textbox(
                label=f"Name of a {what}", max_lines=1, min_width=130, elem_id=f"{what}-name"
            )
            self.save = gr.Button(save, size="sm", min_width=110, elem_id=f"{what}-save")
            self.rename = gr.Button("Rename", size="sm", min_width=70, elem_id=f"{what}-rename")
            self.delete = gr.Button("Delete", size="sm", min_width=70, elem_id=f"{what}-delete")


class PresetsForm:
    """Made inside a `gr.Blocks`; `connect` needs the form that presets fill in."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self.presets = KeptRow("preset", "Save settings")
        self.styles = KeptRow("style", "Save prompts")
        gr.HTML(
            '<p class="sp-hint">A preset keeps all settings and no prompt. A style keeps the two '
            "prompts; <b>{prompt}</b> in it is where another prompt goes.</p>",
            js_on_load=None,
            apply_default_css=False,
        )
        self.file = gr.File(
            label="Styles from a styles.csv, as AUTOMATIC1111's",
            file_types=[".csv"],
            type="filepath",
            height=90,
            elem_id="styles-file",
        )
        self.export = _html("", "styles-export")
        self.told = _html("", "kept-told")

    def connect(self, form: FilledForm, visitor: gr.Textbox, blocks: gr.Blocks) -> None:
        """Wire the events, once everything is there."""
        mine: Any = {"js": visitors.SEND, **QUIET}
        lists = [self.presets.chosen, self.styles.chosen, self.export, self.told]
        blocks.load(self._listed, visitor, lists, **mine)
        presets, styles = self.presets, self.styles

        async def chosen(request: gr.Request, name: str | None, *values: Any) -> tuple[Any, ...]:
            *fields, secret = values
            owner = self._owner(request, secret)
            return await asyncio.to_thread(self._use_preset, form, name, fields, owner)

        async def saved(request: gr.Request, name: str, *values: Any) -> tuple[Any, ...]:
            *fields, secret = values
            owner = self._owner(request, secret)
            return await asyncio.to_thread(self._save_preset, form, name, fields, owner)

        presets.chosen.input(
            chosen, [presets.chosen, *form.inputs, visitor], [*form.inputs, self.told], **mine
        )
        presets.save.click(saved, [presets.name, *form.inputs, visitor], lists, **mine)
        prompts = [form.prompt, form.negative]
        styles.chosen.input(
            self._use_style, [styles.chosen, *prompts, visitor], [*prompts, self.told], **mine
        )
        styles.save.click(self._save_style, [styles.name, *prompts, visitor], lists, **mine)
        for row, store in ((presets, "preset"), (styles, "style")):
            changed = [row.chosen, row.name, visitor]
            row.rename.click(self._renaming(store), changed, lists, **mine)
            row.delete.click(self._deleting(store), changed, lists, **mine)
        self.file.upload(self._import, [self.file, visitor], lists, **mine)

    def _owner(self, request: gr.Request, secret: str) -> str:
        return self._services.asker(request, secret).owner

    def _listed(self, secret: str, request: gr.Request) -> tuple[Any, ...]:
        return self._lists(self._owner(request, secret), "")

    def _lists(
        self,
        owner: str,
        told: str,
        *,
        preset: str | None = None,
        style: str | None = None,
    ) -> tuple[Any, ...]:
        store = self._services.store
        styles = store.styles(owner)
        names = [one.name for one in store.presets(owner)]
        return (
            gr.Dropdown(choices=names, value=preset),
            gr.Dropdown(choices=[one.name for one in styles], value=style),
            _export(styles),
            told,
        )

    def _use_preset(
        self, form: FilledForm, name: str | None, fields: list[Any], owner: str
    ) -> tuple[Any, ...]:
        """The form with a preset in it; prompts and seed stay as they are."""
        same = (gr.skip(),) * len(form.inputs)
        presets = self._services.store.presets(owner)
        preset = next((one for one in presets if one.name == name), None)
        if preset is None:
            return *same, ""
        try:
            values = form.with_preset(preset, *fields)
        except ValueError as error:
            return *same, _refused(f"{preset.name} cannot be used here: {error}")
        return *values, _done(f"{preset.name} is filled in.")

    def _save_preset(
        self, form: FilledForm, name: str, fields: list[Any], owner: str
    ) -> tuple[Any, ...]:
        try:
            preset = form.preset(name, *fields)
            self._services.store.save_preset(preset, owner)
        except ValueError as error:
            return self._lists(owner, _refused(str(error)))
        return self._lists(owner, _done(f"Saved as {preset.name}."), preset=preset.name)

    def _use_style(
        self, name: str | None, prompt: str, negative: str, secret: str, request: gr.Request
    ) -> tuple[Any, ...]:
        styles = self._services.store.styles(self._owner(request, secret))
        style = next((one for one in styles if one.name == name), None)
        if style is None:
            return gr.skip(), gr.skip(), ""
        return (
            with_style(prompt, style.prompt),
            with_style(negative, style.negative_prompt),
            _done(f"{style.name} is in the prompts."),
        )

    def _save_style(
        self, name: str, prompt: str, negative: str, secret: str, request: gr.Request
    ) -> tuple[Any, ...]:
        owner = self._owner(request, secret)
        style = Style(name=name, prompt=prompt.strip(), negative_prompt=negative.strip())
        try:
            self._services.store.save_styles([style], owner)
        except ValueError as error:
            return self._lists(owner, _refused(str(error)))
        return self._lists(owner, _done(f"Saved as {' '.join(name.split())}."))

    def _renaming(self, kind: str) -> Any:
        def rename(
            chosen: str | None, name: str, secret: str, request: gr.Request
        ) -> tuple[Any, ...]:
            store, owner = self._services.store, self._owner(request, secret)
            change = store.rename_preset if kind == "preset" else store.rename_style
            try:
                there = bool(chosen) and change(str(chosen), name, owner)
            except ValueError as error:
                return self._lists(owner, _refused(str(error)))
            if not there:
                return self._lists(owner, _refused(f"Choose the {kind} to rename first."))
            return self._lists(owner, _done(f"{chosen} is called {' '.join(name.split())} now."))

        return rename

    def _deleting(self, kind: str) -> Any:
        def delete(
            chosen: str | None, name: str, secret: str, request: gr.Request
        ) -> tuple[Any, ...]:
            store, owner = self._services.store, self._owner(request, secret)
            forget = store.delete_preset if kind == "preset" else store.delete_style
            if not chosen or not forget(str(chosen), owner):
                return self._lists(owner, _refused(f"Choose the {kind} to delete first."))
            return self._lists(owner, _done(f"{chosen} is deleted. What it filled in stays."))

        return delete

    def _import(self, path: str, secret: str, request: gr.Request) -> tuple[Any, ...]:
        owner = self._owner(request, secret)
        try:
            with Path(path).open("rb") as file:
                styles = read_csv(file.read(MOST_BYTES + 1))
            self._services.store.save_styles(styles, owner)
        except ValueError as error:
            return self._lists(owner, _refused(str(error)))
        count = "1 style is" if len(styles) == 1 else f"{len(styles)} styles are"
        return self._lists(owner, _done(f"{count} taken over."))


def _export(styles: tuple[Style, ...]) -> str:
    """The file inside the link: it is nobody else's, and nothing is kept on the server for it."""
    if not styles:
        return ""
    data = b64encode(write_csv(styles).encode()).decode()
    count = "1 style" if len(styles) == 1 else f"{len(styles)} styles"
    return (
        f'<p class="sp-hint"><a href="data:text/csv;base64,{data}" download="styles.csv">'
        f"Download your {count} as styles.csv</a></p>"
    )


def _done(sentence: str) -> str:
    return f'<p class="sp-hint" role="status">{escape(sentence)}</p>'


def _refused(sentence: str) -> str:
    return f'<p class="sp-tokens sp-tokens-bad" role="alert">{escape(sentence)}</p>'


def _html(value: str, name: str) -> gr.HTML:
    return gr.HTML(value, elem_id=name, apply_default_css=False, js_on_load=None)
