"""The six formats of examples, as training reads them. No Django: a reading process has none."""

from __future__ import annotations

from typing import Literal

type Format = Literal["chat", "completions", "text", "tools", "preference", "labelled"]
"""As `registry.models.Dataset.Format` has them."""

FIELDS: dict[str, dict[str, str]] = {
    "chat": {"messages": "array of {role, content}"},
    "completions": {"prompt": "string", "completion": "string"},
    "text": {"text": "string"},
    "tools": {
        "messages": "array of {role, content, tool_calls}",
        "tools": "array of function descriptions (may be absent)",
    },
    "preference": {
        "prompt": "array of {role, content}, or string",
        "chosen": "the better answer",
        "rejected": "the worse answer",
    },
    "labelled": {
        "prompt": "array of {role, content}, or string",
        "completion": "the answer",
        "label": "true for a good answer, false for a bad one",
    },
}
COLUMNS = {
    "messages": "messages",
    "system": "system prompt",
    "history": "earlier turns",
    "prompt": "prompt",
    "context": "context, below the prompt",
    "completion": "completion",
    "text": "text",
    "chosen": "chosen answer",
    "rejected": "rejected answer",
    "tools": "tools",
    "label": "label",
    "thoughts": "thoughts, before the completion",
}
"""The fields that a column can be mapped to, and what a person reads for them."""
