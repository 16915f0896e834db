"""The table of dialects: every way to say an example that is understood."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property, lru_cache
from typing import Any

from registry.datasets.dialects.anthropic import anthropic, is_anthropic
from registry.datasets.dialects.chats import (
    INSTRUCTIONS,
    chat,
    conversational,
    gemini,
    sharegpt,
)
from registry.datasets.dialects.classified import (
    LABELS,
    Columns,
    can_be_label,
    classified,
    columns_of,
)
from registry.datasets.dialects.messages import SYSTEM
from registry.datasets.dialects.pairs import (
    BESIDE,
    CONTEXT,
    KIN,
    THOUGHTS,
    is_answers,
    is_good,
    is_message,
    is_number,
    kin_of,
    pair,
)
from registry.datasets.dialects.parts import Unused, by_plain_name, listed, plain_name
from registry.datasets.dialects.preferences import PROMPTS, openai_preference, preference
from registry.datasets.dialects.tools import only_calls
from registry.datasets.dialects.transcripts import glaive, is_transcript, transcript
from registry.datasets.files.values import BadLine, Row
from registry.datasets.formats import Format

_SPLITS = frozenset({"train", "valid", "validation", "test"})
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
    within: bool = False
    """Whether all but `needs` is read by another dialect, which `read` looks up."""

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
        found = {
            name: targets.get(name, targets.get(plain, _TARGETS.get(plain, plain)))
            for name, plain in ((name, plain_name(name)) for name in fields)
        }
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
    "passage": "context",
    **dict.fromkeys(THOUGHTS, "thoughts"),
    "kto_tag": "label",
    "contents": "messages",
    **dict.fromkeys(INSTRUCTIONS, "system"),
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


def _kto(key: str) -> Callable[[Row, Unused], tuple[Format, Row]]:
    """Reads an answer that the column `key` calls good or bad; all before it is the prompt."""

    def read(row: Row, unused: Unused) -> tuple[Format, Row]:
        answer = {name: value for name, value in row.items() if name != key}
        dialect = match(answer)
        unused.note(answer, dialect.known)
        _, said = dialect.read(answer, unused)
        if "messages" in said:
            *asked, last = (
                {name: value for name, value in message.items() if name != "weight"}
                for message in said["messages"]
            )
            said = {**said, "prompt": asked, "completion": [last]}
        kept = {name: said[name] for name in ("prompt", "completion", "tools") if said.get(name)}
        example = {**kept, "label": is_good(row[key])}
        return "labelled", row if row == example and isinstance(row[key], bool) else example

    return read


def _is_kto(key: str) -> Callable[[Row], bool]:
    """Whether `key` says good or bad of an answer. A number called "label" may mean anything, such
    as a class or that an answer is harmful; only TRL's prompt and completion make it good or bad."""

    def fits(row: Row) -> bool:
        if is_good(row[key]) is None:
            return False
        try:
            dialect = match({name: value for name, value in row.items() if name != key})
        except BadLine:
            return False
        if dialect.name in _TRL:
            return True
        answers = dialect.paired or dialect.name in _CHATS
        return answers and (key == "kto_tag" or not is_number(row[key]))

    return fits


def _labelled(name: str, key: str, example: Row) -> Dialect:
    return Dialect(
        name,
        (key,),
        _OF_LABELLED,
        _kto(key),
        example,
        _is_kto(key),
        because="an answer beside it that it calls good or bad",
        targets=_of_kin,
        within=True,
    )


_TRL = ("Prompt and completion", "Prompt and completion as messages")
_CHATS = ("Chat messages", "ShareGPT", "Conversation", "Anthropic messages")
_OF_LABELLED = tuple(
    dict.fromkeys(
        (
            *("prompt", "completion", "messages", "conversations", "conversation"),
            *("tools", "functions", *CONTEXT, *BESIDE),
            *(name for asked, answered in KIN for name in (*asked, *answered)),
        )
    )
)


def _text(row: Row) -> tuple[Format, Row]:
    if not isinstance(row["text"], str) or not row["text"].strip():
        raise BadLine('"text" must be a non-empty text.')
    if isinstance(row.get("role"), str):
        raise BadLine(
            'has a "role" beside "text", so it is one message of a chat; put all messages of a chat '
            'into one row, as a list named "messages".'
        )
    return "text", row


def _classified(columns: Columns) -> Dialect:
    """A text and its label, in the columns that a file has them in."""
    return Dialect(
        "Text and label",
        (*columns.texts, columns.label),
        columns.number,
        lambda row, unused: classified(row, columns),
        {"text": "The soup was cold.", "label": "complaint"},
        lambda row: can_be_label(row[columns.label]),
        targets=_of_classified,
    )


def _of_classified(names: Iterable[str]) -> dict[str, str]:
    columns = columns_of(names)
    if columns is None:
        return {}
    text, *other = columns.texts
    return {
        text: "text",
        **dict.fromkeys(other, "context"),
        columns.label: "label",
        **dict.fromkeys(columns.number, ""),
    }


def _kin(asked: str, answered: str) -> Dialect:
    """A question and its answer under other names than most files have."""
    context = tuple(key for key in CONTEXT if key not in (asked, answered))
    return Dialect(
        "Question and answer by other names",
        (asked, answered),
        (*context, *BESIDE),
        pair(asked, answered, context),
        {"user": "Capital of Peru?", "assistant": "Lima."},
        lambda row: asked != "text" or not _is_rendered(row["text"], row[answered]),
        paired=True,
        targets=_of_kin,
    )


def _of_kin(names: Iterable[str]) -> dict[str, str]:
    found = kin_of(names)
    return {found[0]: "prompt", found[1]: "completion"} if found else {}


