"""A client that a generator made from the OpenAPI document goes through a whole job with the hub."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from hub.api import api
from tests.running import RunningHub

pytestmark = pytest.mark.any_database


@pytest.fixture(scope="module")
def generated(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The package `hub_client`, whose generator had nothing to leave out."""
    folder = tmp_path_factory.mktemp("generated")
    document = api.get_openapi_schema(path_prefix="/api/")
    (folder / "openapi.json").write_text(json.dumps(document, default=str))
    (folder / "config.yml").write_text("post_hooks: []\n")
    command = [sys.executable, "-m", "openapi_python_client", "generate", "--meta", "none"]
    command += ["--path", "openapi.json", "--output-path", "hub_client", "--config", "config.yml"]
    made = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert made.returncode == 0, made.stdout + made.stderr
    assert "arning" not in made.stdout, made.stdout
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(folder)
        yield folder / "hub_client"
    for name in [name for name in sys.modules if name.startswith("hub_client")]:
        del sys.modules[name]


def test_every_operation_is_in_it(generated: Path) -> None:
    operations = {
        operation["operationId"]
        for of_path in api.get_openapi_schema()["paths"].values()
        for operation in of_path.values()
    }
    assert operations - {path.stem for path in generated.glob("api/*/*.py")} == set()


@pytest.fixture
def hub(generated: Path, running_hub: RunningHub) -> Iterator[SimpleNamespace]:
    """`call(place, **arguments)` runs one operation; its answer must be of a documented kind."""
    client = importlib.import_module("hub_client.client").Client(base_url=running_hub.url)
    models = importlib.import_module("hub_client.models")

    def call(place: str, *arguments: Any, **named: Any) -> Any:
        operation = importlib.import_module(f"hub_client.api.{place}")
        answer = operation.sync_detailed(*arguments, client=client, **named)
        assert answer.parsed is not None, answer
        return answer.parsed

    with client:
        yield SimpleNamespace(call=call, models=models)


def test_it_goes_from_a_base_to_a_version_in_use(hub: SimpleNamespace) -> None:
    models, call = hub.models, hub.call
    name = f"generated-{uuid.uuid4().hex[:8]}"
    base = call(
        "base_models.registry_api_bases_create_base",
        body=models.BaseIn(),
    )
    model = call(
        "models.registry_api_models_create_model",
        body=models.ModelIn(name=name, base_model=base.name),
    )
    examples = [{"prompt": f"say {n}", "completion": str(n)} for n in range(40)]
    body = {"name": name, "examples": examples}
    dataset = call(
        "data_sets.registry_api_datasets_create_dataset",
        body=models.RegistryApiDatasetsCreateDatasetJsonDatasetIn.from_dict(body),
    )
    config = models.TrainingConfig(iters=4, warmup=0, steps_per_eval=2)
    job = call(
        "training.training_api_create",
        body=models.JobIn(model_id=model.id, dataset_id=dataset.id, config=config),
    )
    seen = []
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        job = call("training.training_api_job", job.id)
        seen.append(job.status)
        if job.status not in (models.JobStatus.QUEUED, models.JobStatus.RUNNING):
            break
        time.sleep(0.1)
    assert job.status is models.JobStatus.COMPLETED, job
    assert {type(status) for status in seen} == {models.JobStatus}
    assert call("training.training_api_metrics", job.id).items
    assert call("versions.registry_api_lineage_lineage", model.id, job.version)
    moved = call(
        "aliases.registry_api_aliases_alias",
        model.id,
        "production",
        body=models.AliasIn(version=job.version),
    )
    assert moved.to_version == job.version
    answer = call(
        "inference.inference_api_generate_infer",
        body=models.InferenceIn.from_dict({"model": f"{name}@production", "prompt": "say 1"}),
    )
    assert answer.completion_tokens > 0


def test_what_fails_is_read_as_an_error(hub: SimpleNamespace) -> None:
    missing = hub.call("training.training_api_job", 2**31 - 1)
    assert isinstance(missing, hub.models.Error)
    assert missing.error.code == "not_found"
    assert "There is no job 2147483647" in missing.error.message
    refused = hub.call(
        "models.registry_api_models_create_model",
        body=hub.models.ModelIn(name="..", base_model="none"),
    )
    assert isinstance(refused, hub.models.Error)
    assert refused.error.code in ("invalid", "not_found")
