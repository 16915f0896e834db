"""Data over JSON, looked at before it becomes a data set."""

# No `from __future__ import annotations`: ninja resolves texts in the module of `paginate`, and fails.

from dataclasses import asdict
from typing import Any

from django.http import HttpRequest
from ninja import Router, Status

from registry.datasets import uploads
from registry.datasets.preview import preview
from registry.datasets.tasks import start_download
from registry.errors import Invalid
from registry.models import DatasetTask
from registry.web.api.datasets import read_body
from registry.web.schemas import DatasetTaskOut, PreviewIn, PreviewOut, PreviewUploadIn

router = Router(tags=["data sets"])

_BODY = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {"schema": PreviewIn.model_json_schema()},
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["file"],
                    "properties": {
                        "columns": {
                            "type": "string",
                            "description": (
                                'Which column holds what training reads, as JSON: {"prompt": "ask"}'
                            ),
                        },
                        "file": {
                            "type": "array",
                            "items": {"type": "string", "format": "binary"},
                            "description": "As for the registration of a data set",
                        },
                    },
                }
            },
        },
    }
}


@router.post(
    "/datasets/previews",
    response={200: PreviewOut, 202: DatasetTaskOut},
    openapi_extra=_BODY,
    summary="Preview a data set",
)
def make_preview(request: HttpRequest) -> Status[dict[str, Any] | DatasetTask]:
    """What files would become, before anything is registered: mistakes are listed, not refused.
    Send files once; `upload` of the answer previews them again with other columns, and registers
    them. 202 means that a hub id is downloaded: poll the task for its `staged` upload."""
    if request.content_type == "multipart/form-data":
        sent = read_body(PreviewUploadIn, lambda: request.POST.dict())
        files = [file for key in request.FILES for file in request.FILES.getlist(key)]
        return Status(200, _seen(uploads.stage(files), sent.columns))
    asked = read_body(PreviewIn, lambda: request.body)
    if sum(map(bool, (asked.examples, asked.upload, asked.hub))) != 1:
        raise Invalid("Send files, or one of examples, upload and hub.")
    if asked.hub:
        return Status(202, start_download(asked.hub))
    if asked.examples:
        return Status(200, _seen(uploads.stage_examples(asked.examples), asked.columns))
    return Status(200, _seen(uploads.staged(asked.upload), asked.columns))


@router.delete("/datasets/previews/{upload}", response={204: None}, summary="Discard a preview")
def discard_preview(request: HttpRequest, upload: str) -> Status[None]:
    """Removes the files that were sent for it."""
    uploads.discard(uploads.staged(upload))
    return Status(204, None)


def _seen(saved: uploads.Saved, columns: dict[str, str]) -> dict[str, Any]:
    seen = preview(saved.source, columns=columns, names=saved.names, hub=saved.hub)
    return {**asdict(seen), "upload": saved.key}
