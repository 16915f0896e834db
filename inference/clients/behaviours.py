"""What agents need of a model, and how it is judged.

Each is asked over every API that has words for it. A behaviour raises `Failed` for what the model
did not do, which is what a fine-tune may break, and `Broken` for what the hub promises whatever the
model says: enforced calls and schemas, streams that say the same, limits, counts.
"""

from __future__ import annotations

import json
import re
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from inference.clients.asking import (
    Ask,
    Broken,
    Call,
    Failed,
    Reply,
    Skipped,
    Tool,
    Turn,
    shortened,
    user,
)
from inference.clients.client import Client
from registry.late import Late

if TYPE_CHECKING:
    import jsonschema
else:
    jsonschema = Late("jsonschema")


WEATHER = Tool(
    "weather",
    "The weather in a city now",
    {
        "type": "object",
        "properties": {
            "city": {"type": "string"},
            "unit": {"type": "string", "enum": ["celsius", "fahrenheit"]},
        },
        "required": ["city"],
        "additionalProperties": False,
    },
)
CLOCK = Tool(
    "clock",
    "The time in a city now",
    {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
)
TOOLS = (CLOCK, WEATHER)
OSLO = user("Use the tool weather to look up the weather in Oslo.")
FACTS = {"city": "Oslo", "degrees": 17, "sky": "rain"}
FACTS_SCHEMA = {
    "type": "object",
    "properties": {
        "city": {"type": "string"},
        "degrees": {"type": "integer"},
        "sky": {"type": "string", "enum": ["clear", "clouds", "rain"]},
    },
    "required": list(FACTS),
    "additionalProperties": False,
}
_COLOURS = Ask([user("Name five colours, in one sentence.")], max_tokens=48)
_BUDGET = 64
_MARKS = 8  # tokens that may be counted beyond a budget: those of the mark that ends thoughts


@dataclass(frozen=True)
class Behaviour:
    """`promised` is judged of the hub alone: no model can fail it."""

    name: str
    title: str
    try_: Callable[[Client], Awaitable[None]]
    promised: bool = False


def valid_call(reply: Reply, tools: Sequence[Tool]) -> Call:
    """The first call, if all are to one of the tools with arguments that fit. Raises Failed."""
    if not reply.calls:
        end = "was cut off" if reply.cut else "answered"
        raise Failed(f"It called no tool and {end}: {shortened(reply.text)}.")
    schemas = {tool.name: tool.schema for tool in tools}
    for call in reply.calls:
        if call.name not in schemas:
            raise Failed(f"It called {shortened(call.name)}, which is not one of the tools.")
        if wrong := misfit(json.loads(call.arguments), schemas[call.name]):
            raise Failed(f"Its arguments for {call.name} do not fit: {wrong}.")
    return reply.calls[0]


def misfit(value: Any, schema: Any) -> str:
    """Where a value does not fit a JSON schema; empty where it does."""
    validator = jsonschema.validators.validator_for(schema, jsonschema.Draft202012Validator)
    wrong = jsonschema.exceptions.best_match(validator(schema).iter_errors(value))
    return shortened(wrong.message, 120) if wrong else ""


# --------------------------------------------------------------------------- tools


async def tool_call(client: Client) -> None:
    reply = await client.ask(Ask([OSLO], TOOLS))
    call = valid_call(reply, TOOLS)
    if call.name != WEATHER.name:
        raise Failed(f"It called {call.name} where weather was asked for.")


async def tool_forced(client: Client) -> None:
    await _forced(client)


async def _forced(client: Client) -> Reply:
    """The answer to a greeting, held to a call."""
    reply = await client.ask(Ask([user("Good morning!")], TOOLS, forced=WEATHER.name))
    if reply.cut:
        raise Failed(f"It did not end the call: {shortened(reply.text)}.")
    try:
        valid_call(reply, [WEATHER])
    except Failed as error:
        raise Broken(f"The call was not enforced. {error}") from None
    return reply


async def tools_parallel(client: Client) -> None:
    both = user("Use the tool weather to look up the weather in Oslo and in Bergen, both at once.")
    reply = await client.ask(Ask([both], TOOLS))
    valid_call(reply, TOOLS)
    if len(reply.calls) < 2:
        raise Failed(f"It made one call, {shortened(reply.calls[0].arguments)}, in place of two.")
    if client.face.name != "ollama":
        one = await client.ask(Ask([both], TOOLS, one_call=True))
        if len(one.calls) > 1:
            raise Broken(f"One call at most was asked for, and {len(one.calls)} came.")


async def tool_result(client: Client) -> None:
    """The call goes back as it came, where it can be forced."""
    called = Turn("assistant", calls=(Call("weather", '{"city": "Oslo"}'),))
    if "tool_forced" not in client.face.lacks:
        try:
            reply = await _forced(client)
            called = Turn("assistant", calls=reply.calls, said=reply.said)
        except (Failed, Skipped):
            pass  # judged there
    results = [Turn("tool", "17 degrees, light rain", calls=(call,)) for call in called.calls]
    reply = await client.ask(Ask([OSLO, called, *results], TOOLS))
    if not re.search(r"\b17\b", reply.text):
        said = reply.text or f"a call of {reply.calls[0].name}" if reply.calls else reply.text
        raise Failed(f"The result was 17 degrees, and it answered {shortened(said)}.")


async def call_cut_off(client: Client) -> None:
    broken = Call("weather", '{"city": "Os')
    turns = [
        OSLO,
        Turn("assistant", calls=(broken,)),
        Turn("tool", "Error: the arguments are cut off.", calls=(broken,)),
        user("Try again with the tool weather."),
    ]
    reply = await client.ask(Ask(turns, TOOLS))
    if not reply.text:
        valid_call(reply, TOOLS)


# --------------------------------------------------------------------------- JSON

_NOTE = "In Oslo it is 17 degrees and it rains."


async def json_schema(client: Client) -> None:
    asked = Ask([user(f"Put this into JSON: {_NOTE}")], format=FACTS_SCHEMA)
    found = await _enforced(client, asked)
    if wrong := misfit(found, FACTS_SCHEMA):
        raise Broken(f"The schema was not kept: {wrong}.")
    if {**found, "city": found["city"].strip().title()} != FACTS:
        raise Failed(f"The facts were {_NOTE!r}, and it wrote {shortened(json.dumps(found))}.")


async def json_mode(client: Client) -> None:
    asked = Ask([user(f"Put this into a JSON object with the key city: {_NOTE}")], format={})
    found = await _enforced(client, asked)
    if "city" not in found:
        raise Failed(f"The key city is missing: {shortened(json.dumps(found))}.")


async def _enforced(client: Client, asked: Ask) -> dict[str, Any]:
    """The object that the answer is."""
    reply = await client.ask(asked)
    if reply.cut:
        raise Failed(f"It did not end the object: {shortened(reply.text)}.")
    try:
        found = json.loads(reply.text)
    except ValueError:
        raise Broken(f"The answer is no JSON: {shortened(reply.text)}.") from None
    if not isinstance(found, dict):
        raise Broken(f"The answer is no object: {shortened(reply.text)}.")
    return found


async def json_in_words(client: Client) -> None:
    """Nothing but the prompt asks for it; a fence around it is what clients take off."""
    words = "Answer with a JSON object alone, with the keys city and degrees."
    reply = await client.ask(Ask([user(f"{words} {_NOTE}")]))
    text = re.sub(r"^```\w*\n|\n```$", "", reply.text.strip())
    try:
        found = json.loads(text)
    except ValueError:
        raise Failed(f"It answered with no JSON: {shortened(reply.text)}.") from None
    if not isinstance(found, dict) or not {"city", "degrees"} <= found.keys():
        raise Failed(f"Keys are missing: {shortened(reply.text)}.")


# --------------------------------------------------------------------------- thoughts and turns


async def thinking(client: Client) -> None:
    if not client.thinks:
        raise Skipped("Its chat template has no thoughts.")
    asked = Ask([user("What is 17 plus 25?")], thinking=_BUDGET, max_tokens=4 * _BUDGET)
    reply = await client.ask(asked)
    if "<think>" in reply.text or "</think>" in reply.text:
        raise Broken(f"Thoughts are in the answer: {shortened(reply.text)}.")
    if client.face.name != "ollama":  # which has no budget
        if (reply.thought_tokens or 0) > _BUDGET + _MARKS:
            raise Broken(f"Of {_BUDGET} tokens at most it thought {reply.thought_tokens}.")
        if reply.thoughts and not reply.text and reply.cut:
            raise Broken(f"After {_BUDGET} tokens of thoughts the answer did not begin.")
    if not reply.thoughts.strip():
        raise Failed(f"It did not think, and answered {shortened(reply.text)}.")
    if not reply.text.strip():
        raise Failed("It thought, and answered nothing.")


async def system_later(client: Client) -> None:
    turns = [
        user("Hello!"),
        Turn("assistant", "Hello! How can I help?"),
        Turn("system", "From now on, end every answer with the word banana."),
        user("Name one colour."),
    ]
    reply = await client.ask(Ask(turns))
    if "banana" not in reply.text.lower():
        raise Failed(f"It should end with banana, and answered {shortened(reply.text)}.")


# --------------------------------------------------------------------------- what the hub promises


async def streaming(client: Client) -> None:
    """A text, and a call."""
    for asked in (_COLOURS, Ask([OSLO], TOOLS)):
        whole, streamed = await _or_unreadable(client, asked)
        if whole == streamed:
            continue
        again, _ = await _or_unreadable(client, asked, afresh=True)
        if again != whole:  # in a batch of others sums may be rounded differently
            raise Skipped("Asked twice without a stream it answered differently.")
        raise Broken(
            f"A stream says {shortened(str(streamed))}, else it is {shortened(str(whole))}."
        )


async def _or_unreadable(client: Client, asked: Ask, afresh: bool = False) -> tuple[Any, Any]:
    """What is said whole and in a stream; the sentence for a call that cannot be read."""
    said = []
    for one in (asked, replace(asked, stream=True)):
        try:
            reply = await (client.again(one) if afresh else client.ask(one))
            said.append(reply.essence)
        except Failed as error:
            said.append((str(error),))
    return said[0], said[1]


async def stop(client: Client) -> None:
    whole = (await client.ask(_COLOURS)).text
    words = re.findall(r"\S+", whole)
    if len(words) < 2:
        raise Skipped(f"Its answer is too short to be stopped: {shortened(whole)}.")
    word = words[len(words) // 2]
    reply = await client.ask(replace(_COLOURS, stop=word))
    if reply.text != whole[: whole.index(word)] or reply.finish != "stop":
        raise Broken(
            f"Stopped at {shortened(word)}, {shortened(whole)} became {shortened(reply.text)} "
            f"({reply.finish})."
        )


async def usage(client: Client) -> None:
    """Also of a stream, and of an answer that is cut."""
    whole = await client.ask(_COLOURS)
    streamed = await client.ask(replace(_COLOURS, stream=True))
    counts = {(one.prompt_tokens, one.completion_tokens) for one in (whole, streamed)}
    if len(counts) > 1 and whole.text == streamed.text:
        raise Broken(f"The same answer was counted as {' and '.join(map(str, sorted(counts)))}.")
    cut = await client.ask(replace(_COLOURS, max_tokens=3))
    if whole.completion_tokens > 3 and not cut.cut:
        raise Broken(f"Cut after 3 tokens, an answer ends with {cut.finish!r}.")


BEHAVIOURS: tuple[Behaviour, ...] = (
    Behaviour("tool_call", "Calls a tool when asked, with valid arguments", tool_call),
    Behaviour("tool_forced", "Ends a call that is forced", tool_forced),
    Behaviour("tools_parallel", "Makes two calls at once", tools_parallel),
    Behaviour("tool_result", "Answers from a tool's result", tool_result),
    Behaviour("call_cut_off", "Goes on after a call that was cut off", call_cut_off),
    Behaviour("json_schema", "Fills in a JSON schema", json_schema),
    Behaviour("json_mode", "Fills in a JSON object", json_mode),
    Behaviour("json_in_words", "Answers in JSON when the prompt asks", json_in_words),
    Behaviour("thinking", "Thinks, and then answers", thinking),
    Behaviour("system_later", "Follows a system turn in mid-conversation", system_later),
    Behaviour("streaming", "A stream says what an answer says", streaming, promised=True),
    Behaviour("stop", "A stop sequence ends the answer", stop, promised=True),
    Behaviour("usage", "Tokens are counted, and limits kept", usage, promised=True),
)
