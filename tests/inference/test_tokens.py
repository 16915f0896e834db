"""API tokens: shown once, kept as a hash, refused when revoked."""

import datetime

import pytest
from django.db import IntegrityError, transaction
from django.utils import timezone

from inference.models import ApiToken

pytestmark = pytest.mark.django_db


def test_a_token_is_found_by_its_text_alone() -> None:
    row, text = ApiToken.issue("laptop")
    assert text.startswith("hub-")
    assert row.prefix == text[:12]
    assert ApiToken.authenticate(text) == row
    assert ApiToken.authenticate(text + "x") is None
    assert ApiToken.authenticate("") is None


def test_the_text_is_nowhere_in_the_row() -> None:
    row, text = ApiToken.issue("laptop")
    row.refresh_from_db()
    assert text not in {str(getattr(row, field.attname)) for field in row._meta.concrete_fields}


def test_a_revoked_token_is_refused() -> None:
    row, text = ApiToken.issue("laptop")
    row.revoke()
    assert ApiToken.authenticate(text) is None


def test_use_is_noted_at_most_once_a_minute() -> None:
    row, text = ApiToken.issue("laptop")
    ApiToken.authenticate(text)
    row.refresh_from_db()
    first = row.last_used_at
    assert first is not None
    ApiToken.authenticate(text)
    row.refresh_from_db()
    assert row.last_used_at == first
    earlier = timezone.now() - datetime.timedelta(minutes=2)
    ApiToken.objects.update(last_used_at=earlier)
    ApiToken.authenticate(text)
    row.refresh_from_db()
    assert row.last_used_at is not None
    assert row.last_used_at > first - datetime.timedelta(seconds=1)


def test_the_database_refuses_an_unknown_scope() -> None:
    with pytest.raises(IntegrityError), transaction.atomic():
        ApiToken.issue("laptop", "everything")


def test_a_name_is_given_once() -> None:
    ApiToken.issue("laptop")
    with pytest.raises(IntegrityError), transaction.atomic():
        ApiToken.issue("laptop")
