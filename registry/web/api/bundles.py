"""Bundles from other hubs over JSON."""

# No `from __future__ import annotations`: ninja resolves texts in the module of `paginate`, and fails.

from typing import Annotated

from django.db.models import QuerySet
from django.http import HttpRequest
from django.shortcuts import get_object_or_404
from ninja import File, Form, Router, Status
from ninja.files import UploadedFile
from ninja.pagination import paginate

from registry.background import work
from registry.bundles import tasks
from registry.models import BundleImport, ModelVersion
from registry.web.api.lineage import find
from registry.web.paging import LimitOffset
from registry.web.schemas import BundleImportOut, VersionOut

router = Router(tags=["versions"])


@router.post(
    "/bundles", response={201: VersionOut, 202: BundleImportOut}, summary="Import a bundle"
)
def take(
    request: HttpRequest,
    file: Annotated[UploadedFile, File(description="What a version's bundle endpoint gives")],
    model: Annotated[str, Form(max_length=100, description="Empty: as it was there")] = "",
    base: Annotated[str, Form(max_length=100, description="A base of the same shape")] = "",
    version_number: Annotated[
        str, Form(max_length=20, description="Above the model's newest; empty: its own")
    ] = "",
) -> Status[ModelVersion | BundleImport]:
    """Every byte is verified before anything is kept: 422 names the damaged file, 404 the base
    model that is missing. The version keeps its number if that is free. 202 means that a large
    bundle is imported in the background: poll the import."""
    made = tasks.start_upload(file, model, base, version_number)
    if isinstance(made, BundleImport):
        return Status(202, made)
    return Status(201, find(made.model_id, made.version))


@router.get("/bundles", response=list[BundleImportOut], summary="Imports of bundles, newest first")
@paginate(LimitOffset)
def imports(request: HttpRequest) -> QuerySet[BundleImport]:
    """Large bundles being imported, and earlier imports."""
    return BundleImport.objects.up_to_date().select_related("version")


@router.get("/bundles/{int:import_id}", response=BundleImportOut, summary="One import of a bundle")
def one_import(request: HttpRequest, import_id: int) -> BundleImport:
    """Its progress, its result, or why it failed."""
    rows = BundleImport.objects.up_to_date().select_related("version")
    return get_object_or_404(rows, pk=import_id)


@router.post(
    "/bundles/{int:import_id}/retry", response={202: BundleImportOut}, summary="Retry an import"
)
def retry(request: HttpRequest, import_id: int) -> Status[BundleImport]:
    """For one whose process was killed, or whose base model was missing and is here now."""
    return Status(202, work.retry(get_object_or_404(BundleImport, pk=import_id)))
