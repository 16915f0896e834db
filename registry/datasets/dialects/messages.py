"""Messages of a chat, as `/v1` takes them and as older files say them."""

from __future__ import annotations

from typing import Any

from backends.thoughts import FIELD, FIELDS, thoughts_of
from registry.datasets.dialects import tools
from registry.datasets.dialects.parts import Unused, short
from registry.datasets.files.values import BadLine, Row
from registry.datasets.formats import Format

ROLES = ("system", "user", "assistant", "tool")
_RENAMED = {"developer": "system", "function": "tool"}
_KNOWN = frozenset(
    {"role", "content", "weight", "tool_calls", "tool_call_id", "name", "function_call"}
)
_ANSWER = _KNOWN | set(FIELDS)
_PLAIN = frozenset({"role", "content"})
_PART = frozenset({"type", "text"})


def read_messages(value: Any, unused: Unused, where: str = "messages") -> list[Any]:
    """The messages with their roles, texts and calls as training reads them; the very list when
    nothing changes. Raises BadLine."""
    if not isinstance(value, list) or not value:
        raise BadLine(f'"{where}" must be a non-empty list.')
    reader = _Reader(unused, where)
    read = [reader.message(message, n) for n, message in enumerate(value, start=1)]
    return value if all(new is old for new, old in zip(read, value, strict=True)) else read


class _Reader:
    """Reads the messages of one chat in their order."""

    def __init__(self, unused: Unused, where: str) -> None:
        self.unused, self.where = unused, where
        self.pending = tools.Pending()

    def message(self, given: Any, position: int) -> Any:
        """The message as training reads it; itself when nothing changes. Raises BadLine."""
        if (
            isinstance(given, dict)
            and given.keys() == _PLAIN
            and isinstance(given["content"], str)
            and given["role"] in ROLES
        ):
            return given  # as most are
        role = given.get("role") if isinstance(given, dict) else None
        role = _RENAMED.get(role, role) if isinstance(role, str) else None
        if role not in ROLES:
            raise BadLine(f"message {position} needs a role of {', '.join(ROLES)}.")
        self.unused.note(given, _ANSWER if role == "assistant" else _KNOWN, f"{self.where}.")
        changed: Row = {} if role == given["role"] else {"role": role}
        self._content(given, changed, position)
        gone = {"function_call"} & given.keys()
        if role == "assistant" and not given.keys().isdisjoint(FIELDS):
            thoughts = self._thoughts({**given, **changed}, position)
            gone |= given.keys() & set(FIELDS)
            if thoughts and thoughts == given.get(FIELD):
                gone.remove(FIELD)
            elif thoughts:
                changed[FIELD] = thoughts
        if given.get("tool_calls") or given.get("function_call"):
            if role != "assistant":
                raise BadLine(f"message {position}: only an assistant message has tool_calls.")
            changed["tool_calls"] = self._calls(given, position)
        if given["role"] == "function":
            name = given.get("name")
            changed |= self.pending.answer(name if isinstance(name, str) else None)
        if given.get("function_call") and given.get("tool_calls"):
            self.unused.add(f"{self.where}.function_call")
        if "weight" in given:
            if given["weight"] is None:
                gone.add("weight")
            else:
                changed |= _weight(given["weight"], position)
        if not changed and not gone:
            return given
        return {key: value for key, value in given.items() if key not in gone} | changed

    def _content(self, given: Row, changed: Row, position: int) -> None:
        content = given.get("content")
        if isinstance(content, list):
            content = changed["content"] = joined(content, position, self.unused, self.where)
        if content is None and (given.get("tool_calls") or given.get("function_call")):
            content = changed["content"] = ""
        if not isinstance(content, str):
            raise BadLine(f"message {position} needs text as its content.")

    def _thoughts(self, given: Row, position: int) -> str:
        """The thoughts beside an answer's text; what is no text is not used. Raises BadLine."""
        texts = []
        for key in given.keys() & set(FIELDS):
            if isinstance(given[key], str):
                texts.append(given[key])
            elif given[key] is not None:
                self.unused.add(f"{self.where}.{key}")
        try:
            thoughts_of(given)
        except ValueError as error:
            raise BadLine(f"message {position}: {error}.") from None
        return next(filter(str.strip, texts), "")

    def _calls(self, given: Row, position: int) -> list[Row]:
        """The calls of a message: `tool_calls`, or OpenAI's older single `function_call`."""
        if given.get("tool_calls"):
            return tools.calls(given["tool_calls"], position, self.unused, self.where)
        called = given["function_call"]
        if not isinstance(called, dict) or not isinstance(called.get("name"), str):
            raise BadLine(f"message {position}: a function_call needs a name.")
        return [self.pending.call(called["name"], tools.arguments(called, position))]


