"""The hub's facts in the form that MLflow keeps: names, tags, texts and times."""

from __future__ import annotations

import datetime
import json
import math
import re
from collections.abc import Mapping
from typing import Any

from registry.models import Dataset, ModelVersion

_LONGEST_DIGEST = 36  # MLflow's column
_KEY = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,199}")


def lineage_tags(version: ModelVersion) -> dict[str, str]:
    tags = {
        "mlflow.source.git.commit": version.git_commit,
        "mlflow.source.type": "JOB",
        "mlflow.source.name": "mlx-model-hub",
        "hub.model": version.model.name,
        "hub.version": version.version,
        "hub.base_model": version.base_model.name,
        "hub.base_model.sha256": version.base_checksum,
        "hub.dataset": version.dataset.name if version.dataset else "",
        "hub.dataset.sha256": version.dataset_checksum,
        "hub.git_dirty": "" if version.git_dirty is None else str(version.git_dirty).lower(),
        "hub.seed": "" if version.seed is None else str(version.seed),
    }
    return {key: value for key, value in tags.items() if value}


def version_tags(version: ModelVersion) -> dict[str, str]:
    """What MLflow's model version says about the hub's."""
    return {
        "hub.version": version.version,
        "hub.status": version.status,
        "hub.manifest_sha256": version.manifest_sha256,
    }


def alias_name(alias: str) -> str:
    """MLflow keeps `latest` and `v1`, `v2`, … for itself; those get a prefix. All other names of
    the hub's models and aliases are names to MLflow too."""
    return f"hub-{alias}" if re.fullmatch(r"latest|v[0-9]+", alias) else alias


def dataset_input(dataset: Dataset) -> dict[str, str]:
    splits = {f"{split}_rows": count for split, count in sorted(dataset.splits.items())}
    return {
        "name": dataset.name,
        "digest": dataset.checksum[:_LONGEST_DIGEST],
        "source_type": "local",
        "source": json.dumps({"uri": dataset.source or dataset.path, "snapshot": dataset.path}),
        "schema": json.dumps({"format": dataset.format, **dataset.schema}),
        "profile": json.dumps({"num_rows": dataset.examples, **splits}),
        "context": "training",
    }


def flat(params: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    found: dict[str, str] = {}
    for key, value in params.items():
        if isinstance(value, Mapping):
            found |= flat(value, f"{prefix}{key}.")
        else:
            found[f"{prefix}{key}"] = str(value)
    return found


def keepable[T](named: Mapping[str, T]) -> dict[str, T]:
    """Those with a name that MLflow takes for a parameter or a metric."""
    return {name: value for name, value in named.items() if _KEY.fullmatch(name)}


def figures(metrics: Mapping[str, Any]) -> dict[str, float]:
    """The numbers among what was measured."""
    return {
        name: float(value)
        for name, value in metrics.items()
        if isinstance(value, float) or (type(value) is int and abs(value) < 2**63)
    }


def json_number(value: float) -> float | str:
    """NaN and infinity are no JSON, and PostgreSQL refuses them; float() reads the text back."""
    return value if math.isfinite(value) else str(float(value))


def milliseconds(at: datetime.datetime) -> int:
    return int(at.timestamp() * 1000)


def time_of(milliseconds: int | None) -> datetime.datetime | None:
    if milliseconds is None:
        return None
    return datetime.datetime.fromtimestamp(milliseconds / 1000, datetime.UTC)
