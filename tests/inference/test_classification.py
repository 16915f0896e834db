"""A classification version answers with one of its own labels, and says how likely each is."""

from __future__ import annotations

import math
from contextlib import aclosing
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from django.test import AsyncClient

from backends.base import LoadedModel
from backends.fake import FakeBackend
from inference.engine.requests.row import ranked
from inference.gateway.generation import aresolve, generate, stream
from inference.gateway.request import Caller
from inference.models import InferenceRequest
from inference.native.schemas import InferenceIn
from inference.protocol import Chunk, Done
from inference.v1.openai import bodies
from inference.v1.openai.schemas import ChatCompletionIn
from registry.errors import Invalid
from registry.models import Model, ModelVersion
from registry.promotion.resolve import Served
from tests.inference.builders import make_base, make_version
from tests.inference.engines import running_engine

pytestmark = [pytest.mark.usefixtures("db_in_threads"), pytest.mark.any_database]
CALLER = Caller(InferenceRequest.Api.NATIVE)
KINDS = ["praise", "complaint", "question"]
TEXT = "The soup was cold."


def make_kinds() -> ModelVersion:
    base = make_base()
    Model.objects.create(name="kinds", base_model=base, task_type="classification")
    make_version(base, "kinds", "0.1.0", b"old")
    newest = make_version(base, "kinds", "0.2.0", b"new")
    ModelVersion.objects.filter(version="0.1.0").update(labels=["good", "bad"])
    ModelVersion.objects.filter(pk=newest.pk).update(labels=KINDS)
    return newest


@pytest.fixture
async def served(db_in_threads: None) -> Served:
    await sync_to_async(make_kinds)()
    return await aresolve("kinds")


async def asked(**fields: Any) -> Any:
    request = InferenceIn(**{"model": "kinds", "prompt": TEXT, **fields}).request()
    async with running_engine():
        [answer] = await generate(request, CALLER)
    return answer


def expected(served: Served) -> list[tuple[str, float]]:
    """By the likelihoods themselves."""
    model: LoadedModel = FakeBackend().load(served.base_path)
    prompt = model.encode([{"role": "user", "content": TEXT}])
    weights = [math.exp(x) for x in model.likelihoods(prompt, KINDS, served.adapter_path)]
    shares = [(label, weight / sum(weights)) for label, weight in zip(KINDS, weights, strict=True)]
    return sorted(shares, key=lambda pair: -pair[1])


@pytest.mark.both_databases
async def test_the_answer_is_the_likeliest_label(served: Served) -> None:
    answer = await asked(temperature=2.0, seed=1, max_tokens=1)
    probable = expected(served)
    assert answer.text == probable[0][0]
    assert [label for label, _ in answer.done.labels] == [label for label, _ in probable]
    assert [p for _, p in answer.done.labels] == pytest.approx([p for _, p in probable])
    assert sum(p for _, p in answer.done.labels) == pytest.approx(1)
    assert answer.done.finish_reason == "stop"
    row = await InferenceRequest.objects.aget()
    assert (row.status, row.completion_tokens, row.finish_reason) == ("completed", 1, "stop")


@pytest.mark.both_databases
async def test_each_version_answers_with_its_own_labels(served: Served) -> None:
    old = await asked(model="kinds@0.1.0")
    assert sorted(label for label, _ in old.done.labels) == ["bad", "good"]


@pytest.mark.parametrize(
    "fields",
    [
        {"classify": False},
        {"regex": "[a-z]+ 1"},
        {"json_schema": {"type": "object"}},
        {"model": "base:tiny"},
    ],
    ids=lambda fields: next(iter(fields)),
)
async def test_other_requests_are_answered_in_words(served: Served, fields: dict[str, Any]) -> None:
    answer = await asked(**fields)
    assert answer.done.labels == []
    assert answer.text not in KINDS


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"model": "base:tiny"}, "base:tiny has no labels to classify with"),
        ({"regex": "a|b"}, "cannot be combined"),
    ],
)
async def test_what_cannot_be_classified_is_refused(
    served: Served, fields: dict[str, Any], reason: str
) -> None:
    with pytest.raises(Invalid, match=reason):
        await asked(classify=True, **fields)


async def test_a_stream_sends_the_label_and_ends_with_probabilities(served: Served) -> None:
    async with running_engine():
        started = await stream(InferenceIn(model="kinds", prompt=TEXT).request(), CALLER)
        async with aclosing(started.events) as events:
            chunk, done = [event async for _, event in events]
    assert isinstance(chunk, Chunk)
    assert isinstance(done, Done)
    assert chunk.text == done.labels[0][0]


