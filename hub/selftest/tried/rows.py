"""Rows asked of a loaded model, and what came of them with its moments."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from backends.base import Delta, LoadedModel, Message, Sampling


@dataclass
class Answered:
    """One row. Moments are seconds after the first row of its batch was asked."""

    deltas: list[Delta] = field(default_factory=list)
    first_s: float = 0.0
    last_s: float = 0.0
    cached: int = 0

    @property
    def tokens(self) -> list[int]:
        return [delta.token for delta in self.deltas]

    @property
    def text(self) -> str:
        return "".join(delta.text for delta in self.deltas)

    @property
    def rate(self) -> float:
        """Tokens a second after the first."""
        return (len(self.deltas) - 1) / max(1e-9, self.last_s - self.first_s)


def ask(
    model: LoadedModel,
    prompts: Sequence[Sequence[int] | Sequence[Message]],
    sampling: Sampling,
    adapters: Sequence[Path | None] = (),
) -> list[Answered]:
    """All prompts in one batch, each a chat or tokens, with an adapter each where `adapters` are
    given."""
    began = time.perf_counter()
    rows = {str(number): Answered() for number in range(len(prompts))}
    for number, prompt in enumerate(prompts):
        chat = isinstance(prompt[0], dict)
        tokens = model.encode(prompt) if chat else prompt  # type: ignore[arg-type]
        adapter = adapters[number] if adapters else None
        rows[str(number)].cached = model.insert(str(number), tokens, adapter, sampling)  # type: ignore[arg-type]
    running = len(rows)
    while running:
        for delta in model.step():
            row = rows[delta.uid]
            row.last_s = time.perf_counter() - began
            row.first_s = row.first_s or row.last_s
            row.deltas.append(delta)
            running -= delta.finish_reason is not None
    return list(rows.values())


def rate_of(rows: Sequence[Answered]) -> float:
    """Tokens a second of all rows together, their prompts' reading included."""
    return sum(len(row.deltas) for row in rows) / max(row.last_s for row in rows)
