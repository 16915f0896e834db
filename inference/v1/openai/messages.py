"""OpenAI's chat messages and tools, as they come in."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Discriminator,
    Field,
    Tag,
    model_validator,
)

from backends.base import Message, inputs
from inference.v1.compatibility import Text
from inference.v1.turns import settled

_Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{1,64}$")]
_Id = Annotated[str, Field(min_length=1, max_length=200)]


class TextPart(BaseModel):
    model_config = ConfigDict(extra="ignore")

    type: Literal["text"]
    text: Text


class FunctionCallIn(BaseModel):
    """`arguments` are a JSON object as text, or what there was of one that was cut off."""

    name: _Name
    arguments: Annotated[Text, AfterValidator(lambda text: text or "{}")] = "{}"


class ToolCallIn(BaseModel):
    id: _Id
    type: Literal["function"] = "function"
    function: FunctionCallIn

    @property
    def called(self) -> FunctionCallIn:
        """As the model wrote it."""
        return self.function


class CustomInputIn(BaseModel):
    name: _Name
    input: Text = ""


class CustomCallIn(BaseModel):
    id: _Id
    type: Literal["custom"]
    custom: CustomInputIn

    @property
    def called(self) -> FunctionCallIn:
        """As the model wrote it: see `backends.base.inputs`."""
        return FunctionCallIn(name=self.custom.name, arguments=inputs.arguments(self.custom.input))


def _kind(value: Any) -> str:
    """Of a tool or a call of one; a function's may be left out."""
    kind = value.get("type") if isinstance(value, dict) else getattr(value, "type", None)
    return "custom" if kind == "custom" else "function"


AnyCall = Annotated[
    Annotated[ToolCallIn, Tag("function")] | Annotated[CustomCallIn, Tag("custom")],
    Discriminator(_kind),
]


class ChatMessageIn(BaseModel):
    """`content` is a text or a list of text parts. A developer message counts as system."""

    model_config = ConfigDict(extra="ignore")  # answers sent back carry refusal, annotations, …

    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: Text | Annotated[list[TextPart], Field(min_length=1, max_length=100)] | None = None
    reasoning_content: Text | None = None
    reasoning: Text | None = None  # the same by its other name
    tool_calls: Annotated[list[AnyCall], Field(max_length=128)] | None = None
    tool_call_id: _Id | None = None

    @model_validator(mode="after")
    def _fits_its_role(self) -> ChatMessageIn:
        if self.tool_calls and self.role != "assistant":
            raise ValueError("only an assistant message has tool_calls")
        if (self.tool_call_id is not None) != (self.role == "tool"):
            raise ValueError("a tool message, and no other, has the tool_call_id that it answers")
        if self.content is None and not (self.tool_calls or self.thoughts or self.role == "tool"):
            raise ValueError("content may be null only beside tool_calls, and in a tool's result")
        return self

    @property
    def thoughts(self) -> str:
        """What an assistant thought before it answered; of no use in any other role."""
        return (self.reasoning_content or self.reasoning or "") if self.role == "assistant" else ""

    @property
    def text(self) -> str:
        if self.content is None or isinstance(self.content, str):
            return self.content or ""
        return "".join(part.text for part in self.content)


def chat(messages: Sequence[ChatMessageIn]) -> list[Message]:
    """The chat for the model's template. Raises ValueError for a result that answers no call."""
    called: dict[str, str] = {}
    turns = []
    for message in messages:
        role = "system" if message.role == "developer" else message.role
        turn = Message(role=role, content=message.text)
        if message.thoughts:
            turn["reasoning_content"] = message.thoughts
        if message.tool_calls:
            called |= {call.id: call.called.name for call in message.tool_calls}
            turn["tool_calls"] = [
                {"id": call.id, "type": "function", "function": call.called.model_dump()}
                for call in message.tool_calls
            ]
        if message.tool_call_id is not None:
            if message.tool_call_id not in called:
                raise ValueError(
                    f"the tool message with tool_call_id {message.tool_call_id!r} does not "
                    "answer a tool call of an earlier assistant message"
                )
            turn["tool_call_id"] = message.tool_call_id
            turn["name"] = called[message.tool_call_id]
        turns.append(turn)
    return settled(turns)


class FunctionIn(BaseModel):
    model_config = ConfigDict(extra="forbid")

    name: _Name
    description: Text | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None  # a forced call keeps to the schema in any case


class FunctionToolIn(BaseModel):
    model_config = ConfigDict(extra="forbid")

    type: Literal["function"]
    function: FunctionIn

    @property
    def name(self) -> str:
        return self.function.name

    def description(self) -> dict[str, Any]:
        """The tool as the engine gets it."""
        function: dict[str, Any] = {
            "name": self.function.name,
            "description": self.function.description or "",
            "parameters": self.function.parameters or {"type": "object", "properties": {}},
        }
        if self.function.strict:
            function[inputs.STRICT] = True
        return {"type": "function", "function": function}


class GrammarIn(BaseModel):
    """Of the input of a custom tool: described to the model, and enforced."""

    model_config = ConfigDict(extra="forbid")

    syntax: Literal["lark", "regex"]
    definition: Annotated[Text, Field(min_length=1)]


class InputFormatIn(BaseModel):
    model_config = ConfigDict(extra="forbid")

    type: Literal["text", "grammar"]
    grammar: GrammarIn | None = None

    @model_validator(mode="after")
    def _has_its_grammar(self) -> InputFormatIn:
        if (self.grammar is not None) != (self.type == "grammar"):
            raise ValueError("a format of the type grammar, and no other, has a grammar")
        return self


class CustomIn(BaseModel):
    model_config = ConfigDict(extra="forbid")

    name: _Name
    description: Text | None = None
    format: InputFormatIn | None = None


class CustomToolIn(BaseModel):
    """A tool whose input is a text: see `backends.base.inputs`."""

    model_config = ConfigDict(extra="forbid")

    type: Literal["custom"]
    custom: CustomIn

    @property
    def name(self) -> str:
        return self.custom.name

    def description(self) -> dict[str, Any]:
        """The function that stands for it."""
        form = self.custom.format
        grammar = form.grammar.model_dump() if form and form.grammar else {}
        return inputs.described(self.name, self.custom.description or "", grammar)


ToolIn = Annotated[
    Annotated[FunctionToolIn, Tag("function")] | Annotated[CustomToolIn, Tag("custom")],
    Discriminator(_kind),
]


class Named(BaseModel):
    name: _Name


class NamedTool(BaseModel):
    type: Literal["function"]
    function: Named

    @property
    def name(self) -> str:
        return self.function.name


class NamedCustomTool(BaseModel):
    type: Literal["custom"]
    custom: Named

    @property
    def name(self) -> str:
        return self.custom.name


def _choice(value: Any) -> str:
    return "word" if isinstance(value, str) else _kind(value)


ToolChoice = Annotated[
    Annotated[Literal["none", "auto", "required"], Tag("word")]
    | Annotated[NamedTool, Tag("function")]
    | Annotated[NamedCustomTool, Tag("custom")],
    Discriminator(_choice),
]
