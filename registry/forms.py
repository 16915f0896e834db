"""What a person types to register a model, upload a data set or move an alias.

The fields only read and describe; the rules are those of the functions the views call.
"""

from __future__ import annotations

from typing import Any

from django import forms
from django.core.files.uploadedfile import UploadedFile

from registry.models import BaseModel, Model, ModelVersion, PromotionRule
from registry.names import validate_alias, validate_name


class RegisterModelForm(forms.Form):
    name = forms.CharField(
        max_length=100,
        validators=[validate_name],
        help_text="Clients use it as the model's name. Letters, digits, dots, dashes, underscores.",
        widget=forms.TextInput(attrs={"autocomplete": "off", "autofocus": True}),
    )
    base = forms.ModelChoiceField(
        BaseModel.objects.all(),
        label="Base model",
        empty_label=None,
        help_text="Training adapts it; its own weights never change.",
    )
    task_type = forms.ChoiceField(label="Task", choices=Model.TaskType.choices)
    description = forms.CharField(
        required=False,
        widget=forms.Textarea(attrs={"rows": 2}),
        help_text="What it is for, in a sentence.",
    )
    tags = forms.CharField(required=False, help_text="Words to find it by, separated by commas.")

    def clean_tags(self) -> list[str]:
        return _split(self.cleaned_data["tags"])


class ModelForm(forms.Form):
    """What of a model may change."""

    task_type = forms.ChoiceField(label="Task", choices=Model.TaskType.choices)
    description = forms.CharField(
        required=False, max_length=10_000, widget=forms.Textarea(attrs={"rows": 2})
    )
    tags = forms.CharField(required=False, help_text="Words to find it by, separated by commas.")
    card_notes = forms.CharField(
        label="Your words on the model card",
        required=False,
        max_length=100_000,
        widget=forms.Textarea(attrs={"rows": 12}),
        help_text="Markdown. The hub writes the facts; intended use and known limits are yours.",
    )

    def clean_tags(self) -> list[str]:
        return _split(self.cleaned_data["tags"])


def _split(tags: str) -> list[str]:
    """Tags in the order they were typed, each once."""
    parts = (part.strip() for part in tags.split(","))
    return list(dict.fromkeys(part for part in parts if part))


class NotesForm(forms.Form):
    notes = forms.CharField(
        required=False,
        max_length=100_000,
        widget=forms.Textarea(attrs={"rows": 3}),
    )


class RuleForm(forms.Form):
    """A promotion rule."""

    alias = forms.CharField(
        initial="production",
        max_length=50,
        validators=[validate_alias],
        widget=forms.TextInput(attrs={"autocomplete": "off"}),
    )
    metric = forms.CharField(
        max_length=100,
        widget=forms.TextInput(attrs={"autocomplete": "off", "placeholder": "exact_match"}),
    )
    comparison = forms.ChoiceField(
        label="Must be", choices=PromotionRule.Comparison.choices, initial=">="
    )
    value = forms.FloatField(
        required=False,
        help_text="Empty: the current version's figure.",
        widget=forms.NumberInput(attrs={"step": "any"}),
    )


class _SeveralFilesInput(forms.ClearableFileInput):
    allow_multiple_selected = True


class _SeveralFiles(forms.FileField):
    widget = _SeveralFilesInput

    def clean(self, data: Any, initial: Any = None) -> list[UploadedFile[Any]]:
        """The uploaded files, at least one."""
        files = data if isinstance(data, list | tuple) else [data]
        return [super(_SeveralFiles, self).clean(file, initial) for file in files or [None]]


class RegisterDatasetForm(forms.Form):
    name = forms.CharField(
        max_length=100,
        validators=[validate_name],
        widget=forms.TextInput(attrs={"autocomplete": "off"}),
    )
    files = _SeveralFiles(  # type: ignore[assignment]  # Form.files is set on instances alone
        label="JSONL files",
        help_text=(
            "train.jsonl with valid.jsonl and perhaps test.jsonl; "
            "or a single file, which is split 80/10/10."
        ),
        widget=_SeveralFilesInput(attrs={"accept": ".jsonl,.json,application/jsonl"}),
    )
    description = forms.CharField(required=False, widget=forms.Textarea(attrs={"rows": 2}))


class _VersionField(forms.ModelChoiceField[ModelVersion]):
    def label_from_instance(self, obj: ModelVersion) -> str:
        """The number alone: the model is known from the page."""
        return obj.version


class MoveAliasForm(forms.Form):
    name = forms.CharField(
        label="Alias",
        initial="production",
        max_length=50,
        validators=[validate_alias],
        help_text="Requests for the model's bare name go to “production”.",
        widget=forms.TextInput(attrs={"autocomplete": "off", "list": "alias-names"}),
    )
    version = _VersionField(ModelVersion.objects.none(), to_field_name="version", empty_label=None)
    reason = forms.CharField(
        required=False,
        help_text="Kept in the history.",
        widget=forms.TextInput(attrs={"placeholder": "Better exact match", "autocomplete": "off"}),
    )

    force = forms.BooleanField(
        required=False,
        label="Move although a rule refuses",
        help_text="The history says so.",
    )

    def __init__(self, model: Model, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        field = self.fields["version"]
        assert isinstance(field, forms.ModelChoiceField)
        field.queryset = ModelVersion.objects.filter(model=model).ready().newest_first()
