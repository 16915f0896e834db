"""What the self-test writes: one JSON, of a schema with a number, without prompts, names or paths."""

from __future__ import annotations

import contextlib
import datetime
import getpass
import json
import math
import os
import re
import socket
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from hub.config import ROOT, config

SCHEMA = 1
"""Increase it when a key is renamed or means something else; a new key leaves it as it is."""

type State = Literal["right", "not_right", "not_tried"]
type Figures = Mapping[str, Any]

_PATH = re.compile(
    r"(?<![\w.])(?:~/|file:/+|(?<!:/)/(?!/))(?:[^\s/\"'(){}\[\],;:]+/)+[^\s\"'(){}\[\],;:]*"
)
_QUOTED = re.compile(r"([\"'`])(?:~|file:/*)?/(?:(?!\1)[^/\n])+/(?:(?!\1(?!\w))[^\n])*(?=\1)")
_TAIL = r"(?:[^\"'`\n]|'(?=\w))*"  # names of folders may have spaces and apostrophes
_PERSONAL = ("/Users/", "/Volumes/", "/home/", "~/")
_IDENTIFIER = re.compile(r"\b[0-9A-Fa-f]{8}(?:-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}\b|\bid=\d+")
_SHORTEST_NAME = 3  # a shorter one would be found in the middle of everything


@dataclass(frozen=True)
class Outcome:
    """What became of an item. `said` is a sentence for a person, `todo` what to do if it is not
    right; `figures` are what was measured."""

    state: State
    said: str
    figures: Figures = field(default_factory=dict)
    todo: str = ""


def right(said: str, **figures: Any) -> Outcome:
    return Outcome("right", said, figures)


def not_right(said: str, todo: str, **figures: Any) -> Outcome:
    return Outcome("not_right", said, figures, todo)


def not_tried(reason: str, todo: str = "", **figures: Any) -> Outcome:
    """`reason` is the true one."""
    return Outcome("not_tried", reason, figures, todo)


def judged(holds: bool, said: str, todo: str, **figures: Any) -> Outcome:
    """Right if it `holds`, else not right, with what to do."""
    return right(said, **figures) if holds else not_right(said, todo, **figures)


@dataclass(frozen=True)
class Row:
    """An item with its outcome, as the report has it."""

    name: str
    group: str
    asked: str
    seconds: float
    processor_s: float
    outcome: Outcome


def build(
    rows: Sequence[Row],
    machine: Mapping[str, Any],
    doctor: Mapping[str, str],
    *,
    quick: bool,
    seconds: float,
) -> dict[str, Any]:
    """The whole report. `doctor` has the state of each of the doctor's own checks by name."""
    counts = {
        state: sum(row.outcome.state == state for row in rows)
        for state in ("right", "not_right", "not_tried")
    }
    found = {
        "schema": SCHEMA,
        "made": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "quick": quick,
        "seconds": round(seconds, 1),
        "summary": counts,
        "machine": dict(machine),
        "doctor": dict(doctor),
        "items": [
            {
                "name": row.name,
                "group": row.group,
                "asked": row.asked,
                "seconds": round(row.seconds, 2),
                "processor_s": round(row.processor_s, 2),
                **asdict(row.outcome),
            }
            for row in rows
        ],
    }
    cleaned: dict[str, Any] = without_names(found, private_names(), private_roots())
    return cleaned


def text(report: Mapping[str, Any]) -> str:
    """The report as it is written to a file."""
    return json.dumps(report, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def private_names() -> tuple[str, ...]:
    """Words that tell whose machine this is: the user, the host, the home folder's name."""
    names = {Path.home().name, socket.gethostname(), socket.gethostname().partition(".")[0]}
    names |= {os.environ.get(name, "") for name in ("USER", "LOGNAME", "HOSTNAME", "COMPUTERNAME")}
    with contextlib.suppress(KeyError, OSError):  # a user without an entry in the system's list
        names.add(getpass.getuser())
    return tuple(sorted((n for n in names if len(n) >= _SHORTEST_NAME), key=len, reverse=True))


def private_roots() -> tuple[str, ...]:
    """Where the paths that this process knows begin: each with all that follows is taken out."""
    known = (ROOT, config.storage, Path.home(), sys.prefix, sys.base_prefix, tempfile.gettempdir())
    found = {str(path) for path in known} | {os.path.realpath(path) for path in known}
    return tuple(sorted((*(found - {"/"}), *_PERSONAL), key=len, reverse=True))


def without_names(value: Any, names: Sequence[str], roots: Sequence[str]) -> Any:
    """`value` as JSON can hold it, its texts without paths, identifiers and `names`. A path below
    one of `roots` goes with the rest of its line or quotation, since nothing else says where it ends."""
    if isinstance(value, Mapping):
        return {str(key): without_names(item, names, roots) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [without_names(item, names, roots) for item in value]
    if isinstance(value, float):
        return float(f"{value:.6g}") if math.isfinite(value) else None
    if value is None or isinstance(value, bool | int):
        return value
    text = _IDENTIFIER.sub("(identifier)", _without_paths(str(value), roots))
    for name in names:
        text = re.sub(rf"(?<!\w){re.escape(name)}(?!\w)", "(name)", text, flags=re.IGNORECASE)
    return text


def _without_paths(text: str, roots: Sequence[str]) -> str:
    text = _QUOTED.sub(r"\1(path)", text)
    known = "|".join(map(re.escape, roots))
    text = re.sub(rf"(?:file:/*)?(?:{known})(?:(?<=/)|(?=\W|$)){_TAIL}", "(path)", text)
    return _PATH.sub("(path)", text)
