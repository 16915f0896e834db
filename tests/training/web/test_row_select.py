"""A select of thousands of rows is Django's own, drawn at once."""

from __future__ import annotations

import pytest
from django import forms
from django.test.html import parse_html

from training.web.fields import RowSelect

pytestmark = pytest.mark.any_database


@pytest.mark.parametrize("chosen", [None, "", 2, "2", 9])
def test_it_says_what_djangos_says(chosen: object) -> None:
    choices = [("", "–"), (1, "a <b> & 'c'"), (2, "second"), ('"3', "third")]
    attrs = {"id": "id_model", "required": True, "aria-describedby": "help"}
    own, djangos = (
        widget(choices=choices).render("model", chosen, attrs)
        for widget in (RowSelect, forms.Select)
    )
    assert parse_html(own) == parse_html(djangos)
