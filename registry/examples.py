"""Reading JSONL examples: three formats, and errors that name the file and the line."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

from registry.errors import Invalid
from registry.models import Dataset

_ROLES = ("system", "user", "assistant", "tool")
_LONGEST_LINE = 16 << 20  # bytes
_SHOWN = 5

FIELDS = {
    Dataset.Format.CHAT: {"messages": "array of {role, content}"},
    Dataset.Format.COMPLETIONS: {"prompt": "string", "completion": "string"},
    Dataset.Format.TEXT: {"text": "string"},
}


class BadLine(ValueError):
    """What is wrong with one example, without saying where."""


@dataclass
class Reader:
    """Reads files of one data set: the first example decides the format of all of them.

    Problems are collected, so that a person can mend several at once; `check` raises them.
    """

    format: Dataset.Format | None = None
    characters: int = 0
    longest: int = 0
    problems: list[str] = field(default_factory=list)
    unshown: int = 0

    def read(self, path: Path) -> Iterator[str]:
        """Every good example of `path`, as a line without surrounding space or line end."""
        with path.open("rb") as file:
            for number, raw in enumerate(iter(lambda: file.readline(_LONGEST_LINE), b""), start=1):
                try:
                    line = self._line(raw, first=number == 1)
                except BadLine as error:
                    self._note(f"{path.name} line {number}: {error}")
                    if len(raw) == _LONGEST_LINE:
                        return
                    continue
                if line:
                    yield line

    def check(self) -> Dataset.Format:
        """The format of what was read. Raises Invalid with the problems that `read` met."""
        if self.problems:
            more = f" And {self.unshown} more." if self.unshown else ""
            raise Invalid(" ".join(self.problems) + more)
        if self.format is None:
            raise Invalid("The file holds no example.")
        return self.format

    def _line(self, raw: bytes, *, first: bool) -> str:
        if len(raw) == _LONGEST_LINE:
            raise BadLine(f"the line is longer than {_LONGEST_LINE >> 20} MiB.")
        try:
            line = raw.decode("utf-8-sig" if first else "utf-8").strip()
        except UnicodeDecodeError:
            raise BadLine("the text is not UTF-8.") from None
        if line:
            found = check_example(parse(line))
            self.format = self.format or found
            if found != self.format:
                raise BadLine(f"is a {found} example in a data set of {self.format} examples.")
            self.characters += len(line)
            self.longest = max(self.longest, len(line))
        return line

    def _note(self, problem: str) -> None:
        if len(self.problems) < _SHOWN:
            self.problems.append(problem)
        else:
            self.unshown += 1


def parse(line: str) -> dict[str, Any]:
    """The JSON object on one line. Raises BadLine."""
    try:
        value = json.loads(line, parse_constant=_no_constant)
        line_again = json.dumps(value, ensure_ascii=False)
        line_again.encode()
    except json.JSONDecodeError as error:
        raise BadLine(f"is not JSON ({error.msg} at column {error.colno}).") from None
    except UnicodeEncodeError:
        raise BadLine("holds half of a surrogate pair, which is no character.") from None
    except RecursionError:
        raise BadLine("is nested too deeply.") from None
    if not isinstance(value, dict):
        raise BadLine("is not a JSON object.")
    return value


def _no_constant(name: str) -> NoReturn:
    raise BadLine(f"holds {name}, which is not JSON.")


def check_example(example: dict[str, Any]) -> Dataset.Format:
    """Which format an example is in. Raises BadLine when it is in none."""
    if "messages" in example:
        _check_messages(example["messages"])
        return Dataset.Format.CHAT
    if "prompt" in example or "completion" in example:
        _check_text(example, "prompt")
        _check_text(example, "completion")
        return Dataset.Format.COMPLETIONS
    if "text" in example:
        _check_text(example, "text")
        return Dataset.Format.TEXT
    raise BadLine('has none of "messages", "prompt" and "completion", or "text".')


def _check_text(example: dict[str, Any], key: str) -> None:
    if not isinstance(example.get(key), str) or not example[key].strip():
        raise BadLine(f'"{key}" must be a text that is not empty.')


def _check_messages(messages: object) -> None:
    if not isinstance(messages, list) or not messages:
        raise BadLine('"messages" must be a list that is not empty.')
    for position, message in enumerate(messages, start=1):
        if not isinstance(message, dict) or message.get("role") not in _ROLES:
            raise BadLine(f"message {position} needs a role of {', '.join(_ROLES)}.")
        if not isinstance(message.get("content"), str):
            raise BadLine(f"message {position} needs a content that is a text.")
    if messages[-1]["role"] != "assistant" or not messages[-1]["content"].strip():
        raise BadLine("the last message must be the assistant's answer.")
