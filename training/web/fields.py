"""Form fields that accept several values, for sweeps: each value makes a job; and one for rows, of
which there may be thousands."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from typing import Any

from django import forms
from django.core.exceptions import ValidationError
from django.db.models import Model
from django.utils.datastructures import MultiValueDict
from django.utils.functional import cached_property
from django.utils.safestring import SafeString

import registry.web.generics  # noqa: F401  # its classes can be subscripted

BOTH = "both"
OFFERED = 100
"""Rows that are offered at once; a search finds the others."""


class BoundSeveral(forms.BoundField):
    """A field with one chosen value, and optionally more values to try."""

    @property
    def also(self) -> list[tuple[str, str, bool]]:
        """Value, label and whether it is ticked, for each checkbox below the field."""
        field, value = self.field, self.value()
        if isinstance(field, CheckField):
            return [(BOTH, "Try it on and off", isinstance(value, list))]
        if isinstance(field, ChoicesField):
            chosen = value if isinstance(value, list) else []
            words = [(str(name), str(label).split(":")[0]) for name, label in field.offered]
            return [(name, label, name in chosen) for name, label in words]
        return []

    @property
    def several(self) -> bool:
        return any(ticked for *_, ticked in self.also)


class BoundRows(forms.BoundField):
    """The rows that are offered of many. What was chosen is one of them, unless somebody searches for
    another one."""

    field: RowsField

    def value(self) -> Any:
        """What is chosen: the newest, until somebody chooses."""
        return super().value() or (self._newest[0].pk if self._newest else None)

    @cached_property
    def _newest(self) -> list[Model]:
        assert self.field.queryset is not None
        return list(self.field.queryset.order_by("-pk")[:OFFERED])

    @cached_property
    def many(self) -> int:
        """How many there are, if that is more than are offered without a search."""
        assert self.field.queryset is not None
        count = self.field.queryset.count() if len(self._newest) == OFFERED else 0
        return count if count > OFFERED else 0

    @property
    def words(self) -> str:
        """What is searched for."""
        return str(self.form.data.get(f"find_{self.name}", "")).strip()

    @cached_property
    def found(self) -> list[Model] | None:
        """What the search finds, the newest first; None without one."""
        if not self.words:
            return None
        assert self.field.queryset is not None
        fitting = self.field.queryset.filter(name__icontains=self.words).order_by("-pk")
        return list(fitting[:OFFERED])

    @property
    def offered(self) -> list[Model]:
        """By name."""
        rows = self._newest if self.found is None else self.found
        searched = self.form.data.get("find") == self.name and bool(self.found)
        if not searched:
            with contextlib.suppress(ValidationError):
                chosen = self.field.to_python(self.value())
                rows = rows if chosen is None or chosen in rows else [chosen, *rows]
        return sorted(rows, key=lambda row: str(row).lower())

    def as_widget(self, *args: Any, **kwargs: Any) -> SafeString:
        options = [(row.pk, self.field.label_from_instance(row)) for row in self.offered]
        self.field.widget.choices = options
        return super().as_widget(*args, **kwargs)


class RowsField(forms.ModelChoiceField[Model]):
    """One of many rows with a `name`."""

    def get_bound_field(self, form: forms.BaseForm, field_name: str) -> BoundRows:
        return BoundRows(form, self, field_name)


class _Select(forms.Select):
    def value_from_datadict(
        self, data: Mapping[str, Any], files: MultiValueDict[str, Any], name: str
    ) -> Any:
        values = _values(data, name)
        return values[0] if len(values) == 1 else values


class ChoicesField(forms.ChoiceField):
    """One of the choices, or a list of several in the order they are offered."""

    widget = _Select

    def __init__(self, offered: tuple[tuple[str, str], ...], **kwargs: Any) -> None:
        super().__init__(choices=offered, **kwargs)
        self.offered = offered

    def to_python(self, value: Any) -> Any:
        given = {str(one) for one in (value if isinstance(value, list) else [value])} - {"", "None"}
        known = [name for name, _ in self.offered if name in given]
        found = known + sorted(given - set(known))  # `validate` reports values that are not offered
        return found if len(found) > 1 else "".join(found)

    def validate(self, value: Any) -> None:
        for one in value if isinstance(value, list) else [value]:
            super().validate(one)

    def get_bound_field(self, form: forms.BaseForm, field_name: str) -> BoundSeveral:
        return BoundSeveral(form, self, field_name)


class _Checkbox(forms.CheckboxInput):
    def value_from_datadict(
        self, data: Mapping[str, Any], files: MultiValueDict[str, Any], name: str
    ) -> Any:
        given = _values(data, name)
        if BOTH in given or {str(one) for one in given} >= {"True", "False"}:
            return [False, True]
        return super().value_from_datadict(data, files, name)

    def format_value(self, value: Any) -> str | None:
        return None if isinstance(value, list) else super().format_value(value)


class CheckField(forms.BooleanField):
    """On, off, or [False, True] for both."""

    widget = _Checkbox

    def to_python(self, value: Any) -> Any:
        return value if isinstance(value, list) else super().to_python(value)

    def get_bound_field(self, form: forms.BaseForm, field_name: str) -> BoundSeveral:
        return BoundSeveral(form, self, field_name)


class NumbersField(forms.CharField):
    """A number, or several separated by commas, as text: `TrainingConfig` validates them."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(
            widget=forms.TextInput(
                attrs={"inputmode": "decimal", "autocomplete": "off", "spellcheck": "false"}
            ),
            **kwargs,
        )

    def to_python(self, value: Any) -> Any:
        pieces = _split(value, ",")
        return pieces if len(pieces) > 1 else "".join(pieces)


class WordsField(forms.CharField):
    """Names separated by spaces or commas; empty is None. Semicolons separate several lists of names,
    in which the word `everything` stands for None."""

    def __init__(self, *, everything: str = "", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.everything = everything

    def to_python(self, value: Any) -> Any:
        lists = [one.replace(",", " ").split() for one in _split(value, ";")]
        found = [None if names == [self.everything] else names for names in lists if names]
        return (found if len(found) > 1 else found[0]) if found else None


def _values(data: Mapping[str, Any], name: str) -> list[Any]:
    """All values sent under `name`: the field's own and those of the ticked checkboxes."""
    if isinstance(data, MultiValueDict):
        return list(data.getlist(name))
    value = data.get(name)
    return value if isinstance(value, list) else [value]


def _split(value: Any, separator: str) -> list[str]:
    pieces = [piece.strip() for piece in str(value or "").split(separator)]
    return [piece for piece in pieces if piece]
