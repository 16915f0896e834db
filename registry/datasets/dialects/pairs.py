"""A question and its answer in two columns, and what stands beside them."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any

from backends.thoughts import FIELD, FIELDS
from registry.datasets.dialects.messages import finished, read_messages, system_prompt
from registry.datasets.dialects.parts import (
    Unused,
    by_plain_name,
    check_text,
    decoded,
    listed,
    plain_name,
)
from registry.datasets.files.values import BadLine, Row, Struct, dump
from registry.datasets.formats import Format

CONTEXT = ("input", "context", "passage")
THOUGHTS = (*FIELDS, "thoughts", "complex_cot", "chain_of_thought", "cot")
"""What was thought before the answer, in a column of its own."""
BESIDE = ("system", "system_prompt", "history", *THOUGHTS)
KIN = (
    (
        (
            *("prompt", "instruction", "question", "query", "problem", "input", "inputs"),
            *("text_input", "user_input"),
        ),
        (
            *("completion", "response", "output", "answer", "solution", "targets", "target"),
            *("generation", "reply", "assistant", "gpt", "bot"),
        ),
    ),
    (("user", "human"), ("assistant", "gpt", "bot")),
    (("article", "document", "dialogue", "dialog", "text"), ("summary", "highlights")),
    (("src",), ("tgt",)),
    (("text",), ("completion", "response", "output", "answer", "target")),
)
"""Names under which files have what is asked, each with those of what is answered to it. `source`
is none of them: most often it says where a row is from."""
_POSTS = frozenset({"text", "message", "tweet", "comment", "post", "content", "body"})
"""Columns beside which `user` is who wrote them, and not what was asked."""
_CHOICES = ("choices", "options")
_LETTERS = frozenset("abcd")

_FALSE = ("false", "no", "bad", "undesirable", "rejected", "falsch", "faux", "falso", "onwaar")
_TRUE = (
    *("true", "yes", "good", "desirable", "chosen", "wahr", "vrai", "verdadero", "vero", "waar"),
    "verdadeiro",
)
"""Labels in words; a spreadsheet writes true and false in its own language."""


def pair(
    asked: str, answered: str, context: tuple[str, ...] = CONTEXT
) -> Callable[[Row, Unused], tuple[Format, Row]]:
    """Reads a question with its context, perhaps after a system prompt and earlier turns (then it
    is a chat)."""

    def read(row: Row, unused: Unused) -> tuple[Format, Row]:
        check_text(row, asked)
        _check_no_choices(row)
        answer = _answer(row, answered, unused)
        before, thoughts = _before(row), _thoughts(row, unused)
        example = {"prompt": with_context(row, asked, context), "completion": answer}
        if before or thoughts:
            question, said = lifted(example)["messages"]
            messages = [*before, question, said | thoughts]
            return finished({}, read_messages(messages, unused), [])
        same = all(row.get(key) is value for key, value in example.items())
        return "completions", row if same else example

    return read


def is_answers(value: Any) -> bool:
    """Whether it is SQuAD's answers: an object with a list of texts."""
    return isinstance(value, dict) and isinstance(value.get("text"), list)


def _answer(row: Row, key: str, unused: Unused) -> str:
    """The answer, or the first of SQuAD's. Raises BadLine."""
    value = row[key]
    if is_answers(value):
        unused.note(value, frozenset({"text"}), f"{key}.")
        texts: list[Any] = value["text"]
        if not texts:
            raise BadLine(
                f'"{key}" holds none; leave out questions without an answer, or write what the '
                "model should say to them."
            )
        if any(text != texts[0] for text in texts):
            unused.add(f"{key}.text after the first")
        value = texts[0]
    if isinstance(value, float) and not math.isfinite(value):
        raise BadLine(
            f'"{key}" is {value}, which is no answer; leave the row out, or write what the model '
            "should say."
        )
    if isinstance(value, bool | int | float) or _is_json(value):
        return dump(value)
    if isinstance(value, Struct):
        raise BadLine(
            f'"{key}" is a structure, in which Parquet does not say whether a field is null or '
            "missing; make it a text (json.dumps)."
        )
    if isinstance(value, list):
        raise BadLine(
            f'"{key}" holds a list; make it one text, or name a better and a worse answer "chosen" '
            'and "rejected".'
        )
    check_text({key: value}, key)
    answer: str = value
    return answer


