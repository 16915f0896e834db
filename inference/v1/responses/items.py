"""The items of a conversation, as clients send them, and the chat that they are."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag, TypeAdapter, field_validator

from backends.base import Message, inputs
from inference.v1.compatibility import Text
from inference.v1.responses.tools import Name, ToolIn, full_name
from inference.v1.turns import settled

_CallId = Annotated[str, Field(min_length=1, max_length=200)]
UNREAD = "[Not shown: this model reads text alone.]"
_FILES = {
    "input_image": "images",
    "input_file": "files",
    "input_audio": "audio",
    "computer_screenshot": "images",
}
# What OpenAI's own tools left in a conversation that began there.
PASSED_OVER = frozenset(
    (
        "apply_patch_call",
        "apply_patch_call_output",
        "code_interpreter_call",
        "compaction",
        "compaction_trigger",
        "computer_call",
        "computer_call_output",
        "configuration_update",
        "context_compaction",
        "file_search_call",
        "image_generation_call",
        "local_shell_call",
        "local_shell_call_output",
        "mcp_approval_request",
        "mcp_approval_response",
        "mcp_call",
        "mcp_list_tools",
        "program",
        "program_output",
        "shell_call",
        "shell_call_output",
        "tool_search_call",
        "tool_search_output",
        "web_search_call",
    )
)


class Part(BaseModel):
    """A piece of text."""

    model_config = ConfigDict(extra="ignore")  # annotations, logprobs

    type: Literal[
        "input_text", "output_text", "text", "refusal", "summary_text", "reasoning_text"
    ] = "text"
    text: Text = ""
    refusal: Text = ""

    @field_validator("type", mode="before")
    @classmethod
    def _is_text(cls, value: Any) -> Any:
        if isinstance(value, str) and value in _FILES:
            raise ValueError(
                f"{_FILES[value]} ({value}) cannot be read by the hub's models; send texts alone"
            )
        return value


Texts = Annotated[
    Annotated[Text, Tag("text")] | Annotated[list[Part], Field(max_length=1000), Tag("parts")],
    Discriminator(lambda value: "text" if isinstance(value, str) else "parts"),
]


def joined(content: str | list[Part]) -> str:
    if isinstance(content, str):
        return content
    return "".join(part.text or part.refusal for part in content)


class MessageItem(BaseModel):
    model_config = ConfigDict(extra="ignore")  # id, status, phase

    type: Literal["message"] = "message"
    role: Literal["user", "assistant", "system", "developer"]
    content: Texts


class ReasoningItem(BaseModel):
    """What an earlier answer thought. Only its writer can read `encrypted_content`."""

    model_config = ConfigDict(extra="ignore")

    type: Literal["reasoning"]
    summary: list[Part] = []
    content: list[Part] | None = None

    @property
    def thoughts(self) -> str:
        return "\n\n".join(part.text for part in self.content or self.summary if part.text)


class FunctionCallItem(BaseModel):
    """Arguments that were cut off are passed on as the text that they are."""

    model_config = ConfigDict(extra="ignore")

    type: Literal["function_call"]
    call_id: _CallId
    name: Name
    namespace: Name | None = None
    arguments: Text = "{}"


class CustomCallItem(BaseModel):
    model_config = ConfigDict(extra="ignore")

    type: Literal["custom_tool_call"]
    call_id: _CallId
    name: Name
    namespace: Name | None = None
    input: Text = ""

    @property
    def arguments(self) -> str:
        return inputs.arguments(self.input)


class OutputItem(BaseModel):
    model_config = ConfigDict(extra="ignore")

    type: Literal["function_call_output", "custom_tool_call_output"]
    call_id: _CallId
    output: Texts

    @field_validator("output", mode="before")
    @classmethod
    def _says_what_is_not_shown(cls, value: Any) -> Any:
        """A refusal would end an agent's session: the picture that a tool gave stays in its history.
        So the model reads it in words, and the client in the header."""
        if not isinstance(value, list):
            return value
        unread = {"type": "input_text", "text": UNREAD}
        kinds = [part.get("type") if isinstance(part, dict) else None for part in value]
        return [unread if kind in _FILES else part for kind, part in zip(kinds, value, strict=True)]

    @property
    def has_unread(self) -> bool:
        return not isinstance(self.output, str) and any(p.text == UNREAD for p in self.output)

    def turn(self, called: Mapping[str, str]) -> Message:
        """Raises ValueError for a result that answers no call."""
        if self.call_id not in called:
            raise ValueError(
                f"the {self.type} with call_id {self.call_id!r} answers no call before it; send "
                "the call, too"
            )
        turn = Message(role="tool", content=joined(self.output))
        turn["tool_call_id"], turn["name"] = self.call_id, called[self.call_id]
        return turn


class AgentMessageItem(BaseModel):
    """What one of Codex's agents writes to another: for the reader a user's turn."""

    model_config = ConfigDict(extra="ignore")

    type: Literal["agent_message"]
    author: Annotated[str, Field(max_length=200)]
    recipient: Annotated[str, Field(max_length=200)]
    content: Texts

    @property
    def text(self) -> str:
        return f"{self.author} to {self.recipient}:\n{joined(self.content)}"


class MoreToolsItem(BaseModel):
    """Tools that join in the middle of a conversation."""

    model_config = ConfigDict(extra="ignore")

    type: Literal["additional_tools"]
    tools: list[ToolIn]


class ReferenceItem(BaseModel):
    """Stands for an item of one of the last answers."""

    model_config = ConfigDict(extra="ignore")

    type: Literal["item_reference"]
    id: Annotated[str, Field(min_length=1, max_length=200)]


class OtherItem(BaseModel):
    """An item of a tool that OpenAI runs."""

    model_config = ConfigDict(extra="ignore")

    type: str

    @field_validator("type")
    @classmethod
    def _is_known(cls, value: str) -> str:
        if value not in PASSED_OVER:
            raise ValueError(f"there is no item of type {value!r}")
        return value


def _kind(value: Any) -> str:
    kind = value.get("type") if isinstance(value, dict) else getattr(value, "type", None)
    return _KINDS.get(str(kind or "message"), "other")


_KINDS = {
    "message": "message",
    "reasoning": "reasoning",
    "function_call": "call",
    "custom_tool_call": "custom",
    "function_call_output": "output",
    "custom_tool_call_output": "output",
    "agent_message": "agent",
    "additional_tools": "tools",
    "item_reference": "reference",
}
Item = Annotated[
    Annotated[MessageItem, Tag("message")]
    | Annotated[ReasoningItem, Tag("reasoning")]
    | Annotated[FunctionCallItem, Tag("call")]
    | Annotated[CustomCallItem, Tag("custom")]
    | Annotated[OutputItem, Tag("output")]
    | Annotated[AgentMessageItem, Tag("agent")]
    | Annotated[MoreToolsItem, Tag("tools")]
    | Annotated[ReferenceItem, Tag("reference")]
    | Annotated[OtherItem, Tag("other")],
    Discriminator(_kind),
]


_ITEM: TypeAdapter[Any] = TypeAdapter(Item)


def recalled(items: Iterable[Any], find: Callable[[str], dict[str, Any] | None]) -> list[Any]:
    """The items, each reference replaced by what it stands for. Raises ValueError, also for a second
    reference to one item: a short request could otherwise become a text without end."""
    whole, seen = [], set[str]()
    for item in items:
        if isinstance(item, ReferenceItem):
            if item.id in seen:
                raise ValueError(f"two items refer to {item.id!r}; send one item_reference to it")
            seen.add(item.id)
            found = find(item.id)
            if found is None:
                raise ValueError(
                    f"the item_reference to {item.id!r} refers to nothing: the hub remembers the items "
                    "of its last answers alone, and not for long; send the item itself (most clients "
                    "do with store false)"
                )
            item = _ITEM.validate_python(found)
        whole.append(item)
    return whole


def chat(instructions: str, items: Iterable[Any]) -> list[Message]:
    """The chat for the model's template: what an assistant thought, said and called until a result
    or another's message is one turn. Raises ValueError for a result that answers no call."""
    turns = [Message(role="system", content=instructions)] if instructions else []
    called: dict[str, str] = {}
    answer: Message | None = None
    for item in items:
        if isinstance(item, ReasoningItem | FunctionCallItem | CustomCallItem) or (
            isinstance(item, MessageItem) and item.role == "assistant"
        ):
            if answer is None:
                answer = Message(role="assistant", content="")
                turns.append(answer)
            _add(item, answer, called)
        elif isinstance(item, OutputItem):
            answer = None
            turns.append(item.turn(called))
        elif isinstance(item, AgentMessageItem):
            answer = None
            turns.append(Message(role="user", content=item.text))
        elif isinstance(item, MessageItem):
            answer = None
            role = "system" if item.role == "developer" else item.role
            turns.append(Message(role=role, content=joined(item.content)))
    return settled(turns, join=True)


def _add(
    item: ReasoningItem | FunctionCallItem | CustomCallItem | MessageItem,
    answer: Message,
    called: dict[str, str],
) -> None:
    """Make the item a part of the assistant's turn."""
    if isinstance(item, ReasoningItem):
        if item.thoughts:
            before = answer.get("reasoning_content")
            answer["reasoning_content"] = "\n\n".join(filter(None, (before, item.thoughts)))
    elif isinstance(item, MessageItem):
        texts = (answer["content"], joined(item.content))
        answer["content"] = "\n\n".join(filter(None, texts))
    else:
        name = full_name(item.namespace, item.name)
        called[item.call_id] = name
        function = {"name": name, "arguments": item.arguments or "{}"}
        call = {"id": item.call_id, "type": "function", "function": function}
        answer.setdefault("tool_calls", []).append(call)
