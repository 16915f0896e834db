"""What a person types to choose rows of a data set, and to change them."""

from __future__ import annotations

from typing import Any

from django import forms
from django.http import QueryDict

from registry.datasets.splits import SPLITS
from registry.datasets.workbench.fixes import ACTIONS, Fix
from registry.datasets.workbench.rows import Wanted

_MOST_TOKENS = 2**32 - 1


class RowsForm(forms.Form):
    """Which rows a page shows; what is not understood is left out."""

    q = forms.CharField(required=False, max_length=500)
    split = forms.ChoiceField(required=False, choices=[(name, name) for name in SPLITS])
    issue = forms.CharField(required=False, max_length=20)
    shortest = forms.IntegerField(required=False, min_value=0, max_value=_MOST_TOKENS)
    longest = forms.IntegerField(required=False, min_value=0, max_value=_MOST_TOKENS)
    order = forms.ChoiceField(
        required=False,
        choices=[("", "In their order"), ("longest", "Longest first"), ("shortest", "Shortest")],
    )
    page = forms.IntegerField(required=False, min_value=1, max_value=10**9)
    first = forms.IntegerField(required=False, min_value=0, max_value=10**9)

    def given(self, name: str) -> Any:
        """The field's value, None where it has none or a wrong one."""
        self.is_valid()
        return self.cleaned_data.get(name)

    def wanted(self, splits: dict[str, int]) -> Wanted:
        """The rows of a data set with these splits."""
        split = self.given("split")
        return Wanted(
            split=split if split in splits else "",
            issue=self.given("issue") or "",
            shortest=self.given("shortest"),
            longest=self.given("longest"),
            q=self.given("q") or "",
        )


class FixForm(forms.Form):
    """What to do with rows: those that are ticked, or all that the page's filters choose."""

    action = forms.ChoiceField(choices=[(name, name) for name in ACTIONS])
    scope = forms.ChoiceField(choices=[("rows", "rows"), ("all", "all")], required=False)
    to = forms.CharField(max_length=10, required=False)
    message = forms.CharField(max_length=500, required=False)

    def fix(self, sent: QueryDict, wanted: Wanted) -> Fix:
        """The fix of a valid form."""
        given = self.cleaned_data
        everything = given["scope"] == "all"
        return Fix(
            action=given["action"],
            message=given["message"],
            keys=() if everything else tuple(sent.getlist("row")),
            wanted=wanted if everything else Wanted(),
            to=given["to"],
            text=sent.get("text", ""),
        )
