"""The registry over HTTP, through every layer of the hub."""

from __future__ import annotations

import io
import json
import re
from typing import Any

import pytest
from django.test import Client

from registry.catalog.registration import register_model
from registry.models import BaseModel, Dataset, MLflowOutbox, Model
from registry.promotion.aliases import move_alias
from registry.storage import paths
from tests.registry.build import begin, chat, make_base, make_dataset, make_model, make_version

pytestmark = pytest.mark.django_db


@pytest.fixture
def client() -> Client:
    return Client(headers={"host": "localhost"})


def post(client: Client, path: str, body: object) -> Any:
    return client.post(path, json.dumps(body), content_type="application/json")


def message(answer: Any) -> str:
    text: str = answer.json()["error"]["message"]
    return text


def test_a_model_is_registered_and_read_again(client: Client) -> None:
    make_base("tiny")
    body = {"name": "cal", "base_model": "tiny", "task_type": "extraction", "tags": ["a"]}
    made = post(client, "/api/models", body)
    assert made.status_code == 201, made.content
    found = client.get(f"/api/models/{made.json()['id']}").json()
    assert {k: found[k] for k in body} == body
    assert (found["version_count"], found["newest_version"]) == (0, None)
    assert (found["versions"], found["aliases"]) == ([], {})


@pytest.mark.parametrize(
    ("body", "status", "told"),
    [
        ({"name": "a b"}, 422, "not a valid name"),
        ({"name": "cal", "task_type": "poetry"}, 422, "task_type"),
        ({"name": "cal", "base_model": "nope"}, 404, "Available: helper-base"),
        ({"name": "helper"}, 409, "already a model named helper"),
        ({"name": "cal", "folder": "/etc"}, 422, "folder"),
        ({}, 422, "name"),
    ],
)
def test_a_bad_model_is_refused(client: Client, body: Any, status: int, told: str) -> None:
    make_model()
    answer = post(client, "/api/models", body)
    assert answer.status_code == status
    assert told in message(answer)
    assert Model.objects.count() == 1


def test_a_model_is_registered_while_mlflow_is_down(client: Client, settings: Any) -> None:
    settings.MLFLOW_TRACKING_URI = "http://127.0.0.1:9"
    make_base()
    assert post(client, "/api/models", {"name": "cal"}).status_code == 201
    [model] = Model.objects.all()
    assert model.mlflow_experiment_id == ""
    assert MLflowOutbox.objects.filter(done_at=None).exists()


def test_models_are_paged_and_searched(client: Client) -> None:
    base = make_base()
    for number in range(12):
        register_model(f"m{number}", base, "chat" if number % 2 else "code", tags=[f"t{number}"])
    page = client.get("/api/models?limit=5&offset=10").json()
    assert page["count"] == 12
    assert [row["name"] for row in page["items"]] == ["m1", "m0"]
    assert client.get("/api/models?task_type=code").json()["count"] == 6
    assert [r["name"] for r in client.get("/api/models?q=t11").json()["items"]] == ["m11"]
    assert client.get("/api/models?task_type=poetry").status_code == 422
    assert client.get("/api/models?limit=-1").status_code == 422


def test_listing_models_takes_few_queries(
    client: Client, django_assert_max_num_queries: Any
) -> None:
    base = make_base()
    for number in range(4):
        make_version(make_model(f"m{number}", base=base))
    with django_assert_max_num_queries(5):
        rows = client.get("/api/models").json()["items"]
    assert [row["newest_version"] for row in rows] == ["0.1.0"] * 4


def test_a_model_shows_versions_aliases_and_lineage(client: Client) -> None:
    version = make_version(seed=4)
    begin(version.model, iters=20)
    move_alias(version.model, "production", version)
    found = client.get(f"/api/models/{version.model_id}").json()
    assert found["aliases"] == {"production": "0.1.0"}
    newest, first = found["versions"]
    assert (newest["version"], newest["status"]) == ("0.2.0", "training")
    assert first["aliases"] == ["production"]
    assert first["metrics"] == {"val_loss": 0.5}
    assert first["lineage"]["dataset"] == "notes"
    assert first["lineage"]["base_checksum"] == version.base_checksum
    assert first["lineage"]["seed"] == 4


