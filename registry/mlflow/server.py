"""The few calls to an MLflow server for which a person waits, over its REST API.

MLflow's own client is not used here: importing it takes seconds.
"""

from __future__ import annotations

import os
from typing import Any

import httpx

from registry.errors import Unavailable

_LIMIT_S = 5.0


def experiment(uri: str, name: str) -> str:
    """The id of the experiment `name`, created if needed. Raises Unavailable."""
    with _client(uri) as client:
        found = _get(client, name)
        if found is None:
            made = _ask(client, "POST", "experiments/create", json={"name": name})
            if made.is_success:
                return str(made.json()["experiment_id"])
            found = _get(client, name)  # another process was faster
            if found is None:
                raise _refused(made)
        if found["lifecycle_stage"] == "deleted":
            restored = {"experiment_id": found["experiment_id"]}
            answer = _ask(client, "POST", "experiments/restore", json=restored)
            if not answer.is_success:
                raise _refused(answer)
        return str(found["experiment_id"])


def trouble(uri: str, limit_s: float) -> str | None:
    """None when the server is healthy, else a sentence that says what is wrong."""
    try:
        httpx.get(f"{uri.rstrip('/')}/health", timeout=limit_s).raise_for_status()
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        return f"The MLflow server at {uri} does not answer ({type(error).__name__}); start it."
    return None


def _client(uri: str) -> httpx.Client:
    """With the credentials that MLflow's own client reads from the environment."""
    user = os.environ.get("MLFLOW_TRACKING_USERNAME")
    token = os.environ.get("MLFLOW_TRACKING_TOKEN")
    return httpx.Client(
        base_url=f"{uri.rstrip('/')}/api/2.0/mlflow/",
        timeout=_LIMIT_S,
        auth=(user, os.environ.get("MLFLOW_TRACKING_PASSWORD", "")) if user else None,
        headers={"Authorization": f"Bearer {token}"} if token and not user else None,
    )


def _get(client: httpx.Client, name: str) -> dict[str, Any] | None:
    answer = _ask(client, "GET", "experiments/get-by-name", params={"experiment_name": name})
    if answer.is_success:
        found: dict[str, Any] = answer.json()["experiment"]
        return found
    if answer.status_code == httpx.codes.NOT_FOUND:
        return None
    raise _refused(answer)


def _ask(client: httpx.Client, method: str, path: str, **arguments: Any) -> httpx.Response:
    try:
        return client.request(method, path, **arguments)
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise Unavailable(
            f"The MLflow server does not answer ({type(error).__name__}), so nothing was created: "
            "start it, or unset MLFLOW_TRACKING_URI to use the store in storage."
        ) from error


def _refused(answer: httpx.Response) -> Unavailable:
    text = " ".join(answer.text.split())[:200]
    return Unavailable(f"The MLflow server answered {answer.status_code}: {text}")
