"""A playground request as a command and as a program that sends the same over `/v1`."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable
from typing import Any

from inference.native.schemas import InferenceIn
from registry.errors import Invalid

KEY_VARIABLE = "HUB_API_KEY"
_LINE = 90  # characters
# Not OpenAI's, so its client passes them on only in `extra_body`.
EXTRA = (
    "top_k",
    "min_p",
    "repetition_penalty",
    "deadline_s",
    "thinking_budget",
    "chat_template_kwargs",
)
_SAME = (
    "top_p",
    "top_k",
    "min_p",
    "seed",
    "stop",
    "repetition_penalty",
    "presence_penalty",
    "frequency_penalty",
    "logit_bias",
    "logprobs",
    "top_logprobs",
    "tools",
    "deadline_s",
    "thinking_budget",
)


def chat_body(request: InferenceIn) -> dict[str, Any]:
    """The same request as the body of `/v1/chat/completions`, without what is off. Raises Invalid
    for what OpenAI's API cannot express."""
    if request.regex is not None or request.max_kv_tokens:
        raise Invalid("Only the native API takes a regular expression or a token window.")
    given = request.model_dump(exclude_defaults=True)
    body: dict[str, Any] = {
        "model": request.model,
        "messages": request.chat(),
        "temperature": request.temperature,
    }
    if request.max_tokens is not None:
        body["max_tokens"] = request.max_tokens
    body |= {name: given[name] for name in _SAME if name in given}
    if request.template:
        body["chat_template_kwargs"] = request.template
    if request.json_schema is not None:
        schema = {"name": "answer", "schema": request.json_schema}
        body["response_format"] = {"type": "json_schema", "json_schema": schema}
    return body | {"stream": True}


def curl(body: dict[str, Any], origin: str, keyed: bool) -> str:
    """A command for a POSIX shell. With `keyed` it sends the key in KEY_VARIABLE."""
    text = written(body)
    program = "curl -N" if body.get("stream") else "curl"
    lines = [
        f"{program} {shlex.quote(f'{origin}/v1/chat/completions')}",
        "-H 'Content-Type: application/json'",
        *([f'-H "Authorization: Bearer ${KEY_VARIABLE}"'] if keyed else []),
        f"-d {shlex.quote(text)}",
    ]
    return " \\\n  ".join(lines)


def python(body: dict[str, Any], origin: str, keyed: bool) -> str:
    """A program for the `openai` package that prints the answer as it comes."""
    extra = {name: value for name, value in body.items() if name in EXTRA}
    arguments = {name: value for name, value in body.items() if name not in EXTRA}
    if extra:
        arguments["extra_body"] = extra
    call = "\n".join(f"    {name}={literal(value, 1)}," for name, value in arguments.items())
    key = f'os.environ["{KEY_VARIABLE}"]' if keyed else '"not-needed-on-this-machine"'
    imports = "import os\n\nfrom openai import OpenAI" if keyed else "from openai import OpenAI"
    return f"""{imports}

client = OpenAI(base_url={literal(f"{origin}/v1")}, api_key={key})
stream = client.chat.completions.create(
{call}
)
for chunk in stream:
    print(chunk.choices[0].delta.content or "", end="", flush=True)
"""


def literal(value: Any, depth: int = 0) -> str:
    """`value` as Python writes it; what does not fit into a line has a line for each of its parts."""
    if isinstance(value, str):  # JSON's escapes mean the same in Python
        return json.dumps(value, ensure_ascii=False)
    if not isinstance(value, dict | list):
        return repr(value)
    return _laid_out(value, depth, "    ", ",", literal)


def written(value: Any, depth: int = 0) -> str:
    """`value` as JSON, laid out as `literal` does."""
    if not isinstance(value, dict | list):
        return json.dumps(value, ensure_ascii=False)
    return _laid_out(value, depth, "  ", "", written)


def _laid_out(
    value: dict[str, Any] | list[Any], depth: int, step: str, last: str, write: Callable[..., str]
) -> str:
    opening, closing = ("{", "}") if isinstance(value, dict) else ("[", "]")

    def parts(depth: int) -> list[str]:
        if isinstance(value, dict):
            return [f"{write(name)}: {write(inner, depth)}" for name, inner in value.items()]
        return [write(inner, depth) for inner in value]

    line = f"{opening}{', '.join(parts(0))}{closing}"
    if "\n" not in line and len(line) + len(step) * depth <= _LINE:
        return line
    inner = step * (depth + 1)
    lines = f",\n{inner}".join(parts(depth + 1))
    return f"{opening}\n{inner}{lines}{last}\n{step * depth}{closing}"
