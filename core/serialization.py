"""Frozen records as JSON, and back as equal records."""

import dataclasses
import json
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError

T = TypeVar("T")

HOME = "$pictures"
"""How a stored path begins that lies in the picture folder, so that a database can be moved."""

_adapter: Callable[[Any], TypeAdapter[Any]] = lru_cache(TypeAdapter)


def dump(record: object, pictures: Path) -> str:
    """JSON of a frozen dataclass. Paths below `pictures` are stored relative to it."""

    def stored(path: Path) -> Path:
        if path.is_relative_to(pictures):
            return Path(HOME, path.relative_to(pictures))
        return path

    plain = _adapter(type(record)).dump_python(_map_paths(record, stored), mode="json")
    return json.dumps(plain, ensure_ascii=False, separators=(",", ":"))


def load(kind: type[T], text: str, pictures: Path) -> T:
    """What `dump` was given. Raises ValueError where the text does not have the type's shape."""

    def found(path: Path) -> Path:
        return pictures.joinpath(*path.parts[1:]) if path.parts[:1] == (HOME,) else path

    try:
        record = _adapter(kind).validate_python(json.loads(text))
    except ValidationError as error:
        raise ValueError(
            f"a stored {kind.__name__} does not have the shape that this version of Seedproof "
            f"expects ({error.error_count()} differences): read it with the version that wrote it."
        ) from error
    loaded: T = _map_paths(record, found)
    return loaded


def _map_paths(value: Any, change: Callable[[Path], Path]) -> Any:
    """The same value with every path in it changed; what holds no path is kept as it is."""
    if isinstance(value, Path):
        return change(value)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = {f.name: getattr(value, f.name) for f in dataclasses.fields(value) if f.init}
        changed = {name: _map_paths(field, change) for name, field in fields.items()}
        if all(changed[name] is field for name, field in fields.items()):
            return value
        return dataclasses.replace(value, **changed)
    if isinstance(value, tuple | list):
        items = [_map_paths(item, change) for item in value]
        same = all(new is old for new, old in zip(items, value, strict=True))
        return value if same else type(value)(items)
    if isinstance(value, dict):
        return {key: _map_paths(item, change) for key, item in value.items()}
    return value
