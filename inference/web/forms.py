"""The forms of inference's pages."""

from __future__ import annotations

from django import forms

from inference.feedback import KINDS
from inference.models import TITLE_LENGTH, ApiToken, Feedback
from inference.replay import MOST


class KeyLimitsForm(forms.Form):
    max_running = forms.IntegerField(
        label="At once",
        required=False,
        min_value=1,
        max_value=10_000,
        help_text="Requests answered at the same time; empty is no limit.",
    )
    max_waiting = forms.IntegerField(
        label="Waiting",
        required=False,
        min_value=0,
        max_value=10_000,
        help_text="Requests that may wait; further ones get 429. Empty is no limit.",
    )


class KeyForm(KeyLimitsForm):
    name = forms.CharField(
        max_length=100,
        help_text="Who or what uses the key.",
        widget=forms.TextInput(attrs={"autocomplete": "off"}),
    )
    scope = forms.ChoiceField(
        choices=ApiToken.Scope,
        initial=ApiToken.Scope.INFERENCE,
        help_text="What the key may do.",
    )
    field_order = ("name", "scope", "max_running", "max_waiting")


class ReplayForm(forms.Form):
    source = forms.CharField(
        label="Requests from",
        max_length=250,
        help_text="The version that answered them: NAME@0.1.0 or NAME@production.",
        widget=forms.TextInput(attrs={"autocomplete": "off", "placeholder": "calendar@0.1.0"}),
    )
    target = forms.CharField(
        label="Answered by",
        max_length=250,
        help_text="The version that answers them now.",
        widget=forms.TextInput(attrs={"autocomplete": "off", "placeholder": "calendar@0.2.0"}),
    )
    since = forms.CharField(
        max_length=40, help_text="30m, 24h, 7d, or a date such as 2026-11-24.", initial="24h"
    )
    limit = forms.IntegerField(
        min_value=1, max_value=MOST, initial=200, help_text="How many of the newest requests."
    )


class TitleForm(forms.Form):
    title = forms.CharField(max_length=TITLE_LENGTH)


class FeedbackForm(forms.Form):
    rate = forms.ChoiceField(choices=Feedback.Rating, required=False)
    ideal = forms.CharField(
        label="The answer as it should be",
        required=False,
        strip=False,
        max_length=1_000_000,
        widget=forms.Textarea(attrs={"rows": 6}),
    )


class ExamplesForm(forms.Form):
    kind = forms.ChoiceField(choices=[(kind, title) for kind, (title, _) in KINDS.items()])
    model = forms.CharField(
        label="Only this model",
        required=False,
        max_length=200,
        help_text="Its name without a version; empty is all.",
        widget=forms.TextInput(attrs={"autocomplete": "off"}),
    )
