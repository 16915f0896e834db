"""Log-probabilities of an answer's tokens, in the form that OpenAI's APIs share."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from inference.protocol import TokenInfo


def described(tokens: Iterable[TokenInfo]) -> list[dict[str, Any]]:
    return [
        {
            **_one(token["text"], token["logprob"], token["bytes"]),
            "top_logprobs": [_one(*rival) for rival in token["top"]],
        }
        for token in tokens
    ]


def _one(text: str, logprob: float, data: Sequence[int]) -> dict[str, Any]:
    return {"token": text, "logprob": logprob, "bytes": data}
