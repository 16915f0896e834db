"""Requests for a response: what the hub honours, what it passes over with a word, and the rest."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag, model_validator

from backends.base import Grammar, Message, Sampling
from inference.gateway.request import MAX_MESSAGES, GenerationRequest
from inference.v1 import thinking
from inference.v1.compatibility import (
    CompatibleRequest,
    MaxTokensOrOff,
    ModelName,
    Refused,
    Text,
    TopP,
    Unsupported,
)
from inference.v1.responses import items as turns
from inference.v1.responses.items import Item, MoreToolsItem, OtherItem, OutputItem, ReferenceItem
from inference.v1.responses.tools import (
    AllowedChoice,
    HostedChoice,
    HostedTool,
    NamedChoice,
    Offered,
    ToolChoice,
    ToolIn,
    offered,
)
from inference.v1.thinking import Budget, Effort, TemplateVariables

MAX_ITEMS = 4 * MAX_MESSAGES  # thoughts, words, call and output of one turn are four
_LABEL = "labels the request"
_CACHE = "the prefix cache is automatic"


class TextFormat(BaseModel):
    """`strict` or not, a schema is enforced token by token."""

    model_config = ConfigDict(extra="ignore", populate_by_name=True)

    type: Literal["text", "json_object", "json_schema"]
    name: Annotated[str, Field(max_length=64)] | None = None
    description: Text | None = None
    schema_: Annotated[dict[str, Any] | None, Field(alias="schema")] = None
    strict: bool | None = None

    @model_validator(mode="after")
    def _has_its_schema(self) -> TextFormat:
        if self.type == "json_schema" and self.schema_ is None:
            raise ValueError("json_schema needs a schema")
        return self

    def grammar(self) -> Grammar | None:
        if self.type == "json_schema":
            return Grammar("json_schema", json.dumps(self.schema_))
        return Grammar("json_object") if self.type == "json_object" else None


class TextIn(BaseModel):
    model_config = ConfigDict(extra="ignore")  # verbosity

    format: TextFormat | None = None
    verbosity: str | None = None


class ReasoningIn(BaseModel):
    model_config = ConfigDict(extra="ignore")

    effort: Effort | None = None
    summary: Literal["auto", "concise", "detailed", "none"] | None = None
    generate_summary: Literal["auto", "concise", "detailed", "none"] | None = None

    @property
    def asks_for_a_summary(self) -> bool:
        return (self.summary or self.generate_summary or "none") != "none"


class ResponseIn(CompatibleRequest):
    """A conversation to continue by one response."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "model": "calendar",
                    "instructions": "Answer with JSON.",
                    "input": "Lunch with Ana next Friday at noon",
                    "stream": True,
                }
            ]
        },
    )
    IGNORED: ClassVar = {
        "user": _LABEL,
        "safety_identifier": _LABEL,
        "client_metadata": _LABEL,
        "access_programs": _LABEL,
        "prompt_cache_key": _CACHE,
        "prompt_cache_options": _CACHE,
        "prompt_cache_retention": "the prefix cache keeps what fits its budget",
        "service_tier": "there is only one tier",
        "stream_options": "nothing is added to the events",
        "max_tool_calls": "it counts calls of tools that OpenAI runs",
        "context_management": "the hub does not shorten conversations",
        "image": "there are no images",
        "background_options": "there is no background mode",
    }
    REFUSED: ClassVar = {
        "previous_response_id": Refused(
            "answers are not stored; send the earlier items again in `input`, with those of the "
            "answer"
        ),
        "conversation": Refused("conversations are not stored; send the earlier items in `input`"),
        "prompt": Refused("it has no stored prompts; send `instructions` and `input`"),
        "background": Refused("an answer comes while you wait; use stream", (False,)),
        "moderation": Refused("it has no moderation"),
    }

    model: ModelName
    input: Annotated[
        Annotated[Text, Field(min_length=1), Tag("text")]
        | Annotated[list[Item], Field(min_length=1, max_length=MAX_ITEMS), Tag("items")],
        Discriminator(lambda value: "text" if isinstance(value, str) else "items"),
        Field(
            description="a text, or items: messages, calls of functions and custom tools, their "
            "outputs, reasoning, additional_tools, and item_reference to one of the last answers. "
            "Images and files are refused, in outputs replaced by a text that says so; what tools "
            "that OpenAI runs have left is ignored; `x-hub-ignored` names both"
        ),
    ]
    instructions: Annotated[
        Text | None, Field(description="come first, before every system and developer message")
    ] = None
    stream: bool | None = False
    tools: Annotated[
        list[ToolIn] | None,
        Field(
            max_length=256,
            description="functions, custom tools (for the model a function with one text, `input`; "
            "their grammar is described to it, and enforced: a regex, or a Lark grammar "
            "whose rules do not refer to themselves) and namespaces of both; tools that OpenAI "
            "runs are ignored and named in `x-hub-ignored`",
        ),
    ] = None
    tool_choice: Annotated[
        ToolChoice | None,
        Field(
            description="none, auto, required, a named tool or allowed_tools; required and a named "
            "tool are enforced token by token, in every notation that the hub reads; what one cannot "
            "write (a list in FunctionGemma's) is refused"
        ),
    ] = None
    parallel_tool_calls: Annotated[
        bool | None, Field(description="false keeps only the first call")
    ] = None
    text: Annotated[
        TextIn | None,
        Field(
            description="`format` json_object and json_schema are enforced token by token, with or "
            "without `strict`; with tools the answer is calls or what it describes; text has a classification "
            "version answer in its own words; `verbosity` is ignored"
        ),
    ] = None
    reasoning: Annotated[
        ReasoningIn | None,
        Field(
            description="`effort` is for the chat template, none turns thinking off where it can "
            "be; with `summary` the thoughts come, whole, as the summary, else as the content of "
            "the reasoning item"
        ),
    ] = None
    thinking_budget: Annotated[
        Budget | None,
        Field(description="not OpenAI's; after so many tokens of thoughts the answer has to begin"),
    ] = None
    chat_template_kwargs: Annotated[
        TemplateVariables | None,
        Field(description="not OpenAI's; variables of the model's chat template"),
    ] = None
    max_output_tokens: Annotated[
        MaxTokensOrOff, Field(description="up to the end of the model's context by default")
    ] = None
    temperature: Annotated[float | None, Field(ge=0, le=2, description="0 (greedy) by default")] = (
        None
    )
    top_p: TopP | None = None
    top_logprobs: Annotated[
        int | None, Field(ge=0, le=20, description="0 to 20, for each token of the answer")
    ] = None
    seed: Annotated[
        int | None,
        Field(ge=-(2**63), lt=2**63, description="not OpenAI's here; same seed, same text"),
    ] = None
    truncation: Annotated[
        Literal["auto", "disabled"] | None,
        Field(description="auto drops nothing here, either: a prompt that is too long is refused"),
    ] = None
    include: Annotated[
        list[Annotated[str, Field(max_length=100)]] | None,
        Field(
            max_length=20,
            description="message.output_text.logprobs; reasoning.encrypted_content is null, since "
            "thoughts are sent as text; the rest is of tools that OpenAI runs",
        ),
    ] = None
    store: Annotated[
        bool | None,
        Field(
            description="no answer is stored; with false its items are not kept in memory, either, "
            "to be found by item_reference"
        ),
    ] = None
    metadata: Annotated[
        dict[str, str] | None, Field(max_length=16, description="comes back with the answer")
    ] = None
    deadline_s: Annotated[
        float | None,
        Field(gt=0, le=86_400, description="not OpenAI's; seconds after which the request fails"),
    ] = None

    @model_validator(mode="after")
    def _goes_together(self) -> ResponseIn:
        if not any(isinstance(item, ReferenceItem) for item in self.items):
            self._check_chat()
        names = [tool.name for tool in offered(self.every_tool)]
        if len(set(names)) < len(names):
            raise ValueError("two tools have the same name")
        choice = self.tool_choice
        if isinstance(choice, HostedChoice):
            raise ValueError(f"tool_choice {choice.type}: the hub cannot run such a tool")
        if isinstance(choice, NamedChoice) and choice.full_name not in names:
            raise ValueError(f"tool_choice names {choice.name!r}, which is not one of the tools")
        if self.forces and not self.offered:
            raise ValueError("tool_choice required needs tools that you run (function, custom)")
        return self

    def _check_chat(self) -> None:
        """Raises ValueError."""
        if not self.chat():
            raise ValueError("input has no message")

    def recall(self, find: Callable[[str], dict[str, Any] | None]) -> None:
        """Put the items in the places of the references to them. Raises Unsupported."""
        if any(isinstance(item, ReferenceItem) for item in self.items):
            try:
                self.input = turns.recalled(self.items, find)
                self._check_chat()
            except ValueError as error:
                why = str(error)
                sentence = f"{why[:1].upper()}{why[1:]}."
                raise Unsupported("input", sentence, "invalid_value") from error

    @property
    def items(self) -> list[Any]:
        """What follows the instructions."""
        if isinstance(self.input, str):
            return [turns.MessageItem(role="user", content=self.input)]
        return self.input

    def chat(self) -> list[Message]:
        return turns.chat(self.instructions or "", self.items)

    @property
    def every_tool(self) -> list[Any]:
        more = [item.tools for item in self.items if isinstance(item, MoreToolsItem)]
        return [*(self.tools or []), *(tool for tools in more for tool in tools)]

    @property
    def offered(self) -> dict[str, Offered]:
        """The tools that the model sees, by the names that it calls them."""
        choice = self.tool_choice
        if choice == "none":
            return {}
        found = {tool.name: tool for tool in offered(self.every_tool)}
        if isinstance(choice, AllowedChoice):
            found = {name: tool for name, tool in found.items() if name in choice.names}
        return found

    @property
    def forces(self) -> bool:
        """Whether one of the offered tools must be called."""
        choice = self.tool_choice
        return choice == "required" or (
            isinstance(choice, AllowedChoice) and choice.mode == "required"
        )

    def forced_tools(self) -> list[str]:
        """The names of the tools of which one must be called; empty when the model decides."""
        if isinstance(self.tool_choice, NamedChoice):
            return [self.tool_choice.full_name]
        return list(self.offered) if self.forces else []

    def grammar(self) -> Grammar | None:
        return self.text.format.grammar() if self.text and self.text.format else None

    @property
    def with_logprobs(self) -> bool:
        return bool(self.top_logprobs) or "message.output_text.logprobs" in (self.include or [])

    def passed_over(self) -> list[str]:
        """Names of tools and items that the hub leaves out, though they may have mattered."""
        tools = {f"tools.{tool.type}" for tool in self.every_tool if isinstance(tool, HostedTool)}
        left = {f"input.{item.type}" for item in self.items if isinstance(item, OtherItem)}
        names = [*sorted(tools), *sorted(left)]
        if any(isinstance(item, OutputItem) and item.has_unread for item in self.items):
            names.append("input.function_call_output.images")
        return names

    def sampling(self) -> Sampling:
        return Sampling(
            max_tokens=self.max_output_tokens,
            temperature=self.temperature or 0.0,
            top_p=1.0 if self.top_p is None else self.top_p,
            seed=None if self.seed is None else self.seed % 2**63,
            logprobs=self.with_logprobs,
            top_logprobs=self.top_logprobs or 0,
            grammar=self.grammar(),
            thinking_budget=self.thinking_budget,
        )

    def template(self) -> dict[str, Any]:
        """Variables of the chat template."""
        effort = self.reasoning.effort if self.reasoning else None
        return thinking.template(effort, variables=self.chat_template_kwargs)

    def request(self) -> GenerationRequest:
        """Raises Unsupported."""
        self.refuse_unsupported()
        plain = self.text and self.text.format and self.text.format.type == "text"
        return GenerationRequest(
            model=self.model,
            prompts=[self.chat()],
            sampling=self.sampling(),
            tools=[tool.description() for tool in self.offered.values()],
            template=self.template(),
            forced_tools=self.forced_tools(),
            one_call=self.parallel_tool_calls is False,
            deadline_s=self.deadline_s,
            classify=False if plain else None,
        )
