"""Anthropic's messages and tools, as they come in, and how their blocks become a chat's messages."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from backends.base import Message, inputs
from inference.v1.compatibility import Text
from inference.v1.turns import settled

_Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{1,128}$")]
_Id = Annotated[str, Field(min_length=1, max_length=200)]


class _Block(BaseModel):
    model_config = ConfigDict(extra="ignore")  # cache_control, citations, caller


class TextBlock(_Block):
    type: Literal["text"]
    text: Text


class SearchResultBlock(_Block):
    """What the client's own search found: a text with its source."""

    type: Literal["search_result"]
    source: Text
    title: Text
    content: Annotated[list[TextBlock], Field(max_length=100)]

    @property
    def text(self) -> str:
        return f"{self.title} ({self.source})\n{joined(self.content)}"


class ToolReferenceBlock(_Block):
    """A tool that the client's own search for tools found; the model sees all tools anyway."""

    type: Literal["tool_reference"]
    tool_name: _Name

    @property
    def text(self) -> str:
        return f"The tool {self.tool_name} is available."


class ThinkingBlock(_Block):
    """What an earlier answer thought; its signature is not checked."""

    type: Literal["thinking"]
    thinking: Text


class RedactedBlock(_Block):
    """Thoughts that another service wrote in a cipher: there is nothing to read."""

    type: Literal["redacted_thinking"]


class ToolUseBlock(_Block):
    """A call. Its input is an object, or the text of one that was cut off."""

    type: Literal["tool_use"]
    id: _Id
    name: _Name
    input: dict[str, Any] | Text | None = None

    def call(self) -> dict[str, Any]:
        arguments = self.input or {}
        if not isinstance(arguments, str):
            arguments = json.dumps(arguments, ensure_ascii=False)
        function = {"name": self.name, "arguments": arguments}
        return {"id": self.id, "type": "function", "function": function}


def _as_blocks(content: Any) -> Any:
    """A text is one block of text. Raises ValueError for a block that no model here can read."""
    if content is None:
        return []
    if isinstance(content, str):
        return [{"type": "text", "text": content}]
    if not isinstance(content, list):
        raise ValueError("must be a text or a list of blocks")
    for block in content:
        kind = block.get("type") if isinstance(block, dict) else None
        if kind in _UNREADABLE:
            raise ValueError(_UNREADABLE[kind])
        if isinstance(kind, str) and kind not in _KINDS:
            raise ValueError(f"blocks of type {kind} are not supported; leave them out")
    return content


_UNREADABLE = {
    "image": "images are not supported by this model; describe them in text",
    "document": "documents are not supported; send their text as a text block",
}

_Told = Annotated[TextBlock | SearchResultBlock | ToolReferenceBlock, Field(discriminator="type")]


class ToolResultBlock(_Block):
    type: Literal["tool_result"]
    tool_use_id: _Id
    content: Annotated[list[_Told], BeforeValidator(_as_blocks), Field(max_length=100)] = []
    is_error: bool | None = None

    @property
    def text(self) -> str:
        text = joined(self.content)
        return f"Error: {text}" if self.is_error else text


KnownBlock = (
    TextBlock | SearchResultBlock | ThinkingBlock | RedactedBlock | ToolUseBlock | ToolResultBlock
)
_KINDS = {
    "text",
    "search_result",
    "tool_reference",
    "thinking",
    "redacted_thinking",
    "tool_use",
    "tool_result",
}
Texts = Annotated[list[TextBlock], BeforeValidator(_as_blocks), Field(max_length=100)]
_Blocks = Annotated[
    list[Annotated[KnownBlock, Field(discriminator="type")]],
    BeforeValidator(_as_blocks),
    Field(max_length=200),
]


