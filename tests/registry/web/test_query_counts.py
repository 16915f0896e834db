"""Lists and details take as many queries for many rows as for few."""

from __future__ import annotations

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from hub.seeding import Scale, seed
from registry.models import Dataset, Model, ModelVersion

pytestmark = pytest.mark.django_db


def _queries(path: str) -> int:
    with CaptureQueriesContext(connection) as captured:
        assert Client().get(path).status_code == 200
    return len(captured)


def test_the_number_of_queries_does_not_grow_with_the_rows() -> None:
    seed(Scale(models=3, versions=40, metrics=100, datasets=3, requests=20, bases=2), 0, len)
    model = Model.objects.order_by("pk").first()
    assert model is not None
    version, other = ModelVersion.objects.filter(model=model)[:2]
    dataset = Dataset.objects.order_by("pk")[0]
    paths = [
        "/models/",
        f"/models/{model.pk}/",
        version.get_absolute_url(),
        f"/models/{model.pk}/README.md",
        f"/compare/?v={version}&v={other}",
        "/bases/",
        "/datasets/",
        f"/datasets/{dataset.pk}/",
        f"/datasets/{dataset.pk}/doctor/",
        "/training/",
        "/requests/",
        "/playground/",
        "/api/models",
        f"/api/models/{model.pk}",
        f"/api/models/{model.pk}/versions",
        f"/api/models/{model.pk}/versions/{version.version}/lineage",
        f"/api/models/{model.pk}/moves",
        "/api/datasets",
        "/api/training/jobs",
        "/api/requests",
        "/v1/models",
        "/metrics",
    ]
    few = {path: _queries(path) for path in paths}
    seed(Scale(models=30, versions=300, metrics=600, datasets=30, requests=90, bases=2), 1, len)
    assert {path: _queries(path) for path in paths} == few
    assert max(few.values()) <= 25
