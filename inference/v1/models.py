"""`GET /v1/models`: one address, in OpenAI's form, or Anthropic's for a client of theirs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

from django.http import HttpRequest

from backends.base import POOLINGS, RERANKS, Pooling
from registry.promotion.resolve import Name


def listed(request: HttpRequest, names: Sequence[Name]) -> dict[str, Any]:
    """All of them: there is no second page."""
    if "anthropic-version" not in request.headers:
        return {"object": "list", "data": [_openai(name) for name in names]}
    return {
        "data": [_anthropic(name) for name in names],
        "first_id": names[0].label if names else None,
        "last_id": names[-1].label if names else None,
        "has_more": False,
    }


def one(request: HttpRequest, name: Name) -> dict[str, Any]:
    return _anthropic(name) if "anthropic-version" in request.headers else _openai(name)


def _openai(name: Name) -> dict[str, Any]:
    reranks = name.pooling == RERANKS
    return {
        "id": name.label,
        "object": "model",
        "created": int(name.created_at.timestamp()),
        "owned_by": "mlx-model-hub",
        "max_model_len": name.context_length or None,  # as vLLM has it
        "embeddings": None if reranks else POOLINGS[cast(Pooling, name.pooling or "mean")],
        "embeddings_only": bool(name.pooling) and not reranks,
        "reranking_only": reranks,
    }


def _anthropic(name: Name) -> dict[str, Any]:
    return {
        "type": "model",
        "id": name.label,
        "display_name": f"{name.model}@{name.version}" if name.version else name.label,
        "created_at": name.created_at.isoformat(),
        "lifecycle": "active",
        "max_input_tokens": name.context_length or None,
        "max_tokens": name.context_length or None,
    }
