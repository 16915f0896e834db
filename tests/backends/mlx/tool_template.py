"""A chat template that writes tool calls, a tool to call, and tokenizers of other notations."""

from __future__ import annotations

import copy
import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

# As Qwen's: tools in the system turn, calls as JSON in tags, results in a user turn.
TEMPLATE = """\
{%- if tools %}<|im_start|>system
Tools:{% for tool in tools %}
{{ tool | tojson }}{% endfor %}<|im_end|>
{% endif %}
{%- for message in messages %}
{%- if message.role == "tool" %}<|im_start|>user
<tool_response>
{{ message.content }}
</tool_response><|im_end|>
{% else %}<|im_start|>{{ message.role }}
{{ message.content }}
{%- for call in message.tool_calls or [] %}
{%- if message.content or not loop.first %}{{ "\\n" }}{% endif %}<tool_call>
{"name": {{ call.function.name | tojson }}, "arguments": {{ call.function.arguments | tojson }}}
</tool_call>
{%- endfor %}<|im_end|>
{% endif %}
{%- endfor %}
{%- if add_generation_prompt %}<|im_start|>assistant
{% endif %}"""
# As Qwen3-Coder's: each argument in tags of its own.
IN_TAGS = TEMPLATE.replace(
    """{"name": {{ call.function.name | tojson }}, "arguments": {{ call.function.arguments | tojson }}}
""",
    """<function={{ call.function.name }}>
{% for key, value in call.function.arguments.items() %}<parameter={{ key }}>
{{ value }}
</parameter>
{% endfor %}</function>
""",
)
TOOLS = [
    {
        "type": "function",
        "function": {
            "name": "weather",
            "description": "The weather of a city",
            "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
        },
    }
]


def with_template(base: Path, folder: Path, template: str) -> Path:
    shutil.copytree(base, folder)
    path = folder / "tokenizer_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"chat_template": template}))
    return folder


def with_marks(base: Path, folder: Path, template: str, marks: Mapping[int, str]) -> Path:
    """`with_template`, and some tokens renamed to marks, by their numbers."""
    with_template(base, folder, template)
    path = folder / "tokenizer.json"
    described = json.loads(path.read_text())
    model = described["model"]
    words = {number: word for word, number in model["vocab"].items()}
    flags = dict.fromkeys(("special", "single_word", "lstrip", "rstrip", "normalized"), False)
    for number, mark in marks.items():
        del model["vocab"][words[number]]
        model["vocab"][mark] = number
        described["added_tokens"].append({"id": number, "content": mark, **flags})
    pairs = [m if isinstance(m, list) else m.split(" ") for m in model["merges"]]
    model["merges"] = [pair for pair in pairs if "".join(pair) in model["vocab"]]
    path.write_text(json.dumps(described))
    return folder


class Marked:
    """A tokenizer with the marks of calls as tokens of its own, as Qwen's has them; or those in `added`."""

    def __init__(
        self, tokenizer: Any, start: str, end: str, parser: Any, added: Sequence[str] | None = None
    ) -> None:
        self._tokenizer = tokenizer._tokenizer
        if marks := [start, end] if added is None else list(added):
            self._tokenizer = copy.deepcopy(self._tokenizer)
            self._tokenizer.add_tokens(marks)
        self.chat_template = f"tools {start}"
        self.has_tool_calling = True
        self.tool_call_start, self.tool_call_end, self.tool_parser = start, end, parser
        self.eos_token_ids = tokenizer.eos_token_ids

    def __getattr__(self, name: str) -> Any:
        return getattr(self._tokenizer, name)
