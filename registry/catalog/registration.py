"""Models made, changed and found. MLflow hears of them by its outbox: they need no server to answer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from django.core.exceptions import ValidationError
from django.db import IntegrityError, transaction

from registry.errors import Conflict, Invalid, NotFound
from registry.mlflow import tracking
from registry.models import BaseModel, Model, ModelVersion
from registry.names import validate_name

EDITABLE = ("description", "task_type", "tags", "card_notes")
_MOST_TAGS = 20


def register_model(
    name: str,
    base: BaseModel,
    task_type: str = "chat",
    description: str = "",
    tags: Sequence[str] = (),
) -> Model:
    """Make the model `name`, a line of fine-tunes of `base`.

    Raises Invalid, and Conflict when the name is taken.
    """
    model = new_model(name, base, task_type, description, tags)
    save_model(model)
    return model


def new_model(
    name: str,
    base: BaseModel,
    task_type: str = "chat",
    description: str = "",
    tags: Sequence[str] = (),
) -> Model:
    """A model for `save_model`; nothing is created yet. Raises Invalid and Conflict."""
    base.refuse_embedding_model()
    model = Model(
        name=name,
        base_model=base,
        task_type=task_type,
        description=description,
        tags=_clean_tags(tags),
    )
    _check(model)
    _refuse_taken(name)
    return model


def check_model_name(name: str) -> None:
    """Raises Invalid for what is no name, Conflict when another model has it."""
    try:
        validate_name(name)
    except ValidationError as error:
        raise Invalid(" ".join(error.messages)) from None
    _refuse_taken(name)


def _refuse_taken(name: str) -> None:
    if Model.objects.filter(name__iexact=name).exists():
        raise _taken(name)


def save_model(model: Model) -> None:
    """Save a new model, and have its experiment made. Raises Conflict when its name was taken by then."""
    try:
        with transaction.atomic():
            model.save(force_insert=True)
            tracking.make_experiment(model)
    except IntegrityError as error:
        raise _taken(model.name) from error


def update_model(model: Model, **changes: Any) -> Model:
    """Set some of description, task_type, tags and card_notes. The name never changes, since
    clients use it, and neither does the base model. Raises Invalid."""
    if "tags" in changes:
        changes["tags"] = _clean_tags(changes["tags"])
    for field, value in changes.items():
        if field not in EDITABLE:
            raise Invalid(f"{field} of a model cannot be changed.")
        setattr(model, field, value)
    _check(model)
    model.save(update_fields=list(changes))
    return model


def find_model(name: str) -> Model:
    """By its name in any case. Raises NotFound."""
    found = Model.objects.filter(name__iexact=name).first()
    if found is None:
        raise NotFound(f"There is no model {name!r}.")
    return found


def find_version(model: Model, number: str) -> ModelVersion:
    """Raises NotFound."""
    found = model.versions.select_related("model").filter(version=number).first()
    if found is None:
        raise NotFound(f"{model} has no version {number!r}.")
    return found


def _check(model: Model) -> None:
    try:
        model.full_clean(validate_constraints=False)
    except ValidationError as error:
        problems = [f"{field}: {' '.join(texts)}" for field, texts in error.message_dict.items()]
        raise Invalid(" ".join(problems)) from None


def _taken(name: str) -> Conflict:
    return Conflict(f"There is already a model named {name}; choose another name.")


def _clean_tags(tags: Sequence[str]) -> list[str]:
    cleaned = list(dict.fromkeys(tag.strip() for tag in tags))
    if len(cleaned) > _MOST_TAGS or any(not 0 < len(tag) <= 50 for tag in cleaned):
        raise Invalid(f"Give at most {_MOST_TAGS} tags of 1 to 50 characters each.")
    return cleaned
