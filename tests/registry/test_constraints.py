"""What the database itself refuses, whoever writes."""

from __future__ import annotations

from typing import Any

import pytest
from django.db import DatabaseError, IntegrityError, connection, transaction
from django.db.models import F

from registry.models import Alias, BaseModel, Dataset, Model, ModelVersion
from tests.registry.build import begin, make_base, make_dataset, make_model, make_version

pytestmark = pytest.mark.django_db

BAD_SEMVERS = [
    "1",
    "1.2",
    "1.2.3.4",
    "v1.2.3",
    "01.2.3",
    "1.2.3-rc1",
    "",
    "a.b.c",
    "1.2.3 ",
    "-1.2.3",
]
BAD_NAMES = ["", " ", "a b", "../x", "a/b", "-a", ".a", "é", "a\n", "x" * 101]


def refused(change: Any) -> None:
    with pytest.raises(DatabaseError), transaction.atomic():
        change()


def copy_row(row: ModelVersion, **overrides: Any) -> None:
    """Insert a copy of a version by SQL alone."""
    columns = [field.column for field in row._meta.local_fields if not field.primary_key]
    marked = [f"%({c})s" if c in overrides else c for c in columns]
    table = row._meta.db_table
    with connection.cursor() as cursor:
        cursor.execute(
            f"INSERT INTO {table} ({', '.join(columns)}) "
            f"SELECT {', '.join(marked)} FROM {table} WHERE id = {row.pk}",
            overrides,
        )


def test_a_copy_with_its_own_number_is_accepted() -> None:
    version = begin()
    copy_row(version, version="0.2.0", minor=2)
    assert ModelVersion.objects.count() == 2


def test_a_version_without_a_model() -> None:
    version = begin()
    refused(lambda: copy_row(version, version="0.2.0", minor=2, model_id=None))


@pytest.mark.django_db(transaction=True)
def test_a_version_of_a_model_that_does_not_exist() -> None:
    version = begin()
    refused(lambda: copy_row(version, version="0.2.0", minor=2, model_id=999_999))


def test_two_equal_versions() -> None:
    version = begin()
    refused(lambda: copy_row(version))


@pytest.mark.parametrize("text", BAD_SEMVERS)
def test_a_bad_semver(text: str) -> None:
    versions = ModelVersion.objects.filter(pk=begin().pk)
    refused(lambda: versions.update(version=text))


@pytest.mark.parametrize("text", BAD_SEMVERS)
def test_a_bad_semver_by_save(text: str) -> None:
    version = begin()
    version.version = text
    refused(version.save)


def test_a_version_that_is_not_its_three_numbers() -> None:
    versions = ModelVersion.objects.filter(pk=begin().pk)
    refused(lambda: versions.update(minor=F("minor") + 1))


def test_a_bad_status() -> None:
    versions = ModelVersion.objects.filter(pk=begin().pk)
    refused(lambda: versions.update(status="finished"))


@pytest.mark.parametrize("status", ["ready", "archived"])
def test_a_ready_version_without_files(status: str) -> None:
    version = begin()
    refused(lambda: ModelVersion.objects.filter(pk=version.pk).update(status=status))


@pytest.mark.parametrize("name", BAD_NAMES)
def test_a_bad_name(name: str) -> None:
    make_model()
    make_dataset()
    for table in (BaseModel, Model, Dataset):
        refused(lambda table=table: table.objects.update(name=name))


def test_two_names_that_differ_in_case_alone() -> None:
    base = make_base()
    make_model("helper", base=base)
    refused(lambda: Model.objects.create(name="Helper", base_model=base))


@pytest.mark.parametrize("name", ["", "Production", "1st", "a b", "x" * 51, "a.b"])
def test_a_bad_alias(name: str) -> None:
    version = make_version()
    refused(lambda: Alias.objects.create(model=version.model, name=name, version=version))


def test_an_alias_for_two_versions_at_once() -> None:
    version = make_version()
    Alias.objects.create(model=version.model, name="production", version=version)
    refused(lambda: Alias.objects.create(model=version.model, name="production", version=version))


@pytest.mark.parametrize(
    ("table", "change"),
    [
        (Model, {"task_type": "poetry"}),
        (BaseModel, {"source": "ftp"}),
        (BaseModel, {"manifest_sha256": "abc"}),
        (Dataset, {"format": "xml"}),
        (Dataset, {"checksum": "A" * 64}),
    ],
)
def test_values_outside_of_their_set(table: Any, change: dict[str, str]) -> None:
    make_model()
    make_dataset()
    refused(lambda: table.objects.update(**change))


def test_what_a_version_rests_on_cannot_be_deleted() -> None:
    version = make_version()
    assert version.dataset
    for row in (version.model, version.base_model, version.dataset):
        with pytest.raises(IntegrityError):
            row.delete()