class MessageIn(BaseModel):
    """A turn. Its blocks are texts, in an assistant's turn also thoughts and calls of tools, in a
    user's turn also their results. A system turn may stand anywhere; with `clear_at`
    "next_user_message" it is gone after the user's next one."""

    model_config = ConfigDict(extra="ignore")  # output_config of a single turn

    role: Literal["user", "assistant", "system"]
    content: _Blocks
    clear_at: Literal["next_user_message", "never"] | None = None

    @model_validator(mode="after")
    def _fits_its_role(self) -> MessageIn:
        kinds = {block.type for block in self.content}
        own = {"thinking", "redacted_thinking", "tool_use"}
        for kind in sorted(kinds & own if self.role != "assistant" else set()):
            raise ValueError(f"a {self.role} message cannot have a {kind}")
        if self.role != "user" and "tool_result" in kinds:
            raise ValueError(f"a message of role {self.role} cannot have a tool_result")
        return self

    def turns(self, called: dict[str, str]) -> list[Message]:
        """The chat messages of this turn. `called` has the tool's name of each call so far and
        learns this turn's. Raises ValueError for a result that answers no call."""
        turns = []
        for block in self.content:
            if not isinstance(block, ToolResultBlock):
                continue
            if block.tool_use_id not in called:
                raise ValueError(
                    f"the tool_result for {block.tool_use_id!r} answers no tool_use of an earlier "
                    "assistant message"
                )
            result = Message(role="tool", content=block.text)
            result["tool_call_id"] = block.tool_use_id
            result["name"] = called[block.tool_use_id]
            turns.append(result)
        text = joined(self.content)
        calls = [block for block in self.content if isinstance(block, ToolUseBlock)]
        thoughts = [block.thinking for block in self.content if isinstance(block, ThinkingBlock)]
        if text or calls or not turns:
            turn = Message(role=self.role, content=text)
            if thoughts:
                turn["reasoning_content"] = "\n\n".join(thoughts)
            if calls:
                called |= {block.id: block.name for block in calls}
                turn["tool_calls"] = [block.call() for block in calls]
            turns.append(turn)
        return turns


def joined(blocks: Sequence[BaseModel]) -> str:
    """The texts among blocks, as one text."""
    told = (TextBlock, SearchResultBlock, ToolReferenceBlock)
    return "".join(block.text for block in blocks if isinstance(block, told))


def chat(system: Sequence[TextBlock] | None, messages: Sequence[MessageIn]) -> list[Message]:
    """The chat for the model's template. Raises ValueError for a result that answers no call."""
    prompt = joined(system or ())
    turns = [Message(role="system", content=prompt)] if prompt else []
    last_user = max((n for n, m in enumerate(messages) if m.role == "user"), default=0)
    called: dict[str, str] = {}
    for number, message in enumerate(messages):
        if message.clear_at != "next_user_message" or number > last_user:
            turns += message.turns(called)
    return settled(turns, join=True)


# What Anthropic knows by type: tools that it runs itself, and those whose schema its models learned.
_SEARCH = "tool_search_tool"


class ToolIn(BaseModel):
    """A tool that the client runs."""

    model_config = ConfigDict(extra="forbid")

    type: Literal["custom"] | None = None
    name: _Name
    description: Text | None = None
    input_schema: dict[str, Any]
    input_examples: Annotated[list[dict[str, Any]], Field(max_length=20)] | None = None
    strict: bool | None = None  # a forced call's input keeps to the schema in any case
    # Without a meaning here: the prefix cache is automatic, and every tool is described at once.
    cache_control: Any = None
    eager_input_streaming: bool | None = None
    defer_loading: bool | None = None
    allowed_callers: Any = None

    @model_validator(mode="before")
    @classmethod
    def _is_the_clients(cls, value: Any) -> Any:
        kind = value.get("type") if isinstance(value, dict) else None
        if isinstance(kind, str) and kind != "custom":
            raise ValueError(
                f"the hub has no {kind}: it runs no tools itself and models here know none of "
                "Anthropic's; leave it out, or describe your own with name and input_schema"
            )
        return value

    def description_for_template(self) -> dict[str, Any]:
        examples = [json.dumps(value, ensure_ascii=False) for value in self.input_examples or []]
        function: dict[str, Any] = {
            "name": self.name,
            "description": "\n".join(
                [self.description or "", *(f"Example of its input: {e}" for e in examples)]
            ).strip("\n"),
            "parameters": self.input_schema,
        }
        if self.strict:
            function[inputs.STRICT] = True
        return {"type": "function", "function": function}


def _but_the_search_for_tools(tools: Any) -> Any:
    """Without what finds deferred tools: the model sees all of them at once."""
    if not isinstance(tools, list):
        return tools
    return [
        tool
        for tool in tools
        if not (isinstance(tool, dict) and str(tool.get("type", "")).startswith(_SEARCH))
    ]


Tools = Annotated[list[ToolIn], BeforeValidator(_but_the_search_for_tools), Field(max_length=128)]


class ToolChoice(BaseModel):
    type: Literal["auto", "any", "tool", "none"]
    name: _Name | None = None
    disable_parallel_tool_use: bool | None = None
