"""The table of dialects: every way to say an example that is understood."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, lru_cache

from registry.datasets.dialects.anthropic import anthropic, is_anthropic
from registry.datasets.dialects.chats import chat, conversational, sharegpt
from registry.datasets.dialects.labelled import columns_of, labelled
from registry.datasets.dialects.labelled import is_label as can_be_label
from registry.datasets.dialects.messages import SYSTEM
from registry.datasets.dialects.pairs import BESIDE, CONTEXT, is_good, is_label, pair
from registry.datasets.dialects.parts import Unused, listed
from registry.datasets.dialects.preferences import PROMPTS, openai_preference, preference
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

    @cached_property
    def fields(self) -> tuple[str, ...]:
        """All that is read, in the order in which it is shown."""
        return (*self.needs, *self.may)

    @cached_property
    def known(self) -> frozenset[str]:
        """The same, to look a name up in."""
        return frozenset(self.fields)


def _question(name: str, asked: str, answered: str, example: Row) -> Dialect:
    context = tuple(key for key in CONTEXT if key != asked)
    read = pair(asked, answered, context)
    return Dialect(name, (asked, answered), (*context, *BESIDE), read, example, paired=True)


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
    ),
    Dialect(
        "Preferences",
        ("chosen", "rejected"),
        (*PROMPTS, *CONTEXT, *SYSTEM, "tools"),
        preference,
        {"prompt": "Capital of Peru?", "chosen": "Lima.", "rejected": "Cusco."},
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
        (*BESIDE, "tools", "functions"),
        _kto,
        {"prompt": "Capital of Peru?", "completion": "Lima.", "label": True},
        is_label,
    ),
    Dialect(
        "Prompt and completion as messages",
        ("prompt", "completion"),
        (*SYSTEM, "tools", "functions"),
        conversational,
        {"prompt": [_ASKED], "completion": [_GOOD]},
        lambda row: any(isinstance(row[key], list | dict) for key in ("prompt", "completion")),
    ),
    Dialect(
        "Prompt and completion",
        ("prompt", "completion"),
        BESIDE,
        pair("prompt", "completion", ()),
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
        "Plain text",
        ("text",),
        (),
        lambda row, unused: _text(row),
        {"text": "Lima is the capital of Peru."},
        lambda row: not any(row.get(key) is not None for key in ("prompt", "completion")),
    ),
)


def match(row: Row) -> Dialect:
    """The first dialect of the table that the row is in. Raises BadLine for none."""
    named = _named if len(row) <= _FEW else _named.__wrapped__
    for dialect in named(tuple(row)):
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
