"""Turns as every chat template takes them: one of the system at the start, all others after it."""

from __future__ import annotations

from collections.abc import Iterable

from backends.base import Message


def settled(turns: Iterable[Message], *, join: bool = False) -> list[Message]:
    """System turns at the start are one. A later one becomes a part of the user's turn beside it, at
    its own place: most templates refuse or drop it elsewhere, and moved to the start it would change
    the prompt from there on, of which the prefix cache then knows nothing. With `join` turns of one
    role that follow each other are one turn, too: some templates want the roles to alternate."""
    settled: list[Message] = []
    late = False  # the last turn holds a system turn that came late
    for turn in turns:
        if turn["role"] == "system" and any(one["role"] != "system" for one in settled):
            turn, late, joins = {**turn, "role": "user"}, True, True
        else:
            joins = join or late or turn["role"] == "system"
            late = False
        last = settled[-1] if settled else None
        if joins and last and last["role"] == turn["role"] and _plain(last):
            text = "\n\n".join(filter(None, (last["content"], turn["content"])))
            settled[-1] = {**last, **turn, "content": text}
        else:
            settled.append(turn)
    return settled


def _plain(turn: Message) -> bool:
    return turn["role"] != "tool" and "tool_calls" not in turn
