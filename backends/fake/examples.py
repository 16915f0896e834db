"""How the fake backend reads training data: checked as a real one does, a word is a token."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from backends import thoughts as thinking
from backends.base import Learn, Thoughts, TrainingConfig
from backends.examples import (
    BAD,
    EMPTY,
    OVERRULED,
    Split,
    as_chat,
    conversation,
    good_answer,
    is_labelled,
    is_learned,
    judged,
    of_the_last,
    read_jsonl,
)

type Run = tuple[list[str], bool]
"""Words of an example, and whether they are learned."""


@dataclass(frozen=True)
class Line:
    """An example: its JSON text, its number in the file from 1, a request and the right answer for
    people to read, and its number of tokens, of which `learned` are learned within the limit."""

    number: int
    text: str
    prompt: str
    expected: str
    learned: int
    tokens: int


def read_split(path: Path, config: TrainingConfig) -> Split[Line]:
    """The usable examples of the JSON-lines file `path`. Raises BadExample."""
    learn: Learn = config.learn if config.objective == "sft" else "last_answer"
    noted: Counter[str] = Counter()

    def line(value: dict[str, Any], number: int, learn: Learn = learn) -> Line:
        chat = conversation(as_chat(value) if "chosen" in value else value)
        if isinstance(chat, str):  # a plain text is continued from its middle
            words = chat.split()
            prompt, expected = (
                " ".join(part) for part in (words[: len(words) // 2], words[len(words) // 2 :])
            )
        else:
            prompt, expected = chat[-2]["content"], chat[-1]["content"].strip()
        found = runs(value, learn, config.thoughts)
        noted.update(notes(value, learn, config.thoughts))
        tokens = sum(len(words) for words, _ in found)
        learned = count_learned(found, config.max_seq_length)
        return Line(number, json.dumps(value), prompt, expected, learned, tokens)

    def parse(value: Any, number: int) -> list[Line]:
        if config.objective == "sft":
            if not (isinstance(value, dict) and is_labelled(value)):
                conversation(value)
                return [line(value, number)]
            chat, good = good_answer(value)
            found = line(chat, number, of_the_last(config.learn))
            noted.update([] if good else [BAD])
            return [found if good else replace(found, learned=0)]
        if config.objective == "kto":
            answers = [chat for chat, _ in judged(value)]
        else:
            answers = [as_chat(value, answer) for answer in ("chosen", "rejected")]
        said = [conversation(answer) for answer in answers]
        if len(said) > 1 and said[0] == said[1]:
            raise ValueError("the chosen and the rejected answer are the same")
        return [line(one, number) for one in (answers if config.objective == "kto" else [value])]

    def fit(lines: list[Line]) -> tuple[list[Line] | None, bool]:
        long = max(line.tokens for line in lines) > config.max_seq_length
        return lines if all(line.learned for line in lines) else None, long

    split = read_jsonl(path, parse, fit)
    lines = [line for group in split.examples for line in group]
    return Split(lines, split.truncated, split.dropped, dict(noted))


def runs(value: dict[str, Any], learn: Learn, thoughts: Thoughts = "kept") -> list[Run]:
    """The words of an example, of which every answer ends with one more, by what is learned."""
    everything = learn == "everything"
    if "text" in value:
        return [([*value["text"].split(), "</s>"], True)]
    if "messages" not in value or "chosen" in value:
        asked = json.dumps(value.get("prompt", value.get("messages")))
        said = value.get("completion", value.get("chosen"))
        if isinstance(said, str):
            said = thinking.spoken([{"role": "assistant", "content": said}], thoughts)[0]["content"]
        answer = _answer(json.dumps(said), True, thoughts)
        return [([*asked.split(), "<assistant>"], everything), *answer]
    found: list[Run] = []
    messages = thinking.spoken(value["messages"], thoughts)
    for number, message in enumerate(messages):
        last = number == len(messages) - 1
        said = message["content"] or json.dumps(message.get("tool_calls"))
        found.append(([f"<{message['role']}>"], everything))
        if message["role"] != "assistant":
            found.append((said.split(), everything))
        else:
            wanted = last or (learn == "answers" and not _is_empty(message))
            learned = everything or (wanted and is_learned(message))
            found += _answer(said, learned, thoughts)
    return found


def _answer(said: str, learned: bool, thoughts: Thoughts) -> list[Run]:
    """The words of an answer, and its end; masked thoughts are not learned."""
    found: list[Run] = []
    at = 0
    for start, end in thinking.places(said) if thoughts == "masked" else ():
        found += [(said[at:start].split(), learned), (said[start:end].split(), False)]
        at = end
    return [*found, ([*said[at:].split(), "</s>"], learned)]


def notes(value: dict[str, Any], learn: Learn, thoughts: Thoughts = "kept") -> list[str]:
    """Why answers are not learned, or are learned, against the setting."""
    *before, last = thinking.spoken(value.get("messages") or [{}], thoughts)
    if learn == "everything":
        return [OVERRULED for message in (*before, last) if not is_learned(message)]
    if learn == "last_answer" or "chosen" in value:
        return []
    answers = [message for message in before if message["role"] == "assistant"]
    return [EMPTY for message in answers if is_learned(message) and _is_empty(message)]


def count_learned(found: list[Run], limit: int) -> int:
    """Learned words among the first `limit`."""
    every = [learned for words, learned in found for _ in words]
    return sum(every[:limit])


def _is_empty(message: dict[str, Any]) -> bool:
    return not message["content"].strip() and not message.get("tool_calls")
