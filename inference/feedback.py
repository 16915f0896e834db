"""What people say of answers, and the examples that it makes: for supervised fine-tuning, preferences
(DPO, ORPO) and labelled answers (KTO)."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from django.db import IntegrityError, transaction

from backends.base.inputs import shown
from backends.thoughts import FIELD
from inference.models import Feedback, InferenceRequest
from registry.datasets import uploads
from registry.errors import Invalid, NotFound
from registry.models import ModelVersion

MOST = 20_000
"""Of the newest feedback, examples are made of so much."""
_PAIRS = 8  # of one prompt, so that one with many answers is not most of a data set

type Kind = Literal["answers", "preferences", "labelled"]
KINDS: dict[Kind, tuple[str, str]] = {
    "answers": ("Good answers", "Supervised fine-tuning: edited answers, and those rated good."),
    "preferences": (
        "Preference pairs",
        "DPO and ORPO: an edited or good answer beside a bad one to the same prompt.",
    ),
    "labelled": ("Rated answers", "KTO: every answer with good or bad."),
}


@dataclass(frozen=True)
class Texts:
    """What was asked and answered, as whoever saw it sends it."""

    prompt: Any
    answer: str
    thoughts: str = ""
    tools: list[dict[str, Any]] | None = None
    tool_calls: list[dict[str, Any]] | None = None
    answered_by: str = ""


def rate(request_id: str, rating: str, ideal: str, texts: Texts | None = None) -> Feedback | None:
    """Keep what a person says of the answer with this id, in place of what was said before; None once
    nothing is left. Texts of the request log come before those that were sent.

    Raises NotFound when the log has no such request and no texts were sent.
    """
    if not rating and not ideal.strip():
        Feedback.objects.filter(request_id=request_id).delete()
        return None
    row = InferenceRequest.objects.with_names().filter(request_id=request_id).first()
    known = Feedback.objects.filter(request_id=request_id).first()
    if row is None and texts is None and known is None:
        raise NotFound(
            f"The request log has no request {request_id}; send its prompt and answer, too."
        )
    found = known or Feedback(request_id=request_id)
    found.rating, found.ideal = rating, ideal
    for name, value in (_logged(row) or _sent(texts)).items():
        setattr(found, name, value)
    if row is not None:
        found.version, found.answered_by = row.version, row.answered_by
    try:
        with transaction.atomic():
            found.save()
    except IntegrityError:  # another window was faster; this one has the last word
        return rate(request_id, rating, ideal, texts)
    return found


def _logged(row: InferenceRequest | None) -> dict[str, Any]:
    if row is None or row.prompt is None:
        return {}
    return {
        "prompt": row.prompt,
        "answer": row.completion or "",
        "thoughts": row.thoughts or "",
        "tools": row.tools or [],
        "tool_calls": row.tool_calls or [],
    }


def _sent(texts: Texts | None) -> dict[str, Any]:
    if texts is None:
        return {}
    return {
        "prompt": texts.prompt,
        "answer": texts.answer,
        "thoughts": texts.thoughts,
        "tools": texts.tools or [],
        "tool_calls": texts.tool_calls or [],
        "answered_by": texts.answered_by,
        "version": _version(texts.answered_by),
    }


def _version(name: str) -> ModelVersion | None:
    model, _, number = name.partition("@")
    return ModelVersion.objects.filter(model__name=model, version=number).first()


# ------------------------------------------------------------------------ examples


def stage(kind: Kind, model: str = "", made: list[dict[str, Any]] | None = None) -> uploads.Saved:
    """Put the examples of one kind (`made`, where they are made already) where data is looked at before
    it becomes a data set. Raises Invalid when there are none."""
    made = examples(kind, model) if made is None else made
    if not made:
        raise Invalid(_NOTHING[kind])
    about = f"-{model}" if model else ""
    return uploads.stage_examples(made, f"feedback{about}-{kind}.jsonl", "Feedback on answers")


_NOTHING: dict[Kind, str] = {
    "answers": "No answer is rated good or edited yet; do that first, in the playground or on a "
    "request's page.",
    "preferences": "No prompt has a better and a worse answer yet: edit an answer, or rate two answers "
    "to the same prompt good and bad.",
    "labelled": "No answer is rated yet; do that first, in the playground or on a request's page.",
}


def examples(kind: Kind, model: str = "") -> list[dict[str, Any]]:
    """Examples as training reads them, oldest first; of a model's versions alone when it is named."""
    rows = Feedback.objects.of_model(model).with_text().order_by("-pk")[:MOST]
    return list(_MAKERS[kind](reversed(rows)))


def _answers(rows: Iterable[Feedback]) -> Iterator[dict[str, Any]]:
    for row in rows:
        if row.ideal or row.rating == Feedback.Rating.GOOD:
            best = _edited(row) if row.ideal else _given(row)
            yield {"messages": [*row.messages(), best], **_tools(row)}


def _preferences(rows: Iterable[Feedback]) -> Iterator[dict[str, Any]]:
    """Every better answer to a prompt beside every worse one. What was edited is worse than its edit,
    unless it was called good."""
    prompts: dict[str, tuple[Feedback, list[Any], list[Any]]] = {}
    for row in rows:
        key = json.dumps([row.messages(), row.tools], sort_keys=True)
        _, better, worse = prompts.setdefault(key, (row, [], []))
        if row.ideal:
            better.append(_edited(row))
        if row.rating == Feedback.Rating.GOOD:
            better.append(_given(row))
        elif row.ideal or row.rating == Feedback.Rating.BAD:
            worse.append(_given(row))
    for row, better, worse in prompts.values():
        pairs = [(one, other) for other in worse for one in better if one != other]
        for one, other in pairs[:_PAIRS]:
            yield {"prompt": row.messages(), "chosen": [one], "rejected": [other], **_tools(row)}


def _labelled(rows: Iterable[Feedback]) -> Iterator[dict[str, Any]]:
    for row in rows:
        asked = {"prompt": row.messages(), **_tools(row)}
        if row.rating:
            yield {
                **asked,
                "completion": [_given(row)],
                "label": row.rating == Feedback.Rating.GOOD,
            }
        if row.ideal:
            yield {**asked, "completion": [_edited(row)], "label": True}


_MAKERS = {"answers": _answers, "preferences": _preferences, "labelled": _labelled}


def _tools(row: Feedback) -> dict[str, Any]:
    """As the model saw them."""
    return {"tools": [shown(tool) for tool in row.tools]} if row.tools else {}


def _edited(row: Feedback) -> dict[str, Any]:
    return {"role": "assistant", "content": row.ideal}


def _given(row: Feedback) -> dict[str, Any]:
    said: dict[str, Any] = {"role": "assistant", "content": row.answer}
    if row.thoughts:
        said[FIELD] = row.thoughts
    if row.tool_calls:
        said["tool_calls"] = [_call(call, at) for at, call in enumerate(row.tool_calls)]
    return said


def _call(call: Mapping[str, Any], at: int) -> dict[str, Any]:
    return {"id": f"call_{at}", "type": "function", "function": dict(call)}
