"""One request as programs that send it: OpenAI's and Anthropic's clients in Python, OpenAI's in
JavaScript, curl, and mlx-lm on the version's files without the hub."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from django.conf import settings

from inference.playground.questions import Asked
from inference.playground.snippets import KEY_VARIABLE, curl, literal, written

ANSWER_TOKENS = 1024  # which Anthropic's API has to be told


@dataclass(frozen=True)
class Program:
    """`needs` is how what it uses is installed; `lacks` what the others send and this one cannot."""

    key: str
    title: str
    code: str
    needs: str = ""
    lacks: str = ""


def body_of(model: str, asked: Asked) -> dict[str, Any]:
    """The body of `/v1/chat/completions` that asks `model`, greedily."""
    body: dict[str, Any] = {"model": model, "messages": asked.messages, "temperature": 0}
    if asked.schema is not None:
        schema = {"name": "answer", "schema": asked.schema}
        body["response_format"] = {"type": "json_schema", "json_schema": schema}
    if asked.tools:
        body["tools"] = asked.tools
    return body


def programs(
    model: str, asked: Asked, origin: str, keyed: bool, files: tuple[Path, Path] | None = None
) -> list[Program]:
    """`files` are the folders of the base model and of the version. With `keyed` the key comes from the
    environment."""
    body = body_of(model, asked)
    made = [
        Program("python", "Python (openai)", _openai(body, origin, keyed), "pip install openai"),
        Program(
            "anthropic",
            "Python (anthropic)",
            anthropic(body, origin, keyed),
            "pip install anthropic",
        ),
        Program("javascript", "JavaScript", javascript(body, origin, keyed), "npm install openai"),
        Program("curl", "curl", curl(body, origin, keyed)),
    ]
    if files is not None:
        left_out = [
            *(["the tools"] if asked.tools else []),
            *(["the shape of the answer"] if asked.schema is not None else []),
            *(["earlier turns"] if len(_without_system(asked.messages)) > 1 else []),
        ]
        lacks = f"mlx-lm has no way to pass {' and '.join(left_out)}." if left_out else ""
        made.append(Program("mlx", "Command line", _mlx(asked, *files), lacks=lacks))
    return made


# ------------------------------------------------------------------------ Python, JavaScript


def _key(keyed: bool) -> str:
    return f'os.environ["{KEY_VARIABLE}"]' if keyed else '"not-needed-on-this-machine"'


def _call(arguments: Mapping[str, Any]) -> str:
    return "\n".join(f"    {name}={literal(value, 1)}," for name, value in arguments.items())


def _openai(body: Mapping[str, Any], origin: str, keyed: bool) -> str:
    shown = "answer.choices[0].message"
    last = f"{shown}.tool_calls or {shown}.content" if "tools" in body else f"{shown}.content"
    return f"""{"import os\n\n" if keyed else ""}from openai import OpenAI

client = OpenAI(base_url={literal(f"{origin}/v1")}, api_key={_key(keyed)})
answer = client.chat.completions.create(
{_call(body)}
)
print({last})
"""


def anthropic(body: Mapping[str, Any], origin: str, keyed: bool) -> str:
    """A program for the `anthropic` package; a comment names what its API has no word for."""
    sent = anthropic_body(body)
    lost = [name for name in body if name not in _KNOWN]
    lost += ["temperature above 1"] if body.get("temperature", 0) > 1 else []
    # Its client knows these no more; the hub's API still heeds them.
    if extra := {name: sent.pop(name) for name in _SAME if name in sent}:
        sent["extra_body"] = extra
    note = f"# Anthropic's API has no {', '.join(lost)}.\n" if lost else ""
    return f"""{"import os\n\n" if keyed else ""}from anthropic import Anthropic

client = Anthropic(base_url={literal(origin)}, api_key={_key(keyed)})
{note}answer = client.messages.create(
{_call(sent)}
)
for block in answer.content:
    print(block.text if block.type == "text" else block)
"""


def javascript(body: Mapping[str, Any], origin: str, keyed: bool) -> str:
    """A module for Node with the `openai` package."""
    body = {name: value for name, value in body.items() if name != "stream"}
    key = f"process.env.{KEY_VARIABLE}" if keyed else '"not-needed-on-this-machine"'
    shown = "answer.choices[0].message"
    last = f"{shown}.tool_calls ?? {shown}.content" if "tools" in body else f"{shown}.content"
    return f"""import OpenAI from "openai";

