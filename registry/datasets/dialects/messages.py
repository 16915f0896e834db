"""Messages of a chat, as `/v1` takes them and as older files say them."""

from __future__ import annotations

from typing import Any

from backends.thoughts import FIELD, FIELDS, thoughts_of
from registry.datasets.dialects import tools
from registry.datasets.dialects.parts import Unused, short
from registry.datasets.files.values import BadLine, Row
from registry.datasets.formats import Format

ROLES = ("system", "user", "assistant", "tool")
SPEAKERS = {
    **dict.fromkeys(("system", "developer"), "system"),
    **dict.fromkeys(("user", "human", "prompter"), "user"),
    **dict.fromkeys(("assistant", "gpt", "chatgpt", "chatbot", "bot", "model", "ai"), "assistant"),
    **dict.fromkeys(("tool", "function", "observation", "tool_response", "ipython"), "tool"),
    **dict.fromkeys(("function_call", "tool_call"), "call"),
}
"""Who says a message, by the names that files have for it in any case of letters."""
LEARNED = ("train", "training", "loss")
"""What Axolotl (the first two), ms-swift and xtuner call a weight: whether an answer is learned."""
_KNOWN = frozenset(
    {"role", "content", "weight", "tool_calls", "tool_call_id", "name", "function_call"}
)
_OF_ANSWERS = frozenset({*LEARNED, "refusal", "train_detail"})
_ANSWER = _KNOWN | _OF_ANSWERS | set(FIELDS)
_PLAIN = frozenset({"role", "content"})
_TEXT = ("text", "input_text", "output_text", "refusal")
"""Types of parts that are text, those of OpenAI's Responses among them."""


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
        said = given.get("role") if isinstance(given, dict) else None
        role = SPEAKERS.get(said.lower()) if isinstance(said, str) else None
        if role not in ROLES:
            has = f", not {short(said)}" if said is not None else ""
            raise BadLine(f"message {position} needs a role of {', '.join(ROLES)}{has}.")
        answers = role == "assistant"
        self._note(given, answers=answers)
        changed: Row = {} if role == given["role"] else {"role": role}
        self._content(given, changed, position)
        gone = ({"function_call", *_OF_ANSWERS} if answers else {"function_call"}) & given.keys()
        if answers and not given.keys().isdisjoint(FIELDS):
            thoughts = self._thoughts({**given, **changed}, position)
            gone |= given.keys() & set(FIELDS)
            if thoughts and thoughts == given.get(FIELD):
                gone.remove(FIELD)
            elif thoughts:
                changed[FIELD] = thoughts
        if given.get("tool_calls") or given.get("function_call"):
            if not answers:
                raise BadLine(f"message {position}: only an assistant message has tool_calls.")
            changed["tool_calls"] = self._calls(given, position)
        if str(given["role"]).lower() == "function":
            name = given.get("name")
            changed |= self.pending.answer(name if isinstance(name, str) else None)
        if given.get("function_call") and given.get("tool_calls"):
            self.unused.add(f"{self.where}.function_call")
        weight = _weight(given, ("weight", *LEARNED) if answers else ("weight",), position)
        if weight is None:
            gone |= {"weight"} & given.keys()
        elif weight is not given.get("weight"):
            changed["weight"] = weight
        if not changed and not gone:
            return given
        return {key: value for key, value in given.items() if key not in gone} | changed

    def _note(self, given: Row, *, answers: bool) -> None:
        """Name what nothing reads; that what is no answer is not learned is so anyway."""
        if not answers:
            given = {key: given[key] for key in given if key not in LEARNED or given[key]}
        self.unused.note(given, _ANSWER if answers else _KNOWN, f"{self.where}.")

    def _content(self, given: Row, changed: Row, position: int) -> None:
        content = given.get("content")
        if given.get("refusal") and SPEAKERS[given["role"].lower()] == "assistant":
            if content:
                self.unused.add(f"{self.where}.refusal")
            else:
                content = changed["content"] = given["refusal"]
        if isinstance(content, list):
            said = self._without_thoughts(content, given, changed, position)
            content = changed["content"] = joined(said, position, self.unused, self.where)
        if content is None and (given.get("tool_calls") or given.get("function_call")):
            content = changed["content"] = ""
        if not isinstance(content, str):
            raise BadLine(f"message {position} needs text as its content.")

    def _without_thoughts(
        self, parts: list[Any], given: Row, changed: Row, position: int
    ) -> list[Any]:
        """The parts without those that Gemini marks as thoughts, which go beside the answer. Raises
        BadLine for thoughts of others than the assistant."""
        thoughts = [
            part for part in parts if isinstance(part, dict) and part.get("thought") is True
        ]
        if not thoughts:
            return parts
        if SPEAKERS[given["role"].lower()] != "assistant" or given.get(FIELD):
            raise BadLine(
                f"message {position} has a thought among its parts; only an answer has thoughts, "
                "either there or beside its text."
            )
        bare = [{key: part[key] for key in part if key != "thought"} for part in thoughts]
        changed[FIELD] = joined(bare, position, self.unused, self.where)
        return [part for part in parts if part not in thoughts]

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
        self.unused.note(called, tools.FUNCTION, f"{self.where}.function_call.")
        return [self.pending.call(called["name"], tools.arguments(called, position))]


