"""Check that a served model gets the very tokens that it was trained on.

Training renders examples in `backends.mlx.data.examples`, serving in `backends.mlx.serving.generation`,
and an endpoint drops fields of a message that it does not support. Here both render the same
examples, each with the tokenizer as it loads it, before any weight is trained.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import suppress
from itertools import zip_longest
from pathlib import Path
from typing import Any, cast

import jinja2
from mlx_lm.utils import load_tokenizer

from backends import scorers
from backends import thoughts as thinking
from backends.base import BackendError, Message, TemplateMismatch, Thoughts, UnsupportedModel
from backends.examples import is_labelled, judged
from backends.mlx import chat as chat_module
from backends.mlx import tool_calls, tools_in_words
from backends.mlx.chat import chat_tokens, text_tokens
from backends.mlx.data.cache import digest, sha256
from backends.mlx.data.examples import answers_before, request_and_answer
from backends.scorers import SPOKEN
from backends.thoughts import spoken

_AROUND = 4  # tokens shown before the first that differs
_SENDS = (
    chat_module,
    tool_calls,
    tools_in_words,
    scorers,
    thinking,
)  # what a served prompt comes from
_SPLITS = ("train", "valid", "test")


def check_template(
    base: Path, data: Path, sample: int, thoughts: Thoughts = "kept", cache: Path | None = None
) -> None:
    """See `backends.base.Backend.check_template`. Examples that training itself would reject are
    left to it."""
    mark = None if cache is None else cache / f"parity-{_name(base, data, sample, thoughts)[:32]}"
    if mark is None or not mark.exists():
        _check_splits(base, data, sample, thoughts)
    if mark is not None:
        with suppress(OSError):  # it is checked again then
            mark.parent.mkdir(parents=True, exist_ok=True)
            mark.touch()


def _name(base: Path, data: Path, sample: int, thoughts: Thoughts) -> str:
    """sha256 of all that decides whether the check passes."""
    files = (data / f"{split}.jsonl" for split in _SPLITS)
    code = (Path(module.__file__ or "") for module in (sys.modules[__name__], *_SENDS))
    return digest(
        base,
        {
            "name": base.name,
            "sample": sample,
            "thoughts": thoughts,
            "data": [sha256(path) for path in files if path.is_file()],
            "checked by": [sha256(path) for path in code],
        },
    )


def _check_splits(base: Path, data: Path, sample: int, thoughts: Thoughts) -> None:
    trained, served = _tokenizers(base)
    for split in _SPLITS:
        for number, value in _lines(data / f"{split}.jsonl", sample):
            place = f"{split}.jsonl, line {number}"
            if not served.has_chat_template:
                _check_text(value, place, trained, served)
                continue
            for chat in _chats(value):
                _check(chat, base.name, place, trained, served, thoughts)


def _check(
    chat: dict[str, Any], model: str, place: str, trained: Any, served: Any, thoughts: Thoughts
) -> None:
    try:
        prompt, answer = request_and_answer(chat, trained, thoughts=thoughts)
        turns = answers_before(chat, trained, thoughts)
        said = spoken(chat["messages"], thoughts)
    except (ValueError, TypeError, KeyError, IndexError, jinja2.TemplateError):
        return
    # Tools in words have the results of several calls in one message.
    told = tools_in_words.trained(chat, trained)["messages"]
    sent = dict(zip(_answers(told), _answers(chat["messages"]), strict=True))
    asked_for = [(sent[turn.number], prompt[: turn.span[0]]) for turn in turns if turn.span]
    tools = chat.get("tools") or None
    for number, tokens in [*asked_for, (len(chat["messages"]) - 1, prompt)]:
        try:
            asked = chat_tokens(served, model, _as_sent(said[:number], tools), tools)
        except BackendError as error:
            raise TemplateMismatch(
                f"{place} can be trained on, but cannot be sent to the served model: {error}"
            ) from error
        _compare(tokens, asked, place, served)
    if answer[-1] not in served.eos_token_ids:
        shown = served.decode(answer[-1:])
        raise TemplateMismatch(
            f"{place}: training ends the answer with {shown!r}, which does not end an answer of "
            "the served model, so it would not stop. Correct eos_token_id of the base model."
        )


def _answers(messages: Sequence[dict[str, Any]]) -> list[int]:
    """The numbers of the assistant's messages."""
    return [number for number, m in enumerate(messages) if m.get("role") == "assistant"]


