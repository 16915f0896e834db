"""From messages to tokens, by the model's own chat template."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, cast
from weakref import WeakKeyDictionary

from backends.base import BackendError, Message, ThoughtMarks, first_line
from backends.base.inputs import shown
from backends.mlx import plain
from backends.mlx.sampling.thinking import own_marks
from backends.mlx.tools_in_words import REFUSALS, for_template
from backends.thoughts import FIELD, spoken

_MARK_TOKENS = 16  # at the end of a prompt; an opening mark and the white space after it have fewer
# What templates are given anyway.
_TAKEN = frozenset({"messages", "tools", "tokenize", "add_generation_prompt"})


def chat_tokens(
    tokenizer: Any,
    model: str,
    messages: Sequence[Message],
    tools: Sequence[dict[str, Any]] | None = None,
    template: Mapping[str, Any] | None = None,
) -> list[int]:
    """The prompt of a served model. Special tokens in messages are text (see `plain`). `template` are
    variables of the model's own template. What it cannot write (tools, calls that were cut off, a
    system message) is in the texts of the messages instead: see `tools_in_words`. So are the thoughts
    of earlier answers where it does not read `reasoning_content`, as in training.

    Raises BackendError when the model has no chat template or the template refuses.
    """
    if not tokenizer.has_chat_template:
        raise BackendError(
            f"The model {model} has no chat template; choose an instruction-tuned model."
        )
    own = {key: value for key, value in (template or {}).items() if key not in _TAKEN}
    try:
        heard = (
            messages
            if _reads_thoughts(tokenizer)
            else spoken(cast(Sequence[dict[str, Any]], messages), "kept")
        )
    except ValueError as error:
        raise BackendError(f"The messages cannot be sent to {model}: {error}.") from error
    said, described = for_template(tokenizer, heard, list(map(shown, tools or ())))
    described = {**own, **described}
    hidden, typed = plain.hide(said, tokenizer)
    try:
        tokens = tokenizer.apply_chat_template(
            hidden, add_generation_prompt=True, **described, tokenize=not typed
        )
        if typed:
            tokens = plain.encode(tokenizer, tokens, typed)
    except plain.Inseparable as error:
        raise BackendError(f"For {model}, {error}.") from error
    except REFUSALS as error:
        raise BackendError(
            f"The chat template of {model} refuses these messages: {first_line(error)}"
        ) from error
    return [int(token) for token in tokens]


_readers: WeakKeyDictionary[Any, bool] = WeakKeyDictionary()


def _reads_thoughts(tokenizer: Any) -> bool:
    """Whether the model's template writes thoughts that stand beside an answer's text."""
    if tokenizer not in _readers:
        mark = "A thought of its own."
        answer = {"role": "assistant", "content": "Yes.", FIELD: mark}
        chat = [{"role": "user", "content": "Hello."}, answer]
        try:
            text = tokenizer.apply_chat_template(chat, add_generation_prompt=False, tokenize=False)
            _readers[tokenizer] = mark in str(text)
        except REFUSALS:
            _readers[tokenizer] = False
    return _readers[tokenizer]


def thought_marks(tokenizer: Any, prompt: Sequence[int]) -> ThoughtMarks:
    """How the model's own template marks thoughts, or as most do: data sets may teach that."""
    marks = own_marks(tokenizer) or ThoughtMarks()
    end = str(tokenizer.decode(list(prompt[-_MARK_TOKENS:]))).rstrip()
    return replace(marks, opened=end.endswith(marks.open), closed=end.endswith(marks.close))


def text_tokens(tokenizer: Any, text: str) -> list[int]:
    """A plain text for a completion, with the special tokens that the model begins every text with."""
    return [int(token) for token in tokenizer.encode(text)]
