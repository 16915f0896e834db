"""Ranking by a model that writes: how likely it answers "yes" when asked whether a text fits a query.

The question is that of Qwen3-Reranker (https://huggingface.co/Qwen/Qwen3-Reranker-0.6B), which was
trained to answer it; others understand it more or less.
"""

from __future__ import annotations

from typing import Any, cast

import mlx.core as mx

from backends.base import BackendError, Message, Question

_JUDGE = (
    "Judge whether the Document meets the requirements based on the Query and the Instruct provided. "
    'Note that the answer can only be "yes" or "no".'
)
_INSTRUCTION = "Given a web search query, retrieve relevant passages that answer the query"
TEMPLATE = {"enable_thinking": False}
"""What its chat template is told: the answer follows at once."""


def asked(tokenizer: Any, question: Question, text: str) -> list[Message]:
    """The chat whose answer is "yes" or "no"."""
    instruction = question.instruction or _INSTRUCTION
    template = str(tokenizer.chat_template or "")
    if all(f"'{role}'" in template or f'"{role}"' in template for role in ("query", "document")):
        # A template for ranking alone, which writes what stands around the three.
        parts = {"system": instruction, "query": question.query, "document": text}
        return [Message(role=role, content=content) for role, content in parts.items()]
    told = f"<Instruct>: {instruction}\n<Query>: {question.query}\n<Document>: {text}"
    return [Message(role="system", content=_JUDGE), Message(role="user", content=told)]


def yes_and_no(tokenizer: Any, name: str) -> tuple[int, int]:
    """The tokens that begin the two answers. Raises BackendError where they are the same."""
    yes, no = (tokenizer.encode(word, add_special_tokens=False)[:1] for word in ("yes", "no"))
    if not yes or yes == no:
        raise BackendError(f"{name} has no token of its own for yes and no; choose a reranker.")
    return int(yes[0]), int(no[0])


def chance(logprobs: mx.array, yes: int, no: int) -> float:
    """How likely the answer is yes, given that it is one of the two."""
    return cast(float, mx.sigmoid(logprobs[yes] - logprobs[no]).item())
