"""How the fake backend reads training data: checked as a real one does, a word is a token."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from backends.base import TrainingConfig
from backends.examples import Split, as_chat, conversation, read_jsonl


@dataclass(frozen=True)
class Line:
    """An example: its JSON text, its number in the file from 1, a request and the right answer for
    people to read, and its number of tokens, of which the ones from `start` on are learned."""

    number: int
    text: str
    prompt: str
    expected: str
    start: int
    tokens: int


def read_split(path: Path, config: TrainingConfig) -> Split[Line]:
    """The usable examples of the JSON-lines file `path`. Raises BadExample."""

    def parse(value: Any, number: int) -> Line:
        if config.objective == "sft":
            chat = conversation(value)
        else:
            chat, rejected = (conversation(as_chat(value, a)) for a in ("chosen", "rejected"))
            if chat == rejected:
                raise ValueError("the chosen and the rejected answer are the same")
        if isinstance(chat, str):  # a plain text is continued from its middle
            words = chat.split()
            prompt, expected = (
                " ".join(part) for part in (words[: len(words) // 2], words[len(words) // 2 :])
            )
        else:
            prompt, expected = chat[-2]["content"], chat[-1]["content"].strip()
        asked, said = tokens(value)
        masked = config.mask_prompt or config.objective != "sft"
        start = len(asked) if masked else 0
        return Line(number, json.dumps(value), prompt, expected, start, len(asked) + len(said))

    def fit(line: Line) -> tuple[Line | None, bool]:
        limit = config.max_seq_length
        return line if line.start < limit else None, line.tokens > limit

    return read_jsonl(path, parse, fit)


def tokens(value: dict[str, Any]) -> tuple[list[str], list[str]]:
    """(prompt, answer) of an example, whose answer ends with one token more."""
    if "text" in value:
        return [], [*value["text"].split(), "</s>"]
    if "messages" in value and "chosen" not in value:
        *before, last = value["messages"]
        asked = " ".join(f"<{m['role']}> {m['content']}" for m in before)
        said = last["content"] or json.dumps(last.get("tool_calls"))
    else:
        asked = json.dumps(value.get("prompt", value.get("messages")))
        said = json.dumps(value.get("completion", value.get("chosen")))
    return [*asked.split(), "<assistant>"], [*said.split(), "</s>"]
