"""Whether an MLflow server answers, asked over its REST API.

MLflow's own client is not used here: importing it takes seconds.
"""

from __future__ import annotations

import base64
import json
import os
from http import HTTPStatus
from http.client import HTTPException
from urllib.error import HTTPError
from urllib.request import Request, urlopen


def trouble(uri: str, limit_s: float) -> str | None:
    """None when an MLflow server there answers a question to its store, else a sentence that says what is
    wrong."""
    asked = Request(  # noqa: S310  # the settings let http and https through
        f"{uri.rstrip('/')}/api/2.0/mlflow/experiments/search",
        data=b'{"max_results": 1}',
        headers={"Content-Type": "application/json", **_credentials()},
    )
    try:
        with urlopen(asked, timeout=limit_s) as answer:  # noqa: S310  # nosec B310
            found = json.loads(answer.read())
    except HTTPError as error:
        return _refused(uri, error.code)
    except (OSError, HTTPException) as error:
        reason = getattr(error, "reason", None) or error
        return f"The MLflow server at {uri} does not answer ({reason or type(error).__name__})."
    except ValueError:
        found = None
    if not isinstance(found, dict):
        return f"What answers at {uri} is not MLflow."
    return None


def _refused(uri: str, status: int) -> str:
    if status in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN):
        return (
            f"The MLflow server at {uri} refuses the hub ({status}): set MLFLOW_TRACKING_USERNAME and "
            "MLFLOW_TRACKING_PASSWORD, or MLFLOW_TRACKING_TOKEN."
        )
    if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        return f"The MLflow server at {uri} fails ({status}); its log says why."
    return f"What answers at {uri} is not MLflow ({status})."


def _credentials() -> dict[str, str]:
    """Those that MLflow's own client reads from the environment, as a header."""
    if user := os.environ.get("MLFLOW_TRACKING_USERNAME"):
        both = f"{user}:{os.environ.get('MLFLOW_TRACKING_PASSWORD', '')}"
        return {"Authorization": f"Basic {base64.b64encode(both.encode()).decode()}"}
    token = os.environ.get("MLFLOW_TRACKING_TOKEN")
    return {"Authorization": f"Bearer {token}"} if token else {}
