"""Tool calls and descriptions of tools, as chat templates write them."""

from __future__ import annotations

from typing import Any

from registry.datasets.dialects.parts import Unused, decoded
from registry.datasets.files.values import BadLine, Row

_CALL = frozenset({"id", "type", "function", "index"})
_FUNCTION = frozenset({"name", "arguments"})


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
    unused.note(function, _FUNCTION, f"{where}.tool_calls.function.")
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
    return {"type": "function", "function": function}
