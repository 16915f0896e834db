"""Anthropic's requests: what the hub honours, what it ignores, and a clear refusal of the rest."""

from __future__ import annotations

import json
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from backends.base import Grammar, Message, Sampling
from inference.gateway.request import MAX_MESSAGES, GenerationRequest
from inference.v1.anthropic import messages as anthropic_messages
from inference.v1.anthropic.messages import MessageIn, Texts, ToolChoice, Tools
from inference.v1.compatibility import (
    CompatibleRequest,
    MaxTokens,
    ModelName,
    Refused,
    StopText,
    TopK,
    TopP,
)
from inference.v1.thinking import Thinking, template

_NOT_THREADED = {
    "error_code": "thread_unsupported_request",
    "unsupported": ["thread"],
}  # the client then sends the whole conversation


class JsonFormat(BaseModel):
    model_config = ConfigDict(extra="forbid", populate_by_name=True)

    type: Literal["json_schema"]
    schema_: Annotated[dict[str, Any], Field(alias="schema")]


class OutputConfig(BaseModel):
    model_config = ConfigDict(extra="ignore")  # task_budget

    format: JsonFormat | None = None
    effort: str | None = None


class PromptIn(CompatibleRequest):
    """A prompt, to answer or to count."""

    IGNORED: ClassVar = {
        "betas": "what is honoured is honoured without a beta",
        "billing_policy": "nothing is billed",
        "cache_control": "the prefix cache is automatic",
        "compaction": "the hub never shortens a conversation",
        "context_management": "the hub never shortens a conversation",
        "diagnostics": "the hub does not compare requests",
        "fallback_credit_token": "nothing is billed",
        "fallbacks": "the model that is asked answers",
        "inference_geo": "it runs on this machine",
        "metadata": "identifies the client",
        "service_tier": "there is only one tier",
        "user_profile_id": "identifies the client",
        "workspace_id": "identifies the client",
    }
    REFUSED: ClassVar = {
        "speed": Refused("there is only one speed", ("standard",)),
        "mcp_servers": Refused("the hub does not call tools itself", ([],)),
        "container": Refused("the hub does not run code"),
        "thread": Refused(
            "it keeps no conversations; send all messages, as the client does after this error",
            details=_NOT_THREADED,
        ),
    }

    model: ModelName
    messages: Annotated[
        list[MessageIn],
        Field(
            min_length=1,
            max_length=MAX_MESSAGES,
            description="blocks text, thinking, tool_use, tool_result and search_result; images and "
            "documents are refused; the last turn must be the user's. System turns at the start are "
            "one, a later one joins the user's turn before it, else the one after it",
        ),
    ]
    system: Annotated[Texts | None, Field(description="a text or text blocks")] = None
    tools: Annotated[
        Tools | None,
        Field(
            description="custom tools. Each is described to the model at once: `defer_loading`, "
            "`allowed_callers` and a tool_search_tool are ignored, `input_examples` join the "
            "description. Other tools of a type that Anthropic defines (web_search, code_execution, "
            "bash, text_editor, …) are refused by name"
        ),
    ] = None
    tool_choice: Annotated[
        ToolChoice | None,
        Field(
            description="any and tool are enforced token by token, in every notation that the hub "
            "reads; what one cannot write (a list in FunctionGemma's) is refused"
        ),
    ] = None
    output_config: Annotated[
        OutputConfig | None,
        Field(
            description="`format` is enforced token by token, beside tools too: the answer is then "
            "calls or what it describes; `effort` is the chat template's `reasoning_effort`"
        ),
    ] = None
    output_format: Annotated[
        JsonFormat | None, Field(description="the older name of `output_config.format`")
    ] = None
    thinking: Annotated[
        Thinking | None,
        Field(
            description="disabled turns it off where the chat template can; `budget_tokens` is "
            "enforced token by token"
        ),
    ] = None

    @model_validator(mode="after")
    def _goes_together(self) -> PromptIn:
        self.chat()
        said = [message.role for message in self.messages if message.role != "system"]
        if said[-1:] != ["user"]:
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

    def chat(self) -> list[Message]:
        return anthropic_messages.chat(self.system, self.messages)

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
        format_ = self.output_config.format if self.output_config else None
        format_ = format_ or self.output_format
        return Grammar("json_schema", json.dumps(format_.schema_)) if format_ else None


_SAMPLED = "says how to answer, not what to count"


class CountIn(PromptIn):
    """A prompt, to count its tokens. All that a message takes is taken."""

    IGNORED: ClassVar = {
        **PromptIn.IGNORED,
        "max_tokens": _SAMPLED,
        "stop_sequences": _SAMPLED,
        "stream": _SAMPLED,
        "temperature": _SAMPLED,
        "top_k": _SAMPLED,
        "top_p": _SAMPLED,
    }


class MessagesIn(PromptIn):
    """A chat to answer."""

    max_tokens: MaxTokens
    stream: bool | None = False
    stop_sequences: Annotated[
        list[StopText] | None,
        Field(max_length=16, description="up to 16 texts of up to 200 characters"),
    ] = None
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
            one_call=bool(self.tool_choice and self.tool_choice.disable_parallel_tool_use),
        )

    def sampling(self) -> Sampling:
        return Sampling(
            max_tokens=self.max_tokens,
            temperature=self.temperature or 0.0,
            top_p=1.0 if self.top_p is None else self.top_p,
            top_k=self.top_k or 0,
            stop=tuple(self.stop_sequences or ()),
            grammar=self.grammar(),
            thinking_budget=self.thinking.budget_tokens if self.thinking else None,
        )
