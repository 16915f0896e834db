"""The table of dialects: every way to say an example that is understood."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from typing import Any

from registry.datasets.dialects.anthropic import anthropic, is_anthropic
from registry.datasets.dialects.chats import chat, conversational, sharegpt
from registry.datasets.dialects.labelled import columns_of, labelled
from registry.datasets.dialects.labelled import is_label as can_be_label
from registry.datasets.dialects.messages import SYSTEM
from registry.datasets.dialects.pairs import (
    BESIDE,
    CONTEXT,
    is_answers,
    is_good,
    is_label,
    pair,
)
from registry.datasets.dialects.parts import Unused, listed
from registry.datasets.dialects.preferences import PROMPTS, openai_preference, preference
from registry.datasets.dialects.tools import only_calls
from registry.datasets.dialects.transcripts import glaive, is_transcript, transcript
from registry.datasets.files.values import BadLine, Row
from registry.datasets.formats import Format

_FEW = 30  # names of a row that are worth remembering


@dataclass(frozen=True)
class Dialect:
    """One way to say an example. A row is in it when it has all of `needs`, and `fits` agrees;
    `may` are the other fields that `read` knows."""

    name: str
    needs: tuple[str, ...]
    may: tuple[str, ...]
    read: Callable[[Row, Unused], tuple[Format, Row]]
    example: Row
    fits: Callable[[Row], bool] = lambda _: True
    paired: bool = False
    """Whether it is a chat only when a system prompt or earlier turns stand beside it."""
    because: str = ""
    """What `fits` looks for, for a person."""
    targets: Mapping[str, str] | Callable[[Iterable[str]], Mapping[str, str]] = field(
        default_factory=dict
    )
    """Which of `formats.COLUMNS` a field becomes, where its name does not say it; "" for none. A
    function of all fields where several names mean the same."""
    guessed: bool = False
    """Whether the text itself decides, which a column that a person chose does not ask."""

    @cached_property
    def fields(self) -> tuple[str, ...]:
        """All that is read, in the order in which it is shown."""
        return (*self.needs, *self.may)

    @cached_property
    def known(self) -> frozenset[str]:
        """The same, to look a name up in."""
        return frozenset(self.fields)

    def mapping(self, fields: Iterable[str]) -> dict[str, str]:
        """Which of `formats.COLUMNS` each of these fields becomes."""
        fields = list(fields)
        targets = self.targets(fields) if callable(self.targets) else self.targets
        found = {name: targets.get(name, _TARGETS.get(name, name)) for name in fields}
        found = {name: use for name, use in found.items() if use}
        if "chosen" in found.values() and "prompt" not in found.values():
            found = {name: "prompt" if use == "context" else use for name, use in found.items()}
        return found


_TARGETS = {
    "conversations": "messages",
    "conversation": "messages",
    "system_prompt": "system",
    "functions": "tools",
    "input": "context",
}


def _question(name: str, asked: str, answered: str, example: Row, **more: Any) -> Dialect:
    context = tuple(key for key in CONTEXT if key != asked)
    read = pair(asked, answered, context)
    return Dialect(
        name,
        (asked, answered),
        (*context, *BESIDE),
        read,
        example,
        paired=True,
        targets={asked: "prompt", answered: "completion"},
        **more,
    )


def _kto(row: Row, unused: Unused) -> tuple[Format, Row]:
    """KTO's answer with its label; a system prompt, earlier turns and tools belong to the prompt.
    Raises BadLine."""
    answer = {key: value for key, value in row.items() if key != "label"}
    dialect = match(answer)
    unused.note(answer, dialect.known)
    _, said = dialect.read(answer, unused)
    if "messages" in said:
        *asked, last = (
            {key: value for key, value in message.items() if key != "weight"}
            for message in said["messages"]
        )
        said = {**said, "prompt": asked, "completion": [last]}
    kept = {key: said[key] for key in ("prompt", "completion", "tools") if said.get(key)}
    example = {**kept, "label": is_good(row["label"])}
    same = row == example and isinstance(row["label"], bool)
    return "labelled", row if same else example


def _text(row: Row) -> tuple[Format, Row]:
    if not isinstance(row["text"], str) or not row["text"].strip():
        raise BadLine('"text" must be a non-empty text.')
    if isinstance(row.get("role"), str):
        raise BadLine(
            'has a "role" beside "text", so it is one message of a chat; put all messages of a chat '
            'into one row, as a list named "messages".'
        )
    return "text", row


def _labelled(columns: tuple[str, ...]) -> Dialect:
    """A text and its label, in the columns that a file has them in."""
    return Dialect(
        "Text and label",
        columns[:2],
        columns[2:],
        lambda row, unused: labelled(row, columns),
        {"text": "The soup was cold.", "label": "complaint"},
        lambda row: can_be_label(row[columns[1]]),
        targets=lambda names: dict(zip(columns_of(names), ("text", "label", ""), strict=False)),
    )


_ASKED = {"role": "user", "content": "Capital of Peru?"}
_GOOD = {"role": "assistant", "content": "Lima."}
_BAD = {"role": "assistant", "content": "Cusco."}

_LABELLED = _labelled(("text", "label"))
"""Stands in the table for all names that its two columns may have."""

DIALECTS = (
    Dialect(
        "OpenAI preferences",
        ("input", "preferred_output", "non_preferred_output"),
        (),
        openai_preference,
        {
            "input": {"messages": [_ASKED]},
            "preferred_output": [_GOOD],
            "non_preferred_output": [_BAD],
        },
        targets={
            "input": "prompt",
            "preferred_output": "chosen",
            "non_preferred_output": "rejected",
        },
    ),
    Dialect(
        "Preferences",
        ("chosen", "rejected"),
        tuple(dict.fromkeys((*PROMPTS, *CONTEXT, *SYSTEM, "tools"))),
        preference,
        {"prompt": "Capital of Peru?", "chosen": "Lima.", "rejected": "Cusco."},
        targets={**dict.fromkeys(PROMPTS, "prompt"), "input": "context"},
    ),
    Dialect(
        "Anthropic messages",
        ("messages",),
        (*SYSTEM, "tools"),
        anthropic,
        {
            "system": "Use the tool.",
            "messages": [
                {"role": "user", "content": "Weather in Lima?"},
                {
                    "role": "assistant",
                    "content": [
                        {"type": "text", "text": "I look."},
                        {"type": "tool_use", "id": "t1", "name": "look", "input": {"at": "Lima"}},
                    ],
                },
                {
                    "role": "user",
                    "content": [{"type": "tool_result", "tool_use_id": "t1", "content": "Sun"}],
                },
                {"role": "assistant", "content": [{"type": "text", "text": "Sunny."}]},
            ],
        },
        is_anthropic,
        because="blocks or tools as only Anthropic's messages have",
    ),
    Dialect(
        "Chat messages",
        ("messages",),
        (*SYSTEM, "tools", "functions"),
        chat,
        {"messages": [_ASKED, _GOOD]},
    ),
    Dialect(
        "ShareGPT",
        ("conversations",),
        (*SYSTEM, "tools", "functions", "conversation"),
        sharegpt,
        {
            "system": "Use the tool.",
            "tools": '[{"name": "look", "parameters": {}}]',
            "conversations": [
                {"from": "human", "value": "Weather in Lima?"},
                {"from": "function_call", "value": '{"name": "look", "arguments": {"at": "Lima"}}'},
                {"from": "observation", "value": "Sun"},
                {"from": "gpt", "value": "Sunny."},
            ],
        },
    ),
    Dialect(
        "Conversation",
        ("conversation",),
        (*SYSTEM, "tools", "functions"),
        sharegpt,
        {"conversation": [_ASKED, _GOOD]},
    ),
    Dialect(
        "Labelled answers",
        ("prompt", "completion", "label"),
        (*CONTEXT, *BESIDE, "tools", "functions"),
        _kto,
        {"prompt": "Capital of Peru?", "completion": "Lima.", "label": True},
        is_label,
        because="labels that say good or bad",
    ),
    Dialect(
        "Prompt and completion as messages",
        ("prompt", "completion"),
        (*SYSTEM, "tools", "functions"),
        conversational,
        {"prompt": [_ASKED], "completion": [_GOOD]},
        lambda row: any(
            isinstance(row[key], list | dict) and not is_answers(row[key])
            for key in ("prompt", "completion")
        ),
        because="messages in one of them",
    ),
    Dialect(
        "Prompt and completion",
        ("prompt", "completion"),
        (*CONTEXT, *BESIDE),
        pair("prompt", "completion"),
        {"prompt": "Capital of Peru?", "completion": "Lima."},
        paired=True,
    ),
    _question(
        "Alpaca",
        "instruction",
        "output",
        {
            "system": "Be short.",
            "history": [["Hello", "Hi."]],
            "instruction": "Add the numbers.",
            "input": "1, 2",
            "output": "3",
        },
    ),
    _question(
        "Dolly",
        "instruction",
        "response",
        {"instruction": "Capital?", "context": "Lima is Peru's capital.", "response": "Lima."},
    ),
    _question(
        "Question and answer",
        "question",
        "answer",
        {"question": "Capital?", "context": "Lima is Peru's capital.", "answer": "Lima."},
    ),
    _question(
        "OpenOrca",
        "question",
        "response",
        {"system_prompt": "Be short.", "question": "Capital of Peru?", "response": "Lima."},
    ),
    _question(
        "Query and response",
        "query",
        "response",
        {"query": "Capital of Peru?", "response": "Lima."},
    ),
    _question(
        "Query and answer",
        "query",
        "answer",
        {"query": "Capital of Peru?", "answer": "Lima."},
    ),
    Dialect(
        "xLAM function calling",
        ("query", "answers", "tools"),
        (),
        only_calls,
        {
            "query": "Weather in Lima?",
            "answers": '[{"name": "look", "arguments": {"at": "Lima"}}]',
            "tools": '[{"name": "look", "parameters": {"at": {"type": "str"}}}]',
        },
        targets={"query": "prompt", "answers": "completion"},
    ),
    _question(
        "SQuAD",
        "question",
        "answers",
        {
            "question": "Capital?",
            "context": "Lima is Peru's capital.",
            "answers": {"text": ["Lima"]},
        },
        fits=lambda row: is_answers(row["answers"]),
        because="answers in a list of texts",
    ),
    _question(
        "Problem and solution",
        "problem",
        "solution",
        {"problem": "1 + 1?", "solution": "2"},
    ),
    _question(
        "Inputs and targets",
        "inputs",
        "targets",
        {"inputs": "Capital of Peru?", "targets": "Lima."},
    ),
    _question(
        "Prompt and response",
        "prompt",
        "response",
        {"prompt": "Capital of Peru?", "response": "Lima."},
    ),
    _question(
        "Input and output",
        "input",
        "output",
        {"input": "Capital of Peru?", "output": "Lima."},
    ),
    _LABELLED,
    Dialect(
        "Glaive function calling",
        ("chat",),
        ("system",),
        glaive,
        {
            "system": 'SYSTEM: Use them if required -\n{"name": "look", "parameters": {}}',
            "chat": "USER: Weather in Lima?\n\n\nASSISTANT: <functioncall> "
            '{"name": "look", "arguments": \'{"at": "Lima"}\'} <|endoftext|>\n\n\n'
            "FUNCTION RESPONSE: Sun\n\n\nASSISTANT: Sunny. <|endoftext|>",
        },
        lambda row: is_transcript(row["chat"]),
        because="USER: and ASSISTANT: before each turn",
        targets={"chat": "messages"},
    ),
    Dialect(
        "Chat written as a text",
        ("text",),
        (),
        transcript,
        {"text": "### Human: Capital of Peru?### Assistant: Lima."},
        lambda row: is_transcript(row["text"]),
        because="Human: and Assistant: before each turn",
        targets={"text": "messages"},
        guessed=True,
    ),
    Dialect(
        "Plain text",
        ("text",),
        (),
        lambda row, unused: _text(row),
        {"text": "Lima is the capital of Peru."},
        lambda row: not any(row.get(key) is not None for key in ("prompt", "completion")),
    ),
)


def match(row: Row, *, chosen: bool = False) -> Dialect:
    """The first dialect of the table that the row is in; `chosen` when a person chose its columns.
    Raises BadLine for none."""
    named = _named if len(row) <= _FEW else _named.__wrapped__
    for dialect in named(tuple(row)):
        if chosen and dialect.guessed:
            continue
        if all(row.get(key) is not None for key in dialect.needs) and dialect.fits(row):
            return dialect
    raise BadLine(_why_none(row))


@lru_cache(maxsize=16)
def _named(names: tuple[str, ...]) -> tuple[Dialect, ...]:
    """The dialects that a row with these names may be in; most rows of a file have the same."""
    columns = columns_of(names)
    table = [
        _labelled(columns) if dialect is _LABELLED and columns else dialect for dialect in DIALECTS
    ]
    return tuple(dialect for dialect in table if set(dialect.needs) <= set(names))


def _why_none(row: Row) -> str:
    """What an almost right row lacks."""
    for one, other in (("prompt", "completion"), ("completion", "prompt")):
        if row.get(one) is not None:
            return f'"{other}" must be a non-empty text.'
    for key in ("messages", "prompt", "text"):
        if key in row:
            return f'"{key}" is empty.'
    return (
        'has none of "messages", "prompt" and "completion", or "text"; map its columns yourself: '
        f"{listed(row) or 'it has nothing'}."
    )
