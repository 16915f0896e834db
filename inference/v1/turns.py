"""The order of turns that chat templates take: one system message, at the start.

Clients send system (or developer) turns anywhere: several at the start, and reminders in the middle
of a conversation. Many templates refuse those.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from backends.base import Message


def arranged(turns: Sequence[Message]) -> list[Message]:
    """The chat with its system turns where every template takes them: those at the start are one
    message. A later one joins the user's turn before it, else the one after it, else it is a user's
    turn of its own. So a conversation that grows by turns at its end keeps its beginning, and with it
    its place in the prefix cache."""
    first = next((n for n, turn in enumerate(turns) if turn["role"] != "system"), len(turns))
    chat: list[Message] = []
    if first:
        chat.append(Message(role="system", content=_joined(t["content"] for t in turns[:first])))
    waiting: list[str] = []  # system turns for the user's turn that may follow
    for turn in turns[first:]:
        if turn["role"] == "system":
            if not waiting and chat and chat[-1]["role"] == "user":
                chat[-1] = _with(chat[-1], chat[-1]["content"], turn["content"])
            else:
                waiting.append(turn["content"])
        elif waiting and turn["role"] == "user":
            chat.append(_with(turn, *waiting, turn["content"]))
            waiting = []
        else:
            chat += _own(waiting)
            waiting = []
            chat.append(turn)
    return chat + _own(waiting)


def merged(turns: Iterable[Message]) -> list[Message]:
    """The chat with turns of one role that follow each other as one turn, as Anthropic has it. Turns of
    tools stay apart, and calls end an assistant's turn."""
    chat: list[Message] = []
    for turn in turns:
        last = chat[-1] if chat else None
        if (
            last is None
            or last["role"] != turn["role"]
            or turn["role"] == "tool"
            or "tool_calls" in last
        ):
            chat.append(turn)
            continue
        whole: Message = {**last, **turn}
        whole["content"] = _joined((last["content"], turn["content"]))
        if "reasoning_content" in last and "reasoning_content" in turn:
            whole["reasoning_content"] = _joined(
                (last["reasoning_content"], turn["reasoning_content"])
            )
        chat[-1] = whole
    return chat


def _with(turn: Message, *texts: str) -> Message:
    whole: Message = {**turn}
    whole["content"] = _joined(texts)
    return whole


def _own(texts: Sequence[str]) -> list[Message]:
    return [Message(role="user", content=_joined(texts))] if texts else []


def _joined(texts: Iterable[str]) -> str:
    return "\n\n".join(filter(None, texts))
