"""From messages to tokens, by the model's own chat template."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from backends.base import BackendError, Message, ThoughtMarks, first_line
from backends.mlx import plain
from backends.mlx.tools_in_words import REFUSALS, for_template

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
    system message) is in the texts of the messages instead: see `tools_in_words`.

    Raises BackendError when the model has no chat template or the template refuses.
    """
    if not tokenizer.has_chat_template:
        raise BackendError(
            f"The model {model} has no chat template; choose an instruction-tuned model."
        )
    own = {key: value for key, value in (template or {}).items() if key not in _TAKEN}
    said, described = for_template(tokenizer, messages, tools or ())
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


def thought_marks(tokenizer: Any, prompt: Sequence[int]) -> ThoughtMarks:
    """How the model's own template marks thoughts, or as most do: data sets may teach that."""
    marks = ThoughtMarks()
    if tokenizer.has_thinking:
        marks = ThoughtMarks(tokenizer.think_start, tokenizer.think_end)
    end = str(tokenizer.decode(list(prompt[-_MARK_TOKENS:]))).rstrip()
    return replace(marks, opened=end.endswith(marks.open), closed=end.endswith(marks.close))


def text_tokens(tokenizer: Any, text: str) -> list[int]:
    """A plain text for a completion, with the special tokens that the model begins every text with."""
    return [int(token) for token in tokenizer.encode(text)]
