"""One request of the log: how it ended, what was asked and answered, where its time went, and what a
person says of it."""

from __future__ import annotations

import json
from typing import Any

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.views.decorators.http import require_GET, require_POST

from inference.models import Feedback, InferenceRequest
from inference.playground import opened
from inference.replay import plan_one, version_named
from inference.web.forms import FeedbackForm
from inference.web.outcomes import outcome
from registry.background import work
from registry.errors import HubError
from registry.models import ModelVersion
from registry.web.htmx import HtmxRequest
from registry.web.same import fetched

TARGETS = 50  # versions that a request can be sent to again, the newest
_PHASES = {
    "queue": ("Queue", "Waited for its turn"),
    "load": ("Load", "The model was loaded into memory for it"),
    "prefill": ("Prefill", "The prompt was read"),
    "decode": ("Decode", "Tokens were written and sent"),
}


@require_GET
def request(request: HtmxRequest, request_id: str) -> HttpResponse:
    row = get_object_or_404(InferenceRequest.objects.with_names(), request_id=request_id)
    said = Feedback.objects.filter(request_id=request_id).first()
    targets = _targets(row)  # a replay reads the log alone
    opened.fill(row, said)
    form = FeedbackForm(initial={"ideal": (said.ideal if said else "") or row.completion or ""})
    context = {
        "row": row,
        "outcome": outcome(row),
        "turns": _turns(row.prompt),
        "calls": [
            {"name": call["name"], "arguments": pretty(call["arguments"])}
            for call in row.tool_calls or ()
        ],
        "answer_json": pretty(row.completion) if is_json(row.completion) else "",
        "tools": json.dumps(row.tools, indent=2, ensure_ascii=False) if row.tools else "",
        "phases": _bars(row),
        "sampling": _sampling(row.params),
        "said": said,
        "said_choices": Feedback.Rating.choices,
        "api": fetched(request, f"/api/requests/{request_id}"),
        "form": form,
        "cannot_open": opened.problem(row),
        "targets": targets,
    }
    return render(request, "inference/request.html", context)


@require_POST
def request_replay(request: HttpRequest, request_id: str) -> HttpResponse:
    """Ask a version this one request again, and compare."""
    row = get_object_or_404(InferenceRequest.objects.with_names(), request_id=request_id)
    try:
        planned = plan_one(row, version_named(request.POST.get("target", "")))
        work.launch(planned)
    except HubError as error:
        messages.error(request, str(error))
        return redirect(row)
    return redirect(planned)


def is_json(text: str | None) -> bool:
    """Whether a text is a JSON object or list."""
    if not text or text.lstrip()[:1] not in ("{", "["):
        return False
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True


def pretty(text: str | None) -> str:
    """JSON laid out for a person; any other text as it is."""
    if not is_json(text):
        return text or ""
    return json.dumps(json.loads(text or ""), indent=2, ensure_ascii=False)


def _turns(prompt: Any) -> list[dict[str, Any]]:
    """The kept prompt as messages, with their calls laid out."""
    if prompt is None:
        return []
    if not isinstance(prompt, list):
        return [{"role": "text", "content": prompt}]
    return [
        {
            "role": turn.get("role", ""),
            "content": turn.get("content") or "",
            "calls": [
                {
                    "name": call.get("function", {}).get("name", ""),
                    "arguments": pretty(_text(call.get("function", {}).get("arguments"))),
                }
                for call in turn.get("tool_calls") or ()
            ],
        }
        for turn in prompt
    ]


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _bars(row: InferenceRequest) -> list[dict[str, Any]]:
    """The phases with where their bars begin and how long they are, in percent."""
    phases = row.phases
    ends = [begin + length for _, begin, length in phases]
    whole_ms = max([*ends, row.total_ms or 0.0]) or 1.0
    return [
        {
            "name": name,
            "label": _PHASES[name][0],
            "about": _PHASES[name][1],
            "ms": length,
            "x": f"{100 * begin / whole_ms:.2f}",
            "width": f"{max(0.6, 100 * length / whole_ms):.2f}",
        }
        for name, begin, length in phases
    ]


_WORDS = {
    "max_tokens": "Token limit",
    "top_p": "Top p",
    "top_k": "Top k",
    "min_p": "Min p",
    "stop": "Stop sequences",
    "repetition_context": "Repetition looks back",
    "logit_bias": "Token biases",
    "logprobs": "Log-probabilities",
    "top_logprobs": "Alternatives per token",
    "grammar": "Answer format",
    "max_kv_tokens": "Context window",
    "thinking_budget": "Token limit of thoughts",
    "template": "Chat template",
}


def _sampling(params: dict[str, Any]) -> list[tuple[str, str, bool]]:
    """(name, value, whether that is code) of what was chosen; what is off is left out."""
    shown: list[tuple[str, str, bool]] = []
    for name, value in params.items():
        off = {
            "top_p": 1.0,
            "repetition_penalty": 1.0,
            "repetition_context": 64,
            "may_think": value,
        }
        if value in (None, [], {}, False, off.get(name, 0)) and name != "temperature":
            continue
        label = _WORDS.get(name, name.replace("_", " ").capitalize())
        if name == "grammar":
            shown.append((label, f"{value['kind']}\n{pretty(value['source'])}".strip(), True))
        elif name == "temperature" and not value:
            shown.append((label, "0 (greedy)", False))
        else:
            text = value if isinstance(value, str | int | float) else json.dumps(value)
            shown.append((label, str(text), isinstance(value, list | dict)))
    return shown


def _targets(row: InferenceRequest) -> list[ModelVersion]:
    """The versions of the same model that it may be sent to again, newest first."""
    if row.version is None or row.prompt is None or row.completion is None:
        return []
    ready = ModelVersion.objects.ready().filter(model_id=row.version.model_id, moving_to="")
    return list(ready.select_related("model").newest_first()[:TARGETS])