def test_versions_are_paged_and_filtered(client: Client) -> None:
    model = make_model()
    for number in range(3):
        make_version(model, iters=number)
    begin(model, iters=9)
    url = f"/api/models/{model.pk}/versions"
    assert [v["version"] for v in client.get(f"{url}?limit=2").json()["items"]] == [
        "0.4.0",
        "0.3.0",
    ]
    assert client.get(f"{url}?status=ready").json()["count"] == 3


def test_an_alias_is_moved(client: Client) -> None:
    version = make_version()
    url = f"/api/models/{version.model_id}/aliases/production"
    moved = post(client, url, {"version": "0.1.0", "reason": "first"}).json()
    assert (moved["from_version"], moved["to_version"], moved["reason"]) == (
        None,
        "0.1.0",
        "first",
    )
    assert post(client, url, {"version": "9.9.9"}).status_code == 404
    bad = url.replace("production", "Bad")
    assert post(client, bad, {"version": "0.1.0"}).status_code == 422
    begin(version.model, iters=20)
    assert post(client, url, {"version": "0.2.0"}).status_code == 409


def test_history_is_what_mlflow_has(client: Client, embedded_mlflow: object) -> None:
    from registry.mlflow import outbox, tracking

    version = begin()
    tracking.start_run(1, version)
    tracking.finish_run(1, "failed")
    assert client.get(f"/api/models/{version.model_id}/history").json() == []
    assert outbox.flush() == 3
    (run,) = client.get(f"/api/models/{version.model_id}/history").json()
    assert (run["name"], run["status"]) == ("helper@0.1.0", "FAILED")
    assert run["params"]["iters"] == "10"


def test_unknown_ids_are_404(client: Client) -> None:
    for path in ("models/9", "models/9/versions", "models/9/history", "datasets/9"):
        answer = client.get(f"/api/{path}")
        assert answer.status_code == 404, path
        assert answer.json()["error"]["code"] == "not_found"


def test_examples_are_registered_as_json(client: Client) -> None:
    body = {"name": "notes", "examples": [chat(n) for n in range(30)]}
    made = post(client, "/api/datasets", body)
    assert made.status_code == 201, made.content
    assert sum(made.json()["splits"].values()) == 30
    assert made.json()["source"] == "API"
    assert made.json()["fields"] == {"messages": "array of {role, content}"}
    assert post(client, "/api/datasets", body).json()["id"] == made.json()["id"]
    assert client.get("/api/datasets?q=note").json()["count"] == 1


def uploaded(name: str, count: int = 20, first: int = 0) -> io.BytesIO:
    content = "".join(json.dumps(chat(n)) + "\n" for n in range(first, first + count))
    file = io.BytesIO(content.encode())
    file.name = name
    return file


def test_a_file_is_uploaded_and_split(client: Client) -> None:
    body = {"name": "up", "description": "d", "file": uploaded("../../mine.jsonl")}
    made = client.post("/api/datasets", body)
    assert made.status_code == 201, made.content
    assert made.json()["source"] == "Upload: mine.jsonl"
    assert made.json()["description"] == "d"
    assert sum(made.json()["splits"].values()) == 20
    assert list((paths.root() / "uploads").iterdir()) == []


def test_split_files_are_uploaded_as_they_are(client: Client) -> None:
    files = [uploaded("train.jsonl", 5), uploaded("valid.jsonl", 3, 50)]
    made = client.post("/api/datasets", {"name": "up", "file": files})
    assert made.json()["splits"] == {"train": 5, "valid": 3}
    odd = [uploaded("train.jsonl", 5), uploaded("other.jsonl", 3)]
    refused = client.post("/api/datasets", {"name": "odd", "file": odd})
    assert refused.status_code == 422
    assert "train.jsonl" in message(refused)
    assert list((paths.root() / "uploads").iterdir()) == []


