"""What a person types to register a model, upload a data set or move an alias.

The fields only read and describe; the rules are those of the functions the views call.
"""

from __future__ import annotations

from typing import Any

from django import forms
from django.core.files.uploadedfile import UploadedFile

import registry.web.generics  # noqa: F401  # its classes can be subscripted
from registry.conversion.conversions import GROUP_SIZES
from registry.models import BaseModel, Dataset, Model, ModelVersion, PromotionRule
from registry.names import validate_alias, validate_name


class RegisterModelForm(forms.Form):
    name = forms.CharField(
        max_length=100,
        validators=[validate_name],
        help_text="Clients use it as the model's name. Letters, digits, dots, dashes, underscores.",
        widget=forms.TextInput(attrs={"autocomplete": "off", "autofocus": True}),
    )
    base = forms.ModelChoiceField(
        BaseModel.objects.filter(pooling=""),
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


class ImportBundleForm(forms.Form):
    file = forms.FileField(
        label="Bundle",
        help_text="The file that another hub's “Download bundle” or export-bundle made.",
        widget=forms.FileInput(attrs={"accept": ".tar,.bundle,application/x-tar"}),
    )
    model = forms.CharField(
        required=False,
        max_length=100,
        validators=[validate_name],
        help_text="Which model gets the version; empty is the model's name on the other hub.",
        widget=forms.TextInput(attrs={"autocomplete": "off"}),
    )
    base = forms.ModelChoiceField(
        BaseModel.objects.filter(pooling=""),
        label="Base model",
        required=False,
        empty_label="The one it was trained on",
        help_text="Another one must have the same architecture and dimensions.",
    )
    version_number = forms.CharField(
        required=False,
        max_length=20,
        label="Version",
        help_text="A number above the model's newest, such as 1.0.0; empty keeps its own if free.",
        widget=forms.TextInput(attrs={"autocomplete": "off", "spellcheck": "false"}),
    )


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
        widget=forms.TextInput(
            attrs={"autocomplete": "off", "placeholder": "exact_match", "list": "known-metrics"}
        ),
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
        if empty := [file.name for file in files if file and file.size == 0]:
            raise forms.ValidationError(
                f"{', '.join(empty)} {'is' if len(empty) == 1 else 'are'} empty; choose a file with "
                "an example per line."
            )
        if not self.required and not any(files):
            return []
        return [super(_SeveralFiles, self).clean(file, initial) for file in files or [None]]


class ChooseDataForm(forms.Form):
    """What becomes a data set, after a look at it."""

    files = _SeveralFiles(  # type: ignore[assignment]  # Form.files is set on instances alone
        label="Files",
        required=False,
        help_text=(
            "JSONL, JSON, Parquet or CSV, perhaps compressed (.gz, .zst): train with valid and "
            "perhaps test, named so; or a single file, which is split about 80/10/10."
        ),
        widget=_SeveralFilesInput(
            attrs={"accept": ".jsonl,.json,.parquet,.csv,.tsv,.gz,.zst,application/jsonl"}
        ),
    )
    hub = forms.CharField(
        label="Or a hub id",
        required=False,
        max_length=300,
        help_text="hub:OWNER/NAME of a data set on the model hub; none of its code is run.",
        widget=forms.TextInput(attrs={"autocomplete": "off"}),
    )

    def clean(self) -> dict[str, Any] | None:
        """Files or a hub id, never both."""
        fields = super().clean() or {}
        if "files" in fields and bool(fields["files"]) == bool(fields.get("hub")):
            self.add_error("files", "Choose files, or name a hub id; one of the two.")
        return fields


class RegisterDatasetForm(forms.Form):
    name = forms.CharField(
        max_length=100,
        validators=[validate_name],
        help_text="A known name gets its next revision.",
        widget=forms.TextInput(attrs={"autocomplete": "off"}),
    )
    description = forms.CharField(required=False, widget=forms.Textarea(attrs={"rows": 2}))


class ExamineForm(forms.Form):
    base = forms.ModelChoiceField(
        BaseModel.objects.filter(pooling=""), label="Base model", empty_label=None
    )
    max_seq_length = forms.IntegerField(
        label="Longest example", min_value=8, max_value=1_048_576, help_text="Tokens."
    )


VERSIONS_OFFERED = DATASETS_OFFERED = 25


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
        help_text="Shown in the history.",
        widget=forms.TextInput(attrs={"placeholder": "Better exact match", "autocomplete": "off"}),
    )

    force = forms.BooleanField(
        required=False,
        label="Override promotion rules",
        help_text="Recorded in the history.",
    )

    def __init__(self, model: Model, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        field = self.fields["version"]
        assert isinstance(field, forms.ModelChoiceField)
        field.queryset = ModelVersion.objects.filter(model=model).ready().newest_first()
        # Any ready version may be sent; only the highest and the one at hand are offered.
        offered = list(field.queryset.values_list("version", flat=True)[:VERSIONS_OFFERED])
        chosen = self["version"].value()
        if chosen and chosen not in offered and field.queryset.filter(version=chosen).exists():
            offered.append(chosen)
        field.choices = [(number, number) for number in offered]


class ImportBaseForm(forms.Form):
    repo = forms.CharField(
        label="Hub id",
        max_length=200,
        help_text="OWNER/NAME of a model in safetensors. Only weights, tokenizer and settings are "
        "taken; code never is.",
        widget=forms.TextInput(attrs={"autocomplete": "off", "placeholder": "owner/name"}),
    )
    name = forms.CharField(
        required=False,
        max_length=100,
        validators=[validate_name],
        help_text="What it is called here; empty is the hub's name.",
        widget=forms.TextInput(attrs={"autocomplete": "off"}),
    )
    revision = forms.CharField(
        required=False,
        max_length=100,
        help_text="A branch, tag or commit; empty is the newest. The commit is kept.",
        widget=forms.TextInput(attrs={"autocomplete": "off"}),
    )


class QuantizeForm(forms.Form):
    bits = forms.TypedChoiceField(
        coerce=int,
        choices=[(4, "4 bits: smallest"), (8, "8 bits: closest to the original")],
        initial=4,
    )
    group_size = forms.TypedChoiceField(
        coerce=int,
        choices=[(size, str(size)) for size in GROUP_SIZES],
        initial=64,
        help_text="Weights that share a scale; smaller groups are closer and larger on disk.",
    )
    dataset = forms.ModelChoiceField(
        Dataset.objects.all(),
        label="Judged on",
        required=False,
        empty_label="The starter data set",
        help_text="The result is kept only when it answers these held-out examples like the "
        "original.",
    )
    name = forms.CharField(
        required=False,
        max_length=100,
        validators=[validate_name],
        help_text="Empty is the base's name and the bits.",
        widget=forms.TextInput(attrs={"autocomplete": "off"}),
    )

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        field = self.fields["dataset"]
        assert isinstance(field, forms.ModelChoiceField)
        # Any data set may be sent; only the newest are offered.
        newest = Dataset.objects.filter(next=None)[:DATASETS_OFFERED]
        field.choices = [("", field.empty_label), *((row.pk, str(row)) for row in newest)]


class FuseForm(forms.Form):
    name = forms.CharField(
        required=False,
        max_length=100,
        validators=[validate_name],
        help_text="What the new base model is called; empty is the model, version and “fused”.",
        widget=forms.TextInput(attrs={"autocomplete": "off"}),
    )
