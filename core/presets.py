"""Presets: settings under a name, without a prompt; and an owner's presets and styles, kept."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from core.history import NOBODY
from core.records import Records, now
from core.request import Request
from core.styles import MOST_STYLES, Style, checked, named

NOT_KEPT = (
    "prompt",
    "negative_prompt",
    "model",
    "seed",
    "variation_seed",
    "variation_strength",
)
"""Fields of a request that say which picture, and not how pictures are made."""
MOST_PRESETS = 200
_ANONYMOUS = "This browser keeps no secret, so nothing can be kept for you: allow it to store data."


@dataclass(frozen=True, kw_only=True)
class Preset:
    """How pictures are made: fields of a request by name, and a configuration's settings."""

    name: str
    fields: Mapping[str, Any] = field(default_factory=dict)
    settings: Mapping[str, str] = field(default_factory=dict)


def preset_of(name: str, request: Request, settings: Mapping[str, str]) -> Preset:
    """All but what `NOT_KEPT` names. Raises ValueError with a sentence for a name that is none."""
    kept = {name: value for name, value in vars(request).items() if name not in NOT_KEPT}
    return Preset(name=named(name), fields=kept, settings=dict(settings))


def with_preset(request: Request, preset: Preset) -> Request:
    """A request with a preset's fields. Raises ValueError with a sentence for those of a version
    that had others."""
    if unknown := sorted(set(preset.fields) - set(vars(request))):
        raise ValueError(f"it has {unknown[0]}, which this version does not know: save it anew.")
    return replace(request, **preset.fields)


class Presets(Records):
    """Names are unique per owner; saving under a name that is there replaces what it had."""

    def save_preset(self, preset: Preset, owner: str) -> None:
        """Raises ValueError with a sentence where nothing can be kept."""
        self._require_room("presets", owner, [named(preset.name)], MOST_PRESETS)
        with self._writing():
            self._change(
                "insert or replace into presets values (?, ?, ?, ?)",
                [owner, named(preset.name), self._dump(preset), now()],
            )

    def presets(self, owner: str) -> tuple[Preset, ...]:
        """An owner's, by name."""
        rows = self._rows(
            "select preset, name from presets where owner = ? and owner != ? order by name",
            [owner, NOBODY],
        )
        # The column wins: a rename leaves the record as it was.
        return tuple(
            Preset(name=row["name"], fields=found.fields, settings=found.settings)
            for row in rows
            for found in (self._load(Preset, row["preset"]),)
        )

    def save_styles(self, styles: Iterable[Style], owner: str) -> None:
        """All of them or, with a sentence as ValueError, none."""
        kept = [checked(style) for style in styles]
        self._require_room("styles", owner, [style.name for style in kept], MOST_STYLES)
        with self._writing():
            for style in kept:
                self._change(
                    "insert or replace into styles values (?, ?, ?, ?)",
                    [owner, style.name, style.prompt, style.negative_prompt],
                )

    def styles(self, owner: str) -> tuple[Style, ...]:
        """An owner's, by name."""
        rows = self._rows(
            "select name, prompt, negative_prompt from styles where owner = ? and owner != ? "
            "order by name",
            [owner, NOBODY],
        )
        return tuple(Style(**row) for row in rows)

    def delete_preset(self, name: str, owner: str) -> bool:
        return self._delete("presets", name, owner)

    def delete_style(self, name: str, owner: str) -> bool:
        return self._delete("styles", name, owner)

    def rename_preset(self, name: str, new: str, owner: str) -> bool:
        """Raises ValueError with a sentence where the new name is taken or none."""
        return self._rename("presets", name, new, owner)

    def rename_style(self, name: str, new: str, owner: str) -> bool:
        """Raises ValueError with a sentence where the new name is taken or none."""
        return self._rename("styles", name, new, owner)

    def _delete(self, table: str, name: str, owner: str) -> bool:
        with self._writing():
            gone = self._change(f"delete from {table} where owner = ? and name = ?", [owner, name])
        return gone > 0

    def _rename(self, table: str, name: str, new: str, owner: str) -> bool:
        new = named(new)
        if new == name:
            return True
        if self._rows(f"select 1 from {table} where owner = ? and name = ?", [owner, new]):
            raise ValueError(
                f"There is a {new!r} already: choose another name, or delete it first."
            )
        with self._writing():
            done = self._change(
                f"update {table} set name = ? where owner = ? and name = ?", [new, owner, name]
            )
        return done > 0

    def _require_room(self, table: str, owner: str, names: list[str], most: int) -> None:
        if owner == NOBODY:
            raise ValueError(_ANONYMOUS)
        rows = self._rows(f"select name from {table} where owner = ?", [owner])
        if len({row["name"] for row in rows} | set(names)) > most:
            raise ValueError(f"At most {most} {table} are kept: delete some first.")
