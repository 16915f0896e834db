"""Changing settings of a training configuration by dotted name, such as `lora.rank`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from backends.base import TrainingConfig
from registry.errors import Invalid, explain


def with_changes(config: TrainingConfig, changes: Mapping[str, Any]) -> TrainingConfig:
    """`config` with the settings in `changes`, by dotted name or as nested objects.

    Raises Invalid, naming the setting, when a setting is unknown or the result is invalid.
    """
    values = config.model_dump(mode="json")
    if "mask_prompt" in changes and "learn" not in changes:
        del values["learn"]  # which that name, an old one, replaces
    for name, value in changes.items():
        _put(values, name.split("."), value)
    try:
        return TrainingConfig.model_validate(values)
    except ValidationError as error:
        raise Invalid(explain(error.errors())) from None


def _put(values: dict[str, Any], path: list[str], value: Any) -> None:
    head, *rest = path
    inner = values.get(head)
    if isinstance(inner, dict) and rest:
        _put(inner, rest, value)
    elif isinstance(inner, dict) and isinstance(value, Mapping):
        for name, changed in value.items():
            _put(inner, [name], changed)
    else:
        values[".".join(path)] = value  # pydantic rejects an unknown name
