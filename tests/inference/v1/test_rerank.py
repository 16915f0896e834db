"""Texts ranked by a query: by real processes, and which models do so. The clients are in
`tests/inference/clients/test_python_libraries.py`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import httpx
import pytest
from asgiref.sync import async_to_sync, sync_to_async
from django.db import connections
from django.test import Client

from inference.v1.ollama.catalog import show
from registry.bases import registration
from registry.errors import Invalid
from registry.models import BaseModel
from tests.backends.mlx.embedding.folders import BERT, encoder_weights, head_weights, write_encoder
from tests.inference.processes import Hub

pytestmark = pytest.mark.any_database

QUERY = "lunch with Ana"
TEXTS = ["the sea is blue", "lunch with Ana on Friday", "lunch alone", "dinner with Ana"]
SCORES = [0, 1, 1 / 3, 2 / 3]  # the fake's: which share of the query's words they have


def rerank(hub: Hub, path: str = "/v1/rerank", **more: Any) -> httpx.Response:
    asked = {"model": "calendar", "query": QUERY, "documents": TEXTS, **more}
    return httpx.post(f"{hub.url}{path}", json=asked, timeout=60)


def scores(results: Sequence[Any]) -> list[tuple[int, Any]]:
    return [(one["index"], pytest.approx(one["relevance_score"])) for one in results]


def test_the_best_come_first(hub: Hub) -> None:
    answer = rerank(hub).json()
    assert scores(answer["results"]) == [(n, SCORES[n]) for n in (1, 3, 2, 0)]
    assert answer["usage"]["total_tokens"] == answer["meta"]["tokens"]["input_tokens"] > 12
    assert answer["model"] == "calendar@0.2.0"
    row = hub.requests()[0]
    assert answer["id"] == f"rerank-{row['request_id']}"
    assert (row["status"], row["prompt_tokens"]) == ("completed", answer["usage"]["prompt_tokens"])
    two = rerank(hub, "/v1/v2/rerank", top_n=2, return_documents=True).json()["results"]
    assert [one["document"]["text"] for one in two] == [TEXTS[1], TEXTS[3]]
    objects = rerank(hub, documents=[{"text": TEXTS[1], "title": "x"}, "lunch"]).json()
    assert [one["index"] for one in objects["results"]] == [0, 1]
    told = rerank(hub, instruction="the sea is blue").json()["results"]
    assert told[0]["index"] == 0


def test_a_long_list_keeps_its_numbers(hub: Hub) -> None:
    texts = [*(f"text {n}" for n in range(150)), "lunch with Ana", "text 151"]
    assert rerank(hub, documents=texts, top_n=1).json()["results"][0]["index"] == 150


@pytest.mark.parametrize(
    ("more", "sentence"),
    [
        ({"documents": []}, "documents"),
        ({"documents": ["a", {"title": "x"}]}, "documents.1"),
        ({"documents": ["a"] * 1001}, "1000"),
        ({"query": ""}, "query"),
        ({"top_n": 0}, "top_n"),
        ({"rank_fields": ["title"]}, "write what counts into the texts"),
        ({"model": "nobody"}, "nobody"),
    ],
)
def test_what_is_wrong_is_named(hub: Hub, more: Any, sentence: str) -> None:
    answer = rerank(hub, **more)
    assert answer.status_code in (400, 404)
    assert sentence in answer.json()["error"]["message"]


def test_a_text_is_never_cut(hub: Hub) -> None:
    answer = rerank(hub, max_tokens_per_doc=2, priority=3)
    assert answer.headers["x-hub-ignored"] == "max_tokens_per_doc"
    long = rerank(hub, documents=["short", "word " * 3000])
    assert long.status_code == 400
    assert "2048" in long.json()["error"]["message"]


@pytest.mark.usefixtures("transactional_db")
@pytest.mark.both_databases
def test_a_reranker_is_known_and_does_nothing_else(tmp_path: Path) -> None:
    weights = encoder_weights(BERT) | head_weights(BERT)
    head = {"architectures": ["BertForSequenceClassification"], "id2label": {"0": "LABEL_0"}}
    folder = write_encoder(tmp_path / "judge", weights, **head)
    base = registration.register_base("judge", BaseModel.Source.FOLDER, str(folder))
    assert (base.reranks, base.embeds_only) == (True, True)
    with pytest.raises(Invalid, match="for reranking only"):
        base.refuse_embedding_model()
    client = Client()
    [told] = client.get("/v1/models").json()["data"]
    kinds = (told["embeddings"], told["embeddings_only"], told["reranking_only"])
    assert kinds == (None, False, True)
    assert show("base:judge")["capabilities"] == []
    assert "For reranking only" in client.get(f"/bases/{base.pk}/").content.decode()
    assert "reranking only" in client.get("/bases/").content.decode()
    asked = {"model": "base:judge", "input": "a fox"}
    refused = client.post("/v1/embeddings", asked, content_type="application/json")
    assert refused.status_code == 400
    assert "ask it at /v1/rerank" in refused.json()["error"]["message"]
    async_to_sync(sync_to_async(connections.close_all))()