_ANSWERED = re.compile(
    r"### ?(?:Response|Answer|Output|Assistant)\b|\[/INST\]|<\|im_start\|>assistant|<\|assistant\|>"
    r"|<\|start_header_id\|>assistant|<start_of_turn>model"
)
"""What Alpaca's form and chat templates write before an answer."""


def _is_rendered(text: Any, answer: Any) -> bool:
    """Whether a text is a prompt with this answer below it, as Alpaca's column `text` is; a text from
    which the answer is taken, or that it summarizes, has no such mark."""
    if not isinstance(text, str) or not isinstance(answer, str):
        return False
    *_, mark = [None, *_ANSWERED.finditer(text)]
    return mark is not None and answer.strip() in text[mark.end() :]


def _renamed(dialect: Dialect, own: Mapping[str, str]) -> Dialect:
    """The same dialect for a file that writes some of its names with capitals or spaces; `own` has
    the file's name of each."""
    if all(own.get(name, name) == name for name in dialect.fields):
        return dialect
    read = dialect.needs if dialect.within else dialect.fields
    known = {own[name]: name for name in read if name in own}

    def plain(row: Row) -> Row:
        return {known.get(name, name): value for name, value in row.items()}

    return replace(
        dialect,
        needs=tuple(own[name] for name in dialect.needs),
        may=tuple(own.get(name, name) for name in dialect.may),
        read=lambda row, unused: dialect.read(plain(row), unused),
        fits=lambda row: dialect.fits(plain(row)),
    )


def _has_messages(value: Any) -> bool:
    return is_message(value) or (isinstance(value, list) and any(map(is_message, value)))


_ASKED = {"role": "user", "content": "Capital of Peru?"}
_GOOD = {"role": "assistant", "content": "Lima."}
_BAD = {"role": "assistant", "content": "Cusco."}

_CLASSIFIED = _classified(Columns(("text",), "label"))
_KIN = _kin("user", "assistant")
"""These two stand in the table for all names that their columns may have."""

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
    _labelled(
        "Labelled answers",
        "label",
        {"prompt": "Capital of Peru?", "completion": "Lima.", "label": True},
    ),
    _labelled(
        "KTO tags",
        "kto_tag",
        {
            "conversations": [
                {"from": "human", "value": "Capital of Peru?"},
                {"from": "gpt", "value": "Cusco."},
            ],
            "kto_tag": False,
        },
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
        "Prompt and completion as messages",
        ("prompt", "completion"),
        (*SYSTEM, "tools", "functions"),
        conversational,
        {"prompt": [_ASKED], "completion": [_GOOD]},
        lambda row: _has_messages(row["prompt"]) or _has_messages(row["completion"]),
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
    _CLASSIFIED,
    _KIN,
    Dialect(
        "Gemini contents",
        ("contents",),
        INSTRUCTIONS,
        gemini,
        {
            "contents": [
                {"role": "user", "parts": [{"text": "Capital of Peru?"}]},
                {"role": "model", "parts": [{"text": "Lima."}]},
            ]
        },
    ),
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


@lru_cache(maxsize=64)
def _named(names: tuple[str, ...]) -> tuple[Dialect, ...]:
    """The dialects that a row with these names may be in; most rows of a file have the same."""
    own = by_plain_name(names)
    found = []
    for dialect in DIALECTS:
        if dialect is _CLASSIFIED:
            found += _by_names(names, own)
        elif dialect is not _KIN and own.keys() >= set(dialect.needs):
            found.append(_renamed(dialect, own))
    return tuple(found)


def _by_names(names: tuple[str, ...], own: Mapping[str, str]) -> list[Dialect]:
    """A text and its label, or a question and its answer. Beside an answer a label is not learned,
    also where a row lacks the answer; one column that may be both is a label where it can be one."""
    columns, kin = columns_of(names), kin_of(names)
    labelled = [_classified(columns)] if columns else []
    if kin is None:
        return labelled
    asked, answered = map(plain_name, kin)
    answers = [_renamed(_kin(asked, answered), own)]
    if columns and (
        kin[1] in (columns.label, *columns.number) or (asked == "text" and answered in LABELS)
    ):
        return [*labelled, *answers]
    return answers


def _why_none(row: Row) -> str:
    """What an almost right row lacks."""
    has = f"; map its columns yourself: {listed(row) or 'it has nothing'}."
    for one, other in (("prompt", "completion"), ("completion", "prompt")):
        if row.get(one) is not None:
            return (
                f'"{other}" must be a non-empty text.'
                if other in row
                else f'has "{one}" and no "{other}"{has}'
            )
    for key in ("messages", "prompt", "text"):
        if key in row and not row[key]:
            return f'"{key}" is empty.'
    if _said_by(row):
        return (
            "is one message of a chat; put all messages of a chat into one row, as a list named "
            '"messages".'
        )
    if _is_table(row):
        return (
            "holds many rows in one object; write a list of rows, or an object per line (pandas: "
            'to_json(..., orient="records", lines=True)), and each split into a file of its own.'
        )
    return f'has none of "messages", "prompt" and "completion", or "text"{has}'


def _said_by(row: Row) -> bool:
    return isinstance(row.get("role"), str) and isinstance(row.get("content"), str)


def _is_table(row: Row) -> bool:
    """Whether it is columns of many rows, as pandas writes them, or many rows by split or number."""
    values = list(row.values())
    if not values:
        return False
    if all(isinstance(value, dict) for value in values):
        named = [*row] if len(values) == 1 else [*values[0]]
        return bool(named) and all(str(name).isdecimal() for name in named)
    if not all(isinstance(value, list) and value for value in values):
        return False
    rows = all(isinstance(item, dict) for value in values for item in value)
    if row.keys() <= _SPLITS:
        return rows
    return len({len(value) for value in values}) == 1 < len(values)