def _weight(given: Row, names: tuple[str, ...], position: int) -> Any:
    """The weight of a message, 0 or 1, under any of these names; None where it has none. Raises
    BadLine for other weights, and for several that say different things."""
    if len(names) > 1 and given.get("train_detail"):
        raise BadLine(
            f"message {position} has train_detail, which learns parts of a message; give the whole "
            "message a weight of 1 (learned) or 0 (not learned)."
        )
    found = {key: given[key] for key in names if given.get(key) is not None}
    for key, weight in found.items():
        if weight not in (0, 1) or (key == "weight" and isinstance(weight, bool)):
            raise BadLine(
                f"message {position} has the {key} {short(weight)}; "
                "a weight is 1 (learned) or 0 (not learned)."
            )
    if len({int(weight) for weight in found.values()}) > 1:
        raise BadLine(
            f"message {position} has {' and '.join(found)} that say different things; keep one."
        )
    weight = next(iter(found.values()), None)
    return weight if weight is None or type(weight) is int else int(weight)


def joined(parts: list[Any], position: int, unused: Unused, where: str) -> str:
    """The text of a message's parts. Raises BadLine for one that is no text."""
    texts = []
    for part in parts:
        kind = _kind(part) if isinstance(part, dict) else None
        key = "refusal" if kind == "refusal" else "text"
        if not isinstance(part, dict) or kind not in _TEXT or not isinstance(part.get(key), str):
            raise BadLine(
                f"message {position} has a part of the type {short(kind)}; only text can be "
                "learned, so leave such parts out."
            )
        unused.note(part, frozenset({"type", key}), f"{where}.content.")
        texts.append(part[key])
    return "".join(texts)


def _kind(part: Row) -> Any:
    """The type of a part; Bedrock's and Gemini's have none, and are called by their one field."""
    return part.get("type") or ("text" if "text" in part else next(iter(part), None))


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
        if isinstance(value, dict):
            value = value.get("parts", value)
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
        raise BadLine(
            "the last message must be the assistant's answer; leave out what comes after it."
        )
    check_learned(messages)
    if described or any(m.get("tool_calls") or m["role"] == "tool" for m in messages):
        return "tools", {"messages": messages, **({"tools": described} if described else {})}
    return "chat", row if messages is row.get("messages") else {"messages": messages}


def check_learned(messages: list[Any]) -> None:
    """Raises BadLine when every answer has the weight 0."""
    weights = [m.get("weight") for m in messages if m["role"] == "assistant"]
    if weights and all(weight == 0 for weight in weights):
        raise BadLine("leaves nothing to learn: every assistant message has the weight 0.")