const client = new OpenAI({{ baseURL: {json.dumps(f"{origin}/v1")}, apiKey: {key} }});
const answer = await client.chat.completions.create({written(body)});
console.log({last});
"""


# ------------------------------------------------------------------------ Anthropic's body


_MOST = {"temperature": 1, "top_p": 1, "top_k": 2**31}
_SAME = tuple(_MOST)
_KNOWN = {*_SAME, "model", "messages", "max_tokens", "stop", "tools", "response_format", "stream"}
"""What of a chat's body Anthropic's API can say, or what is not said here."""


def anthropic_body(body: Mapping[str, Any]) -> dict[str, Any]:
    """The same request for `/v1/messages`, as far as it has words for it."""
    system = [turn["content"] for turn in body["messages"] if turn["role"] == "system"]
    most = body.get("max_tokens", ANSWER_TOKENS)
    made: dict[str, Any] = {"model": body["model"], "max_tokens": most}
    made |= {name: body[name] for name in _SAME if body.get(name) and body[name] <= _MOST[name]}
    if "stop" in body:
        made["stop_sequences"] = body["stop"]
    if system:
        made["system"] = "\n\n".join(system)
    made["messages"] = _turns(_without_system(body["messages"]))
    if tools := body.get("tools"):
        made["tools"] = [_tool(tool["function"]) for tool in tools]
    if wanted := body.get("response_format"):
        schema = wanted["json_schema"]["schema"]
        made["output_config"] = {"format": {"type": "json_schema", "schema": schema}}
    return made


def _without_system(messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [turn for turn in messages if turn["role"] != "system"]


def _turns(messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Results that follow each other, and what the user says then, are one turn."""
    turns: list[dict[str, Any]] = []
    for message in messages:
        role = "assistant" if message["role"] == "assistant" else "user"
        said = _blocks(message)
        if turns and turns[-1]["role"] == role:
            turns[-1]["content"] = [*_listed(turns[-1]["content"]), *_listed(said)]
        else:
            turns.append({"role": role, "content": said})
    return turns


def _listed(said: Any) -> list[dict[str, Any]]:
    return said if isinstance(said, list) else [{"type": "text", "text": said}]


def _blocks(message: Mapping[str, Any]) -> Any:
    """A text where it is one, else blocks."""
    text = message.get("content") or ""
    if message["role"] == "tool":
        told = {"tool_use_id": message.get("tool_call_id") or "call_1", "content": text}
        return [{"type": "tool_result", **told}]
    calls = [
        {
            "type": "tool_use",
            "id": call.get("id") or "call_1",
            "name": call["function"]["name"],
            "input": _input(call["function"].get("arguments")),
        }
        for call in message.get("tool_calls") or ()
    ]
    return [*(_listed(text) if text else []), *calls] if calls else text


def _input(arguments: Any) -> Any:
    return json.loads(arguments or "{}") if isinstance(arguments, str | None) else arguments


def _tool(function: Mapping[str, Any]) -> dict[str, Any]:
    about = {"description": function["description"]} if function.get("description") else {}
    schema = function.get("parameters") or {"type": "object", "properties": {}}
    return {"name": function["name"], **about, "input_schema": schema}


# ------------------------------------------------------------------------ mlx-lm


def _mlx(asked: Asked, base: Path, adapter: Path) -> str:
    """Only the system prompt and the last thing that the user said: mlx-lm takes no more."""
    system = [turn["content"] for turn in asked.messages if turn["role"] == "system"]
    said = [turn["content"] for turn in asked.messages if turn["role"] == "user"]
    options = [
        f"--model {shlex.quote(str(base))}",
        f"--adapter-path {shlex.quote(str(adapter))}",
        *([f"--system-prompt {shlex.quote(system[0])}"] if system else []),
        f"--prompt {shlex.quote(said[-1] if said else '')}",
        f"--max-tokens {ANSWER_TOKENS}",
    ]
    program = "uv run" if settings.COMMAND.startswith("uv run") else "uvx --from mlx-lm"
    return " \\\n  ".join([f"{program} mlx_lm.generate", *options]) + "\n"
