"""Base models, their imports and the exports of versions over JSON."""

# No `from __future__ import annotations`: ninja resolves texts in the module of `paginate`, and fails.

from django.db.models import QuerySet
from django.http import FileResponse, HttpRequest
from django.shortcuts import get_object_or_404
from ninja import Router, Status
from ninja.pagination import paginate

from registry.background import work
from registry.bases import local, registration
from registry.conversion import exports, imports
from registry.errors import Invalid
from registry.models import BaseImport, BaseModel, Dataset, ModelVersion
from registry.web.paging import LimitOffset
from registry.web.schemas import (
    BaseImportIn,
    BaseImportOut,
    BaseIn,
    BaseOut,
    ExportIn,
    ExportOut,
    FuseIn,
    QuantizeIn,
)

router = Router(tags=["base models"])


@router.get("/bases", response=list[BaseOut], summary="Base models")
@paginate(LimitOffset)
def base_models(request: HttpRequest) -> QuerySet[BaseModel]:
    """The models that can be fine-tuned; each answers as `base:NAME`."""
    return BaseModel.objects.all()


@router.post("/bases", response={201: BaseOut}, summary="Import the bundled base model")
def create_base(request: HttpRequest, payload: BaseIn) -> Status[BaseModel]:
    """Takes seconds the first time; afterwards it returns the existing one."""
    return Status(201, registration.register_starter())


@router.get("/bases/imports", response=list[BaseImportOut], summary="Imports, newest first")
@paginate(LimitOffset)
def base_imports(request: HttpRequest) -> QuerySet[BaseImport]:
    """Base models being imported, quantized or fused, and earlier ones."""
    return BaseImport.objects.up_to_date()


@router.post("/bases/imports", response={202: BaseImportOut}, summary="Import a base model")
def import_base(request: HttpRequest, payload: BaseImportIn) -> Status[BaseImport]:
    """From a model hub, or what another program keeps on this machine. Runs in the background; poll
    the import to see its progress. Importing what is paused resumes it."""
    if bool(payload.source) == bool(payload.found):
        raise Invalid("Send source, a model's hub id, or found, a key of /api/bases/offers/here.")
    if payload.found:
        offer = local.find(payload.found)
        assert offer.path is not None
        row = imports.start_local(offer.path, payload.name or offer.name)
    else:
        row = imports.start(payload.source, payload.name, payload.revision)
    return Status(202, work.launch(row))


@router.get("/bases/imports/{int:import_id}", response=BaseImportOut, summary="One import")
def base_import(request: HttpRequest, import_id: int) -> BaseImport:
    """Its progress, or why it failed."""
    return get_object_or_404(BaseImport.objects.up_to_date(), pk=import_id)


@router.post(
    "/bases/imports/{int:import_id}/retry", response={202: BaseImportOut}, summary="Retry an import"
)
def retry_import(request: HttpRequest, import_id: int) -> Status[BaseImport]:
    """A failed or paused download continues from what has arrived; anything else starts again."""
    return Status(202, imports.retry(get_object_or_404(BaseImport, pk=import_id)))


@router.post(
    "/bases/imports/{int:import_id}/pause", response=BaseImportOut, summary="Pause a download"
)
def pause_import(request: HttpRequest, import_id: int) -> BaseImport:
    """What has arrived is kept for a week; retrying the import continues from it."""
    return imports.pause(get_object_or_404(BaseImport, pk=import_id))


@router.get("/bases/{int:base_id}", response=BaseOut, summary="One base model")
def base_model(request: HttpRequest, base_id: int) -> BaseModel:
    """With the certificate of its fidelity when it was quantized or fused."""
    return get_object_or_404(BaseModel, pk=base_id)


@router.post(
    "/bases/{int:base_id}/quantize", response={202: BaseImportOut}, summary="Quantize a base model"
)
def quantize_base(request: HttpRequest, base_id: int, payload: QuantizeIn) -> Status[BaseImport]:
    """Runs in the background as an import does; kept only when it still behaves like the
    original."""
    base = get_object_or_404(BaseModel, pk=base_id)
    dataset = payload.dataset_id and get_object_or_404(Dataset, pk=payload.dataset_id)
    row = imports.start_quantize(
        base, payload.bits, payload.group_size, payload.name, dataset or None
    )
    return Status(202, work.launch(row))


@router.post(
    "/models/{int:model_id}/versions/{version}/fuse",
    response={202: BaseImportOut},
    summary="Fuse a version into a base model",
)
def fuse_version(
    request: HttpRequest, model_id: int, version: str, payload: FuseIn
) -> Status[BaseImport]:
    """Runs in the background as an import does; kept only when it still answers like the
    adapter."""
    row = imports.start_fuse(_version(model_id, version), payload.name)
    return Status(202, work.launch(row))


_EXPORTS = "/models/{int:model_id}/versions/{version}/exports"


@router.get(_EXPORTS, response=list[ExportOut], summary="A version's exports")
def version_exports(request: HttpRequest, model_id: int, version: str) -> list[exports.Export]:
    """Its exports in every state."""
    return exports.exports_of(_version(model_id, version))


@router.post(_EXPORTS, response={202: ExportOut}, summary="Export a version")
def export_version(
    request: HttpRequest, model_id: int, version: str, payload: ExportIn
) -> Status[exports.Export]:
    """An adapter is ready immediately; forms that need the model's weights are created in the background."""
    return Status(202, exports.request(_version(model_id, version), payload.form))


@router.get(_EXPORTS + "/{form}/file", summary="Download an export")
def export_file(request: HttpRequest, model_id: int, version: str, form: str) -> FileResponse:
    """The file of an export that is ready, as a zip archive."""
    return FileResponse(exports.open_file(_version(model_id, version), form), as_attachment=True)


def _version(model_id: int, version: str) -> ModelVersion:
    versions = ModelVersion.objects.select_related("model", "base_model", "dataset")
    return get_object_or_404(versions, model_id=model_id, version=version)
