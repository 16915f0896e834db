"""A request of the log as the playground's state, so that one can go on from it or ask it again."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from inference.models import Feedback, InferenceRequest
from inference.native.schemas import SamplingIn

_UNSHOWN = frozenset({"logprobs", "top_logprobs", "seed"})  # chosen in the playground itself
_FIGURES = (
    *("first_token_ms", "tokens_per_second"),
    *("prompt_tokens", "cached_tokens", "completion_tokens"),
)


def fill(row: InferenceRequest, said: Feedback | None) -> None:
    """Give a row whose text the log did not keep the text that was kept with its rating."""
    if row.prompt is None and said is not None and said.prompt is not None:
        row.prompt, row.completion, row.thoughts = said.prompt, said.answer, said.thoughts
        row.tools, row.tool_calls = said.tools, said.tool_calls


def problem(row: InferenceRequest) -> str:
    """Why the playground cannot show a request; empty when it can."""
    if row.prompt is None:
        return "Its text was not kept: that needs HUB_LOG_PROMPTS=true."
    if _grammar(row.params)[0] not in ("", "json_schema", "json_object", "regex"):
        return "The playground has no grammars."
    if exchanges(row.prompt) is None:
        return (
            "The playground shows questions and answers that take turns; this has other messages."
        )
    return ""


def state(row: InferenceRequest) -> dict[str, Any]:
    """`model`, `system`, `sampling`, `tools` and `exchanges`, the last of which is the request. Only
    for what has no `problem`."""
    system, turns = exchanges(row.prompt) or ("", [])
    *before, last = turns
    figures = {name: value for name in _FIGURES if (value := getattr(row, name)) is not None}
    answered = {
        "answer": row.completion or "",
        "thoughts": row.thoughts or "",
        "tool_calls": row.tool_calls or [],
        "request_id": row.request_id,
        "answered_by": row.answered_by,
        "finish_reason": row.finish_reason,
        "seed": row.params.get("seed"),
        "figures": figures,
    }
    return {
        "model": row.answered_by or row.requested_model,
        "system": system,
        "sampling": _sampling(row.params),
        "tools": row.tools or [],
        "exchanges": [*before, {**last, **answered}],
    }


def exchanges(prompt: Any) -> tuple[str, list[dict[str, Any]]] | None:
    """The system prompt and the questions with their answers, the last without one; None for a prompt
    that is more than that."""
    if isinstance(prompt, str):
        return None
    turns: Sequence[Mapping[str, Any]] = list(prompt)
    system = []
    while turns and turns[0].get("role") == "system":
        system.append(str(turns[0].get("content") or ""))
        turns = turns[1:]
    asked, answers = turns[::2], turns[1::2]
    fits = len(turns) % 2 == 1 and all(turn.get("role") == "user" for turn in asked)
    if not fits or not all(turn.get("role") == "assistant" for turn in answers):
        return None
    found = [{"user": str(turn.get("content") or ""), "answer": ""} for turn in asked]
    for one, turn in zip(found, answers, strict=False):
        if turn.get("tool_calls"):
            return None
        one["answer"] = str(turn.get("content") or "")
        one["thoughts"] = str(turn.get("reasoning_content") or "")
    return "\n\n".join(system), found


def _sampling(params: Mapping[str, Any]) -> dict[str, Any]:
    """Of the log's settings what differs from what is usual, as `SamplingIn` names it."""
    usual = SamplingIn()
    said = {
        name: value
        for name, value in params.items()
        if name in SamplingIn.model_fields
        and name not in _UNSHOWN
        and value not in (None, [], {})
        and value != getattr(usual, name)
    }
    if params.get("max_tokens", 0) is None:
        said["max_tokens"] = None  # to the end of the context
    if said.get("logit_bias"):
        said["logit_bias"] = {str(token): bias for token, bias in said["logit_bias"]}
    kind, source = _grammar(params)
    if kind == "regex":
        said["regex"] = source
    elif kind:
        said["json_schema"] = json.loads(source) if source else {"type": "object"}
    return said


def _grammar(params: Mapping[str, Any]) -> tuple[str, str]:
    grammar = params.get("grammar") or {}
    return str(grammar.get("kind", "")), str(grammar.get("source", ""))