def _check_text(value: Any, place: str, trained: Any, served: Any) -> None:
    """Without a template only prompts as plain text can be trained on, and are served as such."""
    try:
        prompt, _ = request_and_answer(value, trained)
        asked = text_tokens(served, value["prompt"])
    except (ValueError, TypeError, KeyError):
        return
    _compare(prompt, asked, place, served)


def _compare(trained: Sequence[int], asked: Sequence[int], place: str, tokenizer: Any) -> None:
    """Raises TemplateMismatch, which shows the first difference as text."""
    for at, (one, other) in enumerate(zip_longest(trained, asked)):
        if one != other:
            before = tokenizer.decode(list(trained[max(0, at - _AROUND) : at]))
            raise TemplateMismatch(
                f"{place}: token {at + 1} of the prompt is {_shown(one, tokenizer)} in training "
                f"but {_shown(other, tokenizer)} when the model is served, after {before!r}. "
                "Correct the examples or the base model's chat template."
            )


def _shown(token: int | None, tokenizer: Any) -> str:
    return "nothing" if token is None else f"{tokenizer.decode([token])!r} ({token})"


def _as_sent(messages: Sequence[dict[str, Any]], tools: Any) -> list[Message]:
    """The messages after an endpoint: without the fields that it drops, and with the role system
    for developer."""
    kept = SPOKEN if tools else ("role", "content")
    sent = [{key: message[key] for key in kept if key in message} for message in messages]
    for message in sent:
        if message.get("role") == "developer":
            message["role"] = "system"
    return cast(list[Message], sent)


def _chats(value: Any) -> Iterator[dict[str, Any]]:
    """The chats that an example teaches; plain text has none."""
    if not isinstance(value, dict):
        return
    if "chosen" in value or is_labelled(value):
        with suppress(ValueError, KeyError):  # training reports it
            yield from (chat for chat, _ in judged(value))
    elif "messages" in value:
        if isinstance(value["messages"], list) and value["messages"]:
            yield value
    elif "prompt" in value:
        yield {
            "messages": [
                *_turns(value["prompt"], "user"),
                *_turns(value.get("completion"), "assistant"),
            ]
        }


def _turns(said: Any, role: str) -> list[dict[str, Any]]:
    return said if isinstance(said, list) else [{"role": role, "content": said}]


def _lines(path: Path, sample: int) -> Iterator[tuple[int, Any]]:
    """At most `sample` examples with their line numbers, spread evenly over the file."""
    if not path.is_file():
        return
    with path.open("rb") as file:
        total = sum(1 for _ in file)
    every = max(1, -(-total // sample))
    with path.open(encoding="utf-8", errors="replace", newline="\n") as file:
        for number, line in enumerate(file, start=1):
            if (number - 1) % every == 0:
                try:
                    yield number, json.loads(line)
                except ValueError:
                    continue  # training reports it


def _tokenizers(base: Path) -> tuple[Any, Any]:
    """The tokenizer as training loads it, and as a served model has it. Raises UnsupportedModel."""
    load: Any = load_tokenizer  # untyped upstream
    try:
        ends = json.loads((base / "config.json").read_text()).get("eos_token_id")
        trained = load(base, eos_token_ids=ends)
        served = load(base, {"trust_remote_code": False}, eos_token_ids=ends)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UnsupportedModel(f"The tokenizer of {base.name} cannot be read: {error}") from None
    return trained, served
