"""Requests made up from the OpenAPI document: none is answered with an error of the server, or with
anything that the document does not describe."""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, Verbosity, given, settings
from hypothesis import strategies as st
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from hub.api import api
from tests.running import RunningHub, free_port, often, run_hub

CASES = often(2, 8)  # of each operation
FEW = 10  # of what starts a process each time
ENDLESS = {"training_api_follow", "inference_api_generate_stream"}
STARTS_PROCESSES = {
    "registry_api_bases_import_base",
    "registry_api_bases_quantize_base",
    "registry_api_bases_fuse_version",
    "registry_api_bases_export_version",
    "registry_api_bases_retry_import",
    "registry_api_base_uploads_import_upload",
    "registry_api_datasets_make_report",
    "registry_api_datasets_retry_task",
    "registry_api_datasets_create_dataset",
    "registry_api_rows_check_rows",
    "registry_api_rows_fix",
    "registry_api_bundles_take",
    "registry_api_bundles_retry",
    "inference_api_client_checks_start",
    "inference_api_replays_start",
}


def no_server_error(context: Any, response: Any, case: Any) -> Any:
    """A 503 that says when to come again is an answer: MLflow's process starts when it is asked."""
    if response.status_code == 503 and "retry-after" in response.headers:
        return None
    return not_a_server_error(context, response, case)


CHECKS = [
    no_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
]


def operations() -> Iterator[Any]:
    document = api.get_openapi_schema(path_prefix="/api/")
    schema = schemathesis.openapi.from_dict(copy.deepcopy(dict(document)))
    found: Any
    for found in schema.get_all_operations():
        operation = found.ok()
        if operation.definition.raw["operationId"] not in ENDLESS:
            yield operation


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory, database: str) -> Iterator[RunningHub]:
    """A hub with one of each: what is made up has small ids, and so finds them."""
    folder = tmp_path_factory.mktemp("schema")
    nowhere = f"http://127.0.0.1:{free_port()}"
    with run_hub(folder, HF_ENDPOINT=nowhere, HUB_SAMPLE_EVERY_S="2") as hub:
        with httpx.Client(base_url=hub.url, timeout=60) as client:
            examples = [{"prompt": f"say {n}", "completion": str(n)} for n in range(40)]
            base = client.post("/api/bases", json={"source": "starter"}).json()["name"]
            for path, body in (
                ("/api/models", {"name": "one", "base_model": base}),
                ("/api/datasets", {"name": "one", "examples": examples}),
                (
                    "/api/training/jobs",
                    {"model_id": 1, "dataset_id": 1, "config": {"iters": 3, "warmup": 0}},
                ),
            ):
                client.post(path, json=body).raise_for_status()
        yield hub


@pytest.mark.django_db
def test_what_is_made_up_is_answered_as_documented(hub: RunningHub) -> None:
    failures: list[str] = []
    answers: Counter[int] = Counter()
    for operation in operations():
        name = operation.definition.raw["operationId"]
        most = min(CASES, FEW) if name in STARTS_PROCESSES else CASES
        if problem := tried(hub, operation, most, answers):
            failures.append(f"{operation.label}: {problem}")
    print(sum(answers.values()), "answers:", dict(answers.most_common()))
    assert failures == []
    assert {200, 201, 204, 404, 422} <= answers.keys()
    assert httpx.get(f"{hub.url}/health", timeout=10).json()["ready"] is True


def tried(hub: RunningHub, operation: Any, most: int, answers: Counter[int]) -> str:
    """The first problem with one operation, or nothing; counts what was answered."""

    @settings(
        max_examples=most,
        deadline=None,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
        verbosity=Verbosity.quiet,
        derandomize=CASES <= FEW,
    )
    @given(case=operation.as_strategy(), near=st.integers(0, 3))
    def send(case: Any, near: int) -> None:
        for name, value in (case.path_parameters or {}).items():
            if near and isinstance(value, int):
                case.path_parameters[name] = near
        response = case.call_and_validate(base_url=hub.url, checks=CHECKS, timeout=60)
        answers[response.status_code] += 1

    try:
        send()
    except BaseException as error:  # a group of failures is not always an Exception
        if isinstance(error, KeyboardInterrupt | SystemExit):
            raise
        return "\n".join(str(part) for part in getattr(error, "exceptions", [error]))[:1500]
    return ""
