"""Log-probabilities of an answer's tokens, in the form that OpenAI's APIs share."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from inference.protocol import TokenInfo


def described(tokens: Iterable[TokenInfo]) -> list[dict[str, Any]]:
    return [
        {
            **_one(token["text"], token["logprob"]),
            "top_logprobs": [_one(text, logprob) for text, logprob in token["top"]],
        }
        for token in tokens
    ]


def _one(text: str, logprob: float) -> dict[str, Any]:
    # Half a character has no bytes of its own.
    encoded = None if "\ufffd" in text else list(text.encode())
    return {"token": text, "logprob": logprob, "bytes": encoded}
