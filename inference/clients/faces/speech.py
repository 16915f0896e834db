"""What all APIs have in common: a request's body out, an answer or the text of a stream in."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

from inference.clients.asking import Ask, Broken, Reply, Tool


@dataclass(frozen=True)
class Refusal:
    """An error as an API sends it. `written` is what the model wrote before it failed."""

    message: str
    code: str = ""
    written: str | None = None


class RefusedInStream(Exception):
    """A stream whose last event is an error."""

    def __init__(self, refusal: Refusal) -> None:
        super().__init__(refusal.message)
        self.refusal = refusal


class Face(Protocol):
    """One API. Readers raise Broken, or KeyError and its like for what is not there; that of a
    stream RefusedInStream, too."""

    name: ClassVar[str]
    title: ClassVar[str]
    path: ClassVar[str]
    lacks: ClassVar[Mapping[str, str]]
    """Behaviours that it has no words for, and why."""

    def body(self, ask: Ask) -> dict[str, Any]:
        """The request, without its model."""

    def limit(self, body: dict[str, Any], most: int) -> None:
        """Let a recorded request end after `most` tokens, if it does not earlier."""

    def tools(self, body: dict[str, Any]) -> list[Tool]:
        """Those that a recorded request offers."""

    def read(self, body: Any) -> Reply:
        """A whole answer."""

    def read_stream(self, text: str) -> Reply:
        """The answer of a whole stream."""

    def refusal(self, body: Any) -> Refusal:
        """What an error's body says."""


def said_in_events(text: str) -> Iterator[tuple[str, Any]]:
    """(event, data) of server-sent events; data that is no JSON comes as its text."""
    for block in text.split("\n\n"):
        lines = [line.partition(": ") for line in block.splitlines() if not line.startswith(":")]
        data = "\n".join(value for name, _, value in lines if name == "data")
        event = next((value for name, _, value in lines if name == "event"), "")
        if data:
            yield event, data if data == "[DONE]" else json.loads(data)


def refused(error: Mapping[str, Any]) -> Refusal:
    """OpenAI's and Anthropic's object."""
    code = str(error.get("code") or error.get("type") or "")
    return Refusal(str(error["message"]), code, error.get("failed_generation"))


def ended(reason: object, reasons: Mapping[str, Any]) -> Any:
    """Why an answer ended. Raises Broken for a reason that the API does not know."""
    if reason not in reasons:
        raise Broken(f"The answer ends with the unknown reason {reason!r}.")
    return reasons[str(reason)]