def _weight(weight: Any, position: int) -> Row:
    """What changes of a message with this weight: nothing, if it is 0 or 1 as it stands."""
    if isinstance(weight, bool) or weight not in (0, 1):
        raise BadLine(
            f"message {position} has the weight {short(weight)}; "
            "a weight is 1 (learned) or 0 (not learned)."
        )
    return {} if isinstance(weight, int) else {"weight": int(weight)}


def joined(parts: list[Any], position: int, unused: Unused, where: str) -> str:
    """The text of a message's parts. Raises BadLine for one that is no text."""
    for part in parts:
        kind = part.get("type") if isinstance(part, dict) else None
        if not isinstance(part, dict) or kind != "text" or not isinstance(part.get("text"), str):
            raise BadLine(
                f"message {position} has a part of the type {short(kind)}; only text can be "
                "learned, so leave such parts out."
            )
        unused.note(part, _PART, f"{where}.content.")
    return "".join(part["text"] for part in parts)


# ---------------------------------------------------------------- whole chats


def with_system(row: Row, messages: list[Any]) -> list[Any]:
    """The messages after the system prompt that stands beside them, if any. Raises BadLine."""
    prompt = system_prompt(row)
    if not prompt:
        return messages
    if messages and isinstance(messages[0], dict) and messages[0].get("role") == "system":
        if messages[0].get("content") == prompt:
            return messages
        raise BadLine("has two system prompts, one as a message and one beside the messages.")
    return [{"role": "system", "content": prompt}, *messages]


SYSTEM = ("system", "system_prompt")


def system_prompt(row: Row) -> str:
    """The system prompt in a column of its own, or "". Raises BadLine."""
    found: dict[str, str] = {}
    for key in SYSTEM:
        if key not in row:
            continue
        value = row.get(key)
        if isinstance(value, list):
            value = joined(value, 0, Unused(), key) if value else ""
        if value is not None and not isinstance(value, str):
            raise BadLine(f'"{key}" must be a text.')
        if value and value.strip():
            found[value] = key
    if len(found) > 1:
        raise BadLine("has two system prompts, in system and in system_prompt.")
    return next(iter(found), "")


def finished(row: Row, messages: list[Any], described: list[Any]) -> tuple[Format, Row]:
    """The example with these messages and tools: the row itself when nothing was changed.

    Raises BadLine when it does not end with an answer, or leaves nothing to learn.
    """
    last = messages[-1]
    if last["role"] != "assistant" or not (last["content"].strip() or last.get("tool_calls")):
        raise BadLine("the last message must be the assistant's answer.")
    check_learned(messages)
    if described or any(m.get("tool_calls") or m["role"] == "tool" for m in messages):
        return "tools", {"messages": messages, **({"tools": described} if described else {})}
    return "chat", row if messages is row.get("messages") else {"messages": messages}


def check_learned(messages: list[Any]) -> None:
    """Raises BadLine when every answer has the weight 0."""
    weights = [m.get("weight") for m in messages if m["role"] == "assistant"]
    if weights and all(weight == 0 for weight in weights):
        raise BadLine("leaves nothing to learn: every assistant message has the weight 0.")