def _is_json(value: Any) -> bool:
    """Whether an answer is an object, or several, that the model is to write as JSON: what is
    extracted from a text, for example."""
    items = value if isinstance(value, list) else [value]
    return bool(items) and all(
        isinstance(item, dict) and not isinstance(item, Struct) and not is_message(item)
        for item in items
    )


def is_message(value: Any) -> bool:
    """Whether it is a message, or meant as one."""
    return isinstance(value, dict) and not value.keys().isdisjoint(("role", "from", "content"))


def is_good(label: Any) -> bool | None:
    """Whether a label says good (True) or bad (False); None where it says neither. In words, as a
    truth value, or as 1 and 0 or -1."""
    if isinstance(label, str):
        word = label.strip().lower()
        if word in _TRUE or word in _FALSE:
            return word in _TRUE
        label = {"1": 1, "1.0": 1, "0": 0, "0.0": 0, "-1": -1, "-1.0": -1}.get(word)
    if isinstance(label, bool | int | float) and label in (1, 0, -1):
        return label == 1
    return None


def is_number(label: Any) -> bool:
    """Whether a label is a number, perhaps written as a text, and no word or truth value."""
    if isinstance(label, str):
        return label.strip().lower() not in (*_TRUE, *_FALSE)
    return not isinstance(label, bool)


def lifted(example: Row) -> Row:
    """A prompt and its completion as a chat, which is learned in the same way."""
    return {
        "messages": [
            {"role": "user", "content": example["prompt"]},
            {"role": "assistant", "content": example["completion"]},
        ]
    }


def _check_no_choices(row: Row) -> None:
    """Raises BadLine for a question whose choices stand beside it, where nothing would learn them."""
    names = {plain_name(name): name for name, value in row.items() if value not in (None, "", [])}
    found = [names[name] for name in _CHOICES if name in names]
    if not found and names.keys() >= _LETTERS:
        found = [names[letter] for letter in sorted(_LETTERS)]
    if found:
        raise BadLine(
            f"has a choice of answers in {listed(found)}; write it into the question, and the right "
            "one as the answer."
        )


def _thoughts(row: Row, unused: Unused) -> Row:
    """What was thought before the answer, as a field of its message. Raises BadLine."""
    found = {}
    for key in row.keys() & set(THOUGHTS):
        if isinstance(row[key], str) and row[key].strip():
            found[key] = row[key]
        elif row[key]:
            unused.add(key)
    if len(set(found.values())) > 1:
        raise BadLine(f"has different thoughts in {' and '.join(sorted(found))}; keep one of them.")
    return {FIELD: next(iter(found.values()))} if found else {}


def kin_of(names: Iterable[str]) -> tuple[str, str] | None:
    """The columns of what is asked and of its answer, by their usual names. Case and spaces do not
    matter. None for other names."""
    own = by_plain_name(names)
    for asked, answered in KIN:
        if "user" in asked and not own.keys().isdisjoint(_POSTS):
            continue
        one = next((own[name] for name in asked if name in own), None)
        other = next((own[name] for name in answered if name in own), None)
        if one is not None and other is not None:
            return one, other
    return None


def _before(row: Row) -> list[Row]:
    """The system prompt and the earlier turns, if any. Raises BadLine."""
    prompt = system_prompt(row)
    messages = [{"role": "system", "content": prompt}] if prompt else []
    history = row.get("history")
    if isinstance(history, str) and history.strip():
        history = decoded(history, "history")
    for turn in history or ():
        if (
            not isinstance(turn, list)
            or len(turn) != 2
            or not all(isinstance(text, str) for text in turn)
        ):
            raise BadLine('"history" must be a list of pairs: what was asked, what was answered.')
        messages.append({"role": "user", "content": turn[0]})
        messages.append({"role": "assistant", "content": turn[1]})
    return messages


def with_context(row: Row, asked: str, context: tuple[str, ...] = CONTEXT) -> str:
    """The question, and below it the texts that it is about. Raises BadLine."""
    texts = [text for key in context for text in _context(row, key)]
    return "\n\n".join([row[asked], *texts]) if texts else row[asked]


def _context(row: Row, key: str) -> list[str]:
    """The texts of a context, one or several. Raises BadLine."""
    value = row.get(key)
    texts = [] if value is None else value if isinstance(value, list) else [value]
    if not all(isinstance(text, str) for text in texts):
        raise BadLine(f'"{key}" must be a text.')
    return [text for text in texts if text.strip()]
