"""Anthropic's requests, and how their blocks become the messages of a chat."""

from __future__ import annotations

import json
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from backends.base import Grammar, Message, Sampling
from inference.gateway.request import MAX_MESSAGES, GenerationRequest
from inference.v1.compatibility import (
    CompatibleRequest,
    MaxTokens,
    ModelName,
    Refused,
    StopText,
    Text,
    TopK,
    TopP,
    Unsupported,
)
from inference.v1.thinking import Thinking, template

_Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{1,128}$")]
_Id = Annotated[str, Field(min_length=1, max_length=200)]


class TextBlock(BaseModel):
    model_config = ConfigDict(extra="ignore")  # cache_control, citations

    type: Literal["text"]
    text: Text


class ThinkingBlock(BaseModel):
    """What an earlier answer thought; its signature is not checked."""

    model_config = ConfigDict(extra="ignore")

    type: Literal["thinking"]
    thinking: Text


class RedactedBlock(BaseModel):
    """Thoughts that another service wrote in a cipher: there is nothing to read."""

    model_config = ConfigDict(extra="ignore")

    type: Literal["redacted_thinking"]


class ToolUseBlock(BaseModel):
    model_config = ConfigDict(extra="ignore")

    type: Literal["tool_use"]
    id: _Id
    name: _Name
    input: dict[str, Any] = {}

    def call(self) -> dict[str, Any]:
        function = {"name": self.name, "arguments": json.dumps(self.input, ensure_ascii=False)}
        return {"id": self.id, "type": "function", "function": function}


class ToolResultBlock(BaseModel):
    model_config = ConfigDict(extra="ignore")

    type: Literal["tool_result"]
    tool_use_id: _Id
    content: Text | Annotated[list[TextBlock], Field(max_length=100)] | None = None
    is_error: bool | None = None

    @property
    def text(self) -> str:
        text = joined(self.content or "")
        return f"Error: {text}" if self.is_error else text


KnownBlock = TextBlock | ThinkingBlock | RedactedBlock | ToolUseBlock | ToolResultBlock
Block = Annotated[KnownBlock, Field(discriminator="type")]


class MessageIn(BaseModel):
    """A turn. Its blocks are texts, in an assistant's turn also thoughts and calls of tools, in a
    user's turn also their results. A system turn may stand anywhere."""

    model_config = ConfigDict(extra="forbid")

    role: Literal["user", "assistant", "system"]
    content: Text | Annotated[list[Block], Field(max_length=200)]

    @model_validator(mode="after")
    def _fits_its_role(self) -> MessageIn:
        kinds = {block.type for block in self.blocks}
        own = {"thinking", "redacted_thinking", "tool_use"}
        for kind in sorted(kinds & own if self.role != "assistant" else set()):
            raise ValueError(f"a {self.role} message cannot have a {kind}")
        if self.role != "user" and "tool_result" in kinds:
            raise ValueError(f"a message of role {self.role} cannot have a tool_result")
        return self

    @property
    def blocks(self) -> list[KnownBlock]:
        return [] if isinstance(self.content, str) else self.content

    def turns(self, called: dict[str, str]) -> list[Message]:
        """The chat messages of this turn. `called` has the tool's name of each call so far and
        learns this turn's. Raises ValueError for a result that answers no call."""
        turns = []
        for block in self.blocks:
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
        calls = [block for block in self.blocks if isinstance(block, ToolUseBlock)]
        thoughts = [block.thinking for block in self.blocks if isinstance(block, ThinkingBlock)]
        if text or calls or not turns:
            turn = Message(role=self.role, content=text)
            if thoughts:
                turn["reasoning_content"] = "\n\n".join(thoughts)
            if calls:
                called |= {block.id: block.name for block in calls}
                turn["tool_calls"] = [block.call() for block in calls]
            turns.append(turn)
        return turns


def joined(content: Any) -> str:
    """A text, or the texts among blocks, as one text."""
    if isinstance(content, str):
        return content
    return "".join(block.text for block in content if isinstance(block, TextBlock))


class ToolIn(BaseModel):
    """A tool that the client runs. Anthropic's own tools (web search, code, …) are not here."""

    model_config = ConfigDict(extra="forbid")

    type: Literal["custom"] | None = None
    name: _Name
    description: Text | None = None
    input_schema: dict[str, Any]
    strict: bool | None = None  # a forced call's input keeps to the schema in any case
    cache_control: Any = None
    eager_input_streaming: bool | None = None

    def description_for_template(self) -> dict[str, Any]:
        function = {
            "name": self.name,
            "description": self.description or "",
            "parameters": self.input_schema,
        }
        return {"type": "function", "function": function}


class ToolChoice(BaseModel):
    type: Literal["auto", "any", "tool", "none"]
    name: _Name | None = None
    disable_parallel_tool_use: bool = False


class JsonFormat(BaseModel):
    model_config = ConfigDict(extra="forbid", populate_by_name=True)

    type: Literal["json_schema"]
    schema_: Annotated[dict[str, Any], Field(alias="schema")]


class OutputConfig(BaseModel):
    format: JsonFormat | None = None
    effort: str | None = None


