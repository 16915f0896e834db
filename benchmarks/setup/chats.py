"""Chats that share nothing, not even their first words, so that no prompt cache can help."""

from __future__ import annotations

import random

from backends.base import Message
from benchmarks.setup.hub import ROOT

TASK = "Continue this text at length, as a story with many turns."


class Chats:
    """Draws chats from the project's own prose; equal seeds draw the same ones."""

    def __init__(self, seed: int) -> None:
        self._draw = random.Random(seed)
        prose = [*sorted((ROOT / "docs").glob("*.md")), ROOT / "README.md"]
        letters = "".join(c if c.isalpha() else " " for path in prose for c in path.read_text())
        self._words = [word for word in letters.split() if len(word) > 2]

    def text(self, words: int) -> str:
        at = self._draw.randrange(len(self._words) - words)
        return " ".join(self._words[at : at + words])

    def chat(self, words: int) -> list[Message]:
        """A system prompt that begins with a unique number, and a text to continue."""
        number = self._draw.randrange(10**6, 10**7)
        return [
            Message(role="system", content=f"{number} is your name. {TASK}"),
            Message(role="user", content=self.text(words)),
        ]
