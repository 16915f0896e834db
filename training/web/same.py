"""What the form for a new job does, as a call of the API and as a command."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from django.http import HttpRequest

from registry.web.same import Same, call, command
from training.config.vocabulary import flatten


def queued(request: HttpRequest, fields: Mapping[str, Any]) -> Same | None:
    """For the checked `fields` of the form; None while they cannot be queued."""
    model, dataset, config = (fields.get(name) for name in ("model", "dataset", "config"))
    if not (model and dataset and config):
        return None
    grid: dict[str, list[Any]] = fields.get("grid") or {}
    changed = config.model_dump(mode="json", exclude_defaults=True)
    body: dict[str, Any] = {"model_id": model.pk, "dataset_id": dataset.pk, "config": changed}
    words = ["jobs", "sweep" if grid else "add", model.name, dataset.name]
    words += [w for name, value in flatten(changed).items() for w in ("--set", _pair(name, value))]
    if priority := fields.get("priority"):
        body["priority"] = priority
        words += ["--priority", str(priority)]
    if grid:
        body["grid"] = grid
        words += [w for name, values in grid.items() for w in ("--vary", _pair(name, *values))]
        if title := fields.get("name"):
            body["name"] = title
            words += ["--name", title]
    elif number := fields.get("version_number"):
        body["version_number"] = number
        words += ["--number", number]
    values = [value for values in grid.values() for value in values]
    if any(isinstance(value, list) or "," in str(value) for value in values):
        words = []  # the command's values stand between commas
    path = "/api/training/sweeps" if grid else "/api/training/jobs"
    return Same(call(request, path, body), command(*words) if words else "")


def _pair(name: str, *values: Any) -> str:
    """`lora.rank=8,16`, as the command reads it: texts bare, everything else as JSON."""
    said = [value if isinstance(value, str) else json.dumps(value) for value in values]
    return f"{name}={','.join(said)}"