class CountIn(CompatibleRequest):
    """A prompt, to count its tokens."""

    IGNORED: ClassVar = {
        "cache_control": "the prefix cache is automatic",
        "metadata": "identifies the client",
        "user_profile_id": "identifies the client",
        "workspace_id": "identifies the client",
        "inference_geo": "it runs on this machine",
    }
    REFUSED: ClassVar = {
        "speed": Refused("there is only one speed", ("standard",)),
        "mcp_servers": Refused("the hub does not call tools itself", ([],)),
        "container": Refused("the hub does not run code"),
        "diagnostics": Refused("the hub does not compare requests"),
    }

    model: ModelName
    messages: Annotated[
        list[MessageIn],
        Field(
            min_length=1,
            max_length=MAX_MESSAGES,
            description="blocks text, tool_use and tool_result; images are refused; the last "
            "message must be the user's",
        ),
    ]
    system: Annotated[
        Text | Annotated[list[TextBlock], Field(max_length=100)] | None,
        Field(description="a text or text blocks"),
    ] = None
    tools: Annotated[
        list[ToolIn] | None,
        Field(
            max_length=128, description="custom tools; the tools that Anthropic runs are refused"
        ),
    ] = None
    tool_choice: Annotated[
        ToolChoice | None,
        Field(
            description="any and tool are enforced token by token where the hub knows the "
            "template's notation, and refused elsewhere"
        ),
    ] = None
    output_config: Annotated[
        OutputConfig | None,
        Field(
            description="`format` is enforced token by token; `effort` is the chat template's "
            "`reasoning_effort`"
        ),
    ] = None
    thinking: Annotated[
        Thinking | None,
        Field(
            description="disabled turns it off where the chat template can; `budget_tokens` is "
            "enforced token by token"
        ),
    ] = None

    @model_validator(mode="after")
    def _goes_together(self) -> CountIn:
        self.chat()
        if self.messages[-1].role != "user":
            raise ValueError(
                "the last message must be the user's; prefilled answers are not supported"
            )
        named = {tool.name for tool in self.tools or []}
        choice = self.tool_choice
        if choice and choice.type == "tool" and choice.name not in named:
            raise ValueError(f"tool_choice names {choice.name!r}, which is not one of the tools")
        if choice and choice.type == "any" and not named:
            raise ValueError("tool_choice any needs tools")
        return self

    def refuse_unsupported(self) -> None:
        super().refuse_unsupported()
        if self.grammar() and self.callable_tools():
            raise Unsupported(
                "output_config",
                "A format and tools cannot be combined; send one of them, or tool_choice "
                '{"type": "none"}.',
            )

    def chat(self) -> list[Message]:
        """System first; turns of one role that follow each other are one turn."""
        chat: list[Message] = []
        if self.system:
            chat.append(Message(role="system", content=joined(self.system)))
        called: dict[str, str] = {}
        for message in self.messages:
            for turn in message.turns(called):
                last = chat[-1] if chat else None
                plain = last is not None and "tool_calls" not in last and turn["role"] != "tool"
                if last is not None and plain and last["role"] == turn["role"]:
                    turn["content"] = "\n\n".join(filter(None, (last["content"], turn["content"])))
                    chat[-1] = turn
                else:
                    chat.append(turn)
        return chat

    def callable_tools(self) -> list[dict[str, Any]]:
        """The tools that the model sees."""
        if self.tool_choice and self.tool_choice.type == "none":
            return []
        return [tool.description_for_template() for tool in self.tools or []]

    def template(self) -> dict[str, Any]:
        """Variables of the chat template."""
        effort = self.output_config.effort if self.output_config else None
        return template(effort, thinking=self.thinking)

    def forced_tools(self) -> list[str]:
        """The names of the tools of which one must be called; empty when the model decides."""
        if self.tool_choice and self.tool_choice.type == "tool":
            return [str(self.tool_choice.name)]
        if self.tool_choice and self.tool_choice.type == "any":
            return [tool.name for tool in self.tools or []]
        return []

    def grammar(self) -> Grammar | None:
        if self.output_config is None or self.output_config.format is None:
            return None
        return Grammar("json_schema", json.dumps(self.output_config.format.schema_))


class MessagesIn(CountIn):
    """A chat to answer."""

    IGNORED: ClassVar = {**CountIn.IGNORED, "service_tier": "there is only one tier"}

    max_tokens: MaxTokens
    stream: bool | None = False
    stop_sequences: Annotated[
        list[StopText], Field(max_length=16, description="up to 16 texts of up to 200 characters")
    ] = []
    temperature: Annotated[
        float | None,
        Field(
            ge=0,
            le=1,
            description="0 (greedy) by default; accepted with version 2026-10-21 too, which "
            "dropped it together with top_p and top_k",
        ),
    ] = None
    top_p: TopP | None = None
    top_k: TopK | None = None

    def request(self) -> GenerationRequest:
        """Raises Unsupported."""
        self.refuse_unsupported()
        return GenerationRequest(
            model=self.model,
            prompts=[self.chat()],
            sampling=self.sampling(),
            tools=self.callable_tools(),
            template=self.template(),
            forced_tools=self.forced_tools(),
            one_call=self.tool_choice is not None and self.tool_choice.disable_parallel_tool_use,
        )

    def sampling(self) -> Sampling:
        return Sampling(
            max_tokens=self.max_tokens,
            temperature=self.temperature or 0.0,
            top_p=1.0 if self.top_p is None else self.top_p,
            top_k=self.top_k or 0,
            stop=tuple(self.stop_sequences),
            grammar=self.grammar(),
            thinking_budget=self.thinking.budget_tokens if self.thinking else None,
        )
