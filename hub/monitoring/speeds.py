"""How fast the hub was on this machine, over its versions: what `manage.py bench` has measured."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

from registry.storage import paths

_WORSE = 0.9  # of the run before, from which a figure is pointed out


@dataclass(frozen=True)
class Kind:
    """One figure; `less` is better for times."""

    name: str
    label: str
    unit: str
    less: bool = False


KINDS = (
    Kind("one", "One stream", "tokens/s"),
    Kind("eight", "Eight streams", "tokens/s"),
    Kind("cold", "First token, cold", "ms", less=True),
    Kind("cached", "First token, cached", "ms", less=True),
    Kind("training", "LoRA training", "tokens/s"),
)


@dataclass(frozen=True)
class Run:
    """One `manage.py bench`. `figures`, and those of bare mlx-lm (`rivals`), are by the names of KINDS;
    `problems` has a sentence for what could not be measured. `busy`: other work has slowed it."""

    made: str
    commit: str
    device: str
    busy: bool
    figures: Mapping[str, float]
    rivals: Mapping[str, float] = field(default_factory=dict)
    problems: tuple[str, ...] = ()


@dataclass(frozen=True)
class Compared:
    """A figure of a run beside bare mlx-lm in the same run, and beside the run before. The ratios are
    above 1 where the hub, or the newer run, is the faster one; None where there is nothing to compare with."""

    kind: Kind
    value: float
    rival: float | None
    ratio: float | None
    change: float | None

    @property
    def worse(self) -> bool:
        return self.change is not None and self.change < _WORSE


def file() -> Path:
    return paths.root() / "benchmarks.jsonl"


def keep(run: Run) -> None:
    """Add a run to the history."""
    with file().open("a") as lines:
        lines.write(json.dumps(asdict(run)) + "\n")


def history() -> list[Run]:
    """The newest first; a line that cannot be read is left out."""
    try:
        lines = file().read_text().splitlines()
    except FileNotFoundError:
        return []
    found = []
    for line in reversed(lines):
        try:
            found.append(Run(**json.loads(line)))
        except (ValueError, TypeError):  # cut off when the disk was full, or of another version
            continue
    return found


def before(run: Run, runs: list[Run]) -> Run | None:
    """The newest of `runs`, which are older than `run`, that can be compared with it."""
    return next((one for one in runs if one.device == run.device), None)


def compare(run: Run, earlier: Run | None) -> list[Compared]:
    """The figures of `run` in the order of KINDS."""
    found = []
    for kind in KINDS:
        if (value := run.figures.get(kind.name)) is None:
            continue
        rival = run.rivals.get(kind.name)
        then = earlier.figures.get(kind.name) if earlier else None
        ratios = (_ratio(kind, value, other) for other in (rival, then))
        found.append(Compared(kind, value, rival, *ratios))
    return found


def _ratio(kind: Kind, value: float, other: float | None) -> float | None:
    if not other or not value:
        return None
    return other / value if kind.less else value / other
