"""What each setting is now, what it would be by itself, and where it comes from."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Literal, get_args, get_origin

from pydantic_core import PydanticUndefined

from hub.config import Config, config, given_in, read_saved
from hub.preferences.table import ENTRIES, GROUPS, Effect, Entry
from registry.storage import paths

_UP = {"host", "port", "ollama_port", "log_format"}  # `up` sets them for its processes in any case
_HIDDEN = "••••••••"


@dataclass(frozen=True)
class Shown:
    """One setting as the page, the API and the command show it. `value` and `default` are as text, empty
    where there is none; `waiting` is what it will be after a restart."""

    entry: Entry
    value: str
    default: str
    source: Literal["environment", "file", "saved", "default"]
    origin: str
    about: str
    choices: tuple[str, ...] = ()
    waiting: str | None = None

    @property
    def changeable(self) -> bool:
        """Whether it can be changed here: nothing outside the hub sets it."""
        return self.entry.effect is not Effect.FIXED and self.source in ("saved", "default")

    @property
    def is_number(self) -> bool:
        kinds = _kinds(self.entry.name)
        return bool(kinds.keys() & {int, float}) and bool not in kinds and not self.choices


def every() -> list[tuple[str, str, list[Shown]]]:
    """The groups, each with its key, title and settings."""
    fresh = Config(storage=paths.root())
    saved = read_saved(paths.root())
    return [(k, title, [_shown(e, fresh, saved) for e in es]) for k, title, es in GROUPS]


def one(name: str) -> Shown:
    """Raises KeyError for what is no setting."""
    return _shown(ENTRIES[name], Config(storage=paths.root()), read_saved(paths.root()))


def _shown(entry: Entry, fresh: Config, saved: dict[str, Any]) -> Shown:
    name = entry.name
    now, then = getattr(config, name), getattr(fresh, name)
    if entry.effect is Effect.FIXED:
        then = now
    source, origin = _source(name, saved, now)
    waits = entry.effect is Effect.RESTART and now != then
    return Shown(
        entry=entry,
        value=as_text(name, now if waits else then),
        default=as_text(name, default(name)),
        source=source,
        origin=origin,
        about=Config.model_fields[name].description or "",
        choices=choices(name),
        waiting=as_text(name, then) if waits else None,
    )


def _source(
    name: str, saved: dict[str, Any], now: Any
) -> tuple[Literal["environment", "file", "saved", "default"], str]:
    given = given_in(name)
    if given == "environment" and name in _UP:
        if now == default(name):
            return "default", ""
        given = given_in(name, environment=False) or given
    if given == "environment":
        return "environment", ENTRIES[name].variable
    if given:
        return "file", given
    return ("saved", "") if name in saved else ("default", "")


def default(name: str) -> Any:
    """What the setting is where nobody says anything."""
    field = Config.model_fields[name]
    found = field.get_default(call_default_factory=True, validated_data={})
    return None if found is PydanticUndefined else found


def choices(name: str) -> tuple[str, ...]:
    """The values that it may have, where they are few."""
    kinds = _kinds(name)
    if bool in kinds:
        return ("true", "false")
    return tuple(str(kind) for kind in kinds if not isinstance(kind, type))


def _kinds(name: str) -> dict[Any, None]:
    """The types of the field, or the values of a Literal, in their order."""
    found: dict[Any, None] = {}

    def look(annotation: Any) -> None:
        if get_origin(annotation) is Literal:
            found.update(dict.fromkeys(get_args(annotation)))
        elif get_origin(annotation) is list:
            found[list] = None
        elif parts := get_args(annotation):
            for part in parts:
                look(part)
        elif annotation is not type(None):
            found[annotation] = None

    look(Config.model_fields[name].annotation)
    return found


def as_text(name: str, value: Any) -> str:
    """As one writes it into the environment; secrets are hidden."""
    if value in (None, "", []):
        return ""
    if ENTRIES[name].secret:
        return _HIDDEN
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list):
        return ",".join(value)
    if isinstance(value, float):
        return str(int(value)) if value.is_integer() else str(value)
    return without_password(str(value)) if isinstance(value, str) else str(value)


def without_password(address: str) -> str:
    """`postgres://ada:secret@host/hub` without what is between the colon and the @."""
    hidden = re.sub(r"(?<=://)([^/@:]*):[^/]*@", rf"\1:{_HIDDEN}@", address)
    return re.sub(r"([?&](?:password|token|key)=)[^&]*", rf"\1{_HIDDEN}", hidden)
