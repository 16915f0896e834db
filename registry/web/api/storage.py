"""Archive, restore and verify over JSON, and what storage holds."""

from django.http import HttpRequest
from django.shortcuts import get_object_or_404
from ninja import Router

from registry.maintenance import archive, gc, removal, verification
from registry.models import Model, ModelVersion
from registry.web.api.versions import versions_of
from registry.web.schemas import RemovalOut, StorageOut, VerifiedOut, VersionOut

router = Router(tags=["storage"])

_VERSION = "/models/{int:model_id}/versions/{version}"


@router.post(f"{_VERSION}/archive", response=VersionOut, summary="Archive a version")
def archive_version(request: HttpRequest, model_id: int, version: str) -> ModelVersion:
    """Its files move to the archive, with their checksums read before and after; it is no longer
    served. 409 while an alias points at it."""
    return archive.archive_version(_found(model_id, version))


@router.post(f"{_VERSION}/restore", response=VersionOut, summary="Restore a version")
def restore_version(request: HttpRequest, model_id: int, version: str) -> ModelVersion:
    """The way back from the archive, checked in the same way."""
    return archive.restore_version(_found(model_id, version))


@router.get(f"{_VERSION}/verify", response=VerifiedOut, summary="Verify a version's files")
def verify_version(request: HttpRequest, model_id: int, version: str) -> verification.Verified:
    """Reads every byte now and names each file that is damaged or missing. 409 without files."""
    return verification.verify_version(_found(model_id, version))


@router.post("/models/{int:model_id}/restore", response=RemovalOut, summary="Restore a model")
def restore_model(request: HttpRequest, model_id: int) -> removal.Removal:
    """Shown and served again, with the versions that were archived with it; one that was
    archived by itself before stays in the archive."""
    return removal.unarchive_model(get_object_or_404(Model, pk=model_id))


@router.get("/storage", response=StorageOut, summary="What storage holds")
def storage(request: HttpRequest) -> dict[str, object]:
    """Disk use per model, the largest first, that of data sets' tokens, and what no row names;
    nothing is removed here."""
    return {
        "models": gc.disk_use(),
        "tokens_bytes": gc.tokens_bytes(),
        "leftovers": gc.leftovers(),
    }


def _found(model_id: int, version: str) -> ModelVersion:
    versions = versions_of(get_object_or_404(Model, pk=model_id)).select_related(
        "model", "dataset", "base_model", "parent"
    )
    return get_object_or_404(versions, version=version)
