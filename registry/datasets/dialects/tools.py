"""Tool calls and descriptions of tools, as chat templates write them."""

from __future__ import annotations

from typing import Any

from registry.datasets.dialects.parts import Unused, check_text, decoded
from registry.datasets.files.values import BadLine, Row
from registry.datasets.formats import Format

_CALL = frozenset({"id", "type", "function", "index"})
FUNCTION = frozenset({"name", "arguments"})


class Pending:
    """Calls without an id get one, and the results that follow answer them in their order."""

    def __init__(self) -> None:
        self._made = 0
        self._open: list[tuple[str, str]] = []

    def call(self, name: str, arguments: Any) -> Row:
        """A call of the function, whose id no other call of the chat has."""
        self._made += 1
        call_id = f"call_{self._made}"
        self._open.append((call_id, name))
        return {
            "id": call_id,
            "type": "function",
            "function": {"name": name, "arguments": arguments},
        }

    def answer(self, name: str | None = None) -> Row:
        """`tool_call_id` and `name` for a result: of the first open call, or of the function's."""
        for at, (call_id, called) in enumerate(self._open):
            if name in (None, called):
                del self._open[at]
                return {"tool_call_id": call_id, "name": called}
        return {} if name is None else {"name": name}


def calls(given: Any, position: int, unused: Unused, where: str) -> list[Row]:
    """Calls with their arguments as an object; OpenAI's API has those as a text. Raises BadLine."""
    found = decoded(given, "tool_calls") if isinstance(given, str) else given
    if not isinstance(found, list):
        raise BadLine(f"message {position}: tool_calls must be a list.")
    return [_call(call, position, unused, where) for call in found]


def _call(call: object, position: int, unused: Unused, where: str) -> Row:
    function = call.get("function") if isinstance(call, dict) else None
    if not isinstance(call, dict) or not isinstance(function, dict) or not function.get("name"):
        raise BadLine(f"message {position}: a tool call needs a function with a name.")
    unused.note(call, _CALL, f"{where}.tool_calls.")
    unused.note(function, FUNCTION, f"{where}.tool_calls.function.")
    return {**call, "function": {**function, "arguments": arguments(function, position)}}


def arguments(function: Row, position: int) -> Row:
    """The arguments of a called function as an object. Raises BadLine."""
    found = function.get("arguments")
    found = {} if found is None else found
    if isinstance(found, str):
        found = decoded(found or "{}", "arguments")
    if not isinstance(found, dict):
        raise BadLine(f"message {position}: the arguments of a tool call must be an object.")
    return found


def only_calls(row: Row, unused: Unused) -> tuple[Format, Row]:
    """xLAM's `query`, and `answers` that are the calls of `tools`. Raises BadLine."""
    check_text(row, "query")
    found = (
        decoded(row["answers"], "answers") if isinstance(row["answers"], str) else row["answers"]
    )
    pending, calls = Pending(), []
    for call in found if isinstance(found, list) else [found]:
        if not isinstance(call, dict) or not isinstance(call.get("name"), str):
            raise BadLine('"answers" must be a list of calls, each with a name and arguments.')
        unused.note(call, FUNCTION, "answers.")
        calls.append(pending.call(call["name"], arguments(call, 2)))
    if not calls:
        raise BadLine('"answers" calls nothing; leave out rows without a call.')
    asked = {"role": "user", "content": row["query"]}
    said = {"role": "assistant", "content": "", "tool_calls": calls}
    return "tools", {"messages": [asked, said], "tools": described(row["tools"])}


def described(tools: Any, key: str = "tools") -> list[Any]:
    """Descriptions of tools, perhaps none: bare functions are wrapped, Anthropic's input_schema is
    OpenAI's parameters. Raises BadLine."""
    found = decoded(tools, key) if isinstance(tools, str) and tools.strip() else tools
    if not found:
        return []
    if not isinstance(found, list) or not all(isinstance(tool, dict) for tool in found):
        raise BadLine(f'"{key}" must be a list of objects.')
    return [_tool(tool) for tool in found]


def _tool(tool: Row) -> Row:
    if "function" in tool or "name" not in tool:
        return tool
    function = {key: value for key, value in tool.items() if key not in ("type", "input_schema")}
    if "input_schema" in tool:
        function["parameters"] = tool["input_schema"]
    given = function.get("parameters")
    if isinstance(given, dict) and given and all(isinstance(one, dict) for one in given.values()):
        function["parameters"] = {"type": "object", "properties": given}  # xLAM's, without a frame
    return {"type": "function", "function": function}