@pytest.mark.parametrize(
    ("body", "told"),
    [
        ({"name": "x", "examples": [{"a": 1}]}, "line 1"),
        ({"name": "x", "examples": []}, "examples"),
        ({"name": "x"}, "examples"),
        ({"name": "../x", "examples": [chat(1)]}, "not a valid name"),
        ({"name": "x", "source": "/etc/passwd"}, "examples"),
        ({"name": "x", "path": "/etc", "examples": [chat(1)]}, "path"),
        ([], "body"),
    ],
)
def test_a_bad_data_set_is_refused(client: Client, body: Any, told: str) -> None:
    answer = post(client, "/api/datasets", body)
    assert answer.status_code == 422
    assert told in message(answer)
    assert not Dataset.objects.exists()


def test_too_much_json_is_refused_with_advice(client: Client, settings: Any) -> None:
    settings.DATA_UPLOAD_MAX_MEMORY_SIZE = 1 << 20
    examples = [{"text": "x" * 10_000}] * 400
    answer = post(client, "/api/datasets", {"name": "big", "examples": examples})
    assert answer.status_code == 413
    assert "JSONL for examples" in message(answer)


def test_examples_are_read_by_page(client: Client) -> None:
    dataset = make_dataset(train=8)
    url = f"/api/datasets/{dataset.pk}/examples"
    page = client.get(f"{url}?limit=3&offset=6").json()
    assert (page["split"], page["count"], len(page["items"])) == ("train", 8, 2)
    assert client.get(f"{url}?split=test").json()["count"] == 2
    assert client.get(f"{url}?split=../../x").status_code == 404
    assert client.get(f"{url}?limit=1000").status_code == 422
    assert client.get(f"/api/datasets/{dataset.pk}").json()["checksum"] == dataset.checksum


def test_the_starter_is_imported_over_the_api(client: Client) -> None:
    made = post(client, "/api/bases", {"source": "starter"})
    assert made.status_code == 201, made.content
    assert made.json()["name"] == "SmolLM2-135M-Instruct"
    assert client.get("/api/bases").json()["count"] == 1
    assert post(client, "/api/bases", {"source": "folder", "origin": "/"}).status_code == 422
    assert BaseModel.objects.count() == 1


def test_every_schema_of_the_registry_has_an_example(client: Client) -> None:
    schemas = client.get("/api/openapi.json").json()["components"]["schemas"]
    ours = [
        "ModelIn",
        "ModelOut",
        "ModelDetail",
        "VersionOut",
        "LineageOut",
        "AliasIn",
        "AliasMoveOut",
        "RunOut",
        "DatasetOut",
        "ExamplesOut",
        "BaseIn",
        "BaseOut",
    ]
    assert [name for name in ours if not schemas[name].get("examples")] == []
    text = json.dumps([schemas[name]["examples"] for name in ours])
    assert not re.search(r"lorem|string\b", text)


def test_an_evaluation_is_recorded_once_and_never_changed(client: Client) -> None:
    version = make_version()
    url = f"/api/models/{version.model_id}/versions/0.1.0/metrics"
    first = post(client, url, {"metrics": {"exact_match": 0.8}})
    assert first.json()["metrics"] == {"val_loss": 0.5, "exact_match": 0.8}
    assert post(client, url, {"metrics": {"exact_match": 0.8}}).status_code == 200
    assert post(client, url, {"metrics": {"exact_match": 0.9}}).status_code == 409
    assert post(client, url, {"metrics": {"val_loss": 0.1}}).status_code == 409
    version.refresh_from_db()
    assert version.metrics == {"val_loss": 0.5, "exact_match": 0.8}
    begin(version.model, iters=20)
    unfinished = url.replace("0.1.0", "0.2.0")
    assert post(client, unfinished, {"metrics": {"exact_match": 1.0}}).status_code == 409
    assert post(client, url.replace("0.1.0", "9.9.9"), {"metrics": {"a": 1}}).status_code == 404
