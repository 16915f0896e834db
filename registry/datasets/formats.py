"""The five formats of examples, as training reads them. No Django: a reading process has none."""

from __future__ import annotations

from typing import Literal

type Format = Literal["chat", "completions", "text", "tools", "preference"]
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
}
COLUMNS = ("messages", "prompt", "completion", "text", "label", "chosen", "rejected", "tools")
"""The fields that a column can be mapped to."""
