"""Form fields that accept several values, for sweeps: each value makes a job; and one for many rows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from django import forms
from django.forms.utils import flatatt
from django.utils.datastructures import MultiValueDict
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString

BOTH = "both"


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


class RowSelect(forms.Select):
    """A select of rows, of which there may be thousands: Django draws each option by a template of its
    own, which takes 0.2 s for 3,000."""

    def render(self, name: str, value: Any, attrs: Any = None, renderer: Any = None) -> SafeString:
        drawn = self.get_context(name, value, attrs)["widget"]
        rows = (one for _, options, _ in drawn["optgroups"] for one in options)
        options = format_html_join(
            "",
            "<option{}>{}</option>",
            ((flatatt({"value": str(row["value"]), **row["attrs"]}), row["label"]) for row in rows),
        )
        attributes = flatatt({"name": drawn["name"], **drawn["attrs"]})
        return format_html("<select{}>{}</select>", attributes, options)


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
