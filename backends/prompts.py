"""How much room a prompt leaves in the context window: one rule for every backend."""

from __future__ import annotations

from collections.abc import Sequence

from backends.base import BackendError, PromptTooLong


def room_after(prompt: Sequence[int], context_length: int, model: str) -> int:
    """Tokens that fit after `prompt`, at least 1. Raises PromptTooLong, naming both lengths, and
    BackendError for an empty prompt."""
    if not prompt:
        raise BackendError("The prompt is empty; send at least one token.")
    room = context_length - len(prompt)
    if room < 1:
        raise PromptTooLong(
            f"The prompt has {len(prompt)} tokens and the context of {model} holds "
            f"{context_length}, the reply included; shorten the prompt."
        )
    return room