async def test_the_native_api_has_label_and_probabilities(served: Served) -> None:
    async with running_engine():
        answer = await AsyncClient().post(
            "/api/inference", {"model": "kinds", "prompt": TEXT}, content_type="application/json"
        )
    body = answer.json()
    assert (answer.status_code, body["answered_by"]) == (200, "kinds@0.2.0")
    assert body["text"] == body["labels"][0][0]
    assert dict(body["labels"]) == pytest.approx(dict(expected(served)))


async def chat(**fields: Any) -> dict[str, Any]:
    messages = [{"role": "user", "content": TEXT}]
    sent = {"model": "kinds", "messages": messages, **fields}
    wanted = ChatCompletionIn.model_validate(sent).request()
    async with running_engine():
        answers = await generate(wanted, CALLER)
    return bodies.chat_completion(answers, wanted)


async def test_v1_has_the_labels_as_log_probabilities(served: Served) -> None:
    body = await chat(logprobs=True, top_logprobs=20)
    [choice] = body["choices"]
    [token] = choice["logprobs"]["content"]
    assert choice["message"]["content"] == token["token"]
    found = {one["token"]: math.exp(one["logprob"]) for one in token["top_logprobs"]}
    assert found == pytest.approx(dict(expected(served)))


async def test_v1_answers_in_words_when_asked_for_text(served: Served) -> None:
    body = await chat(response_format={"type": "text"})
    assert body["choices"][0]["message"]["content"] not in KINDS


def test_likelihoods_far_below_what_a_float_can_hold_are_ranked() -> None:
    [first, second] = ranked(["a", "b"], [-2000.0, -1999.0])
    assert (first[0], second[0]) == ("b", "a")
    assert math.exp(first[1]) + math.exp(second[1]) == pytest.approx(1)
    assert math.exp(first[1]) == pytest.approx(1 / (1 + math.exp(-1)))


async def tried(version: ModelVersion, text: str, *, htmx: bool = True, **backend: Any) -> str:
    headers = {"hx-request": "true", "hx-target": "outcome"} if htmx else {}
    url = f"/playground/try/{version.model_id}/{version.version}/"
    async with running_engine(FakeBackend(**backend)):
        answer = await AsyncClient().post(url, {"text": text}, headers=headers)
    body = " ".join(answer.content.decode().split())
    assert ("<html" in body) is not htmx
    return body


async def test_the_form_shows_a_bar_for_each_label(served: Served) -> None:
    assert served.version is not None
    body = await tried(served.version, TEXT)
    first, share = expected(served)[0]
    assert f'<p class="chosen">{first}</p>' in body
    assert [body.index(f'<span class="what">{label}</span>') for label, _ in expected(served)] == (
        sorted(body.index(f'<span class="what">{label}</span>') for label in KINDS)
    )
    assert body.count("<progress") == 3
    assert f'<span class="num">{100 * share:.0f} %</span>' in body


async def test_the_form_works_without_javascript_and_tells_what_is_wrong(served: Served) -> None:
    assert served.version is not None
    assert "<textarea" in await tried(served.version, TEXT, htmx=False)
    assert "Write a text first." in await tried(served.version, "  ")
    url = f"/playground/try/{served.version.model_id}/0.2.0/"
    answer = await AsyncClient().post(url, {"text": TEXT}, headers={"hx-request": "true"})
    assert "The engine is not running" in answer.content.decode()
    assert (await AsyncClient().get(url)).status_code == 200
    assert (await AsyncClient().get(url.replace("0.2.0", "9.9.9"))).status_code == 404


async def test_the_version_has_the_form_of_its_task(served: Served) -> None:
    assert served.version is not None
    page = (await AsyncClient().get(served.version.get_absolute_url())).content.decode()
    assert "answers with one of 3 labels" in page
    await Model.objects.filter(name="kinds").aupdate(task_type="chat")
    page = (await AsyncClient().get(served.version.get_absolute_url())).content.decode()
    assert 'id="try"' not in page


async def test_the_form_of_an_extraction_shows_fields(served: Served) -> None:
    assert served.version is not None
    await Model.objects.filter(name="kinds").aupdate(task_type="extraction")
    reply = '{"day": "friday", "who": ["Ana", "Bo"], "hour": 9}'
    body = await tried(served.version, TEXT, reply=reply)
    for name, value in (("day", "friday"), ("who[1]", "Bo"), ("hour", "9")):
        assert f"<dt>{name}</dt> <dd>{value}</dd>" in body
    assert "not JSON" in await tried(served.version, TEXT, reply="on friday")
