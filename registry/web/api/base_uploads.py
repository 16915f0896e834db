"""Base models that a client sends piece by piece."""

from __future__ import annotations

from typing import Annotated

from django.http import HttpRequest
from ninja import File, Form, Router, Status
from ninja.files import UploadedFile

from registry.background import work
from registry.bases import pieces
from registry.conversion import imports
from registry.models import BaseImport
from registry.web.schemas import BaseImportOut, BaseUploadIn, BaseUploadOut, FuseIn, PieceSentOut

router = Router(tags=["base models"])


@router.post("/bases/uploads", response=BaseUploadOut, summary="Begin to send a base model")
def begin_upload(request: HttpRequest, payload: BaseUploadIn) -> dict[str, object]:
    """Name the files: one .gguf, or those of a model folder. The same names, sizes and times continue
    what was sent before; `files` says where."""
    named = [(file.name, file.size, file.modified) for file in payload.files]
    return _shown(pieces.begin(named))


@router.get("/bases/uploads/{upload}", response=BaseUploadOut, summary="What has arrived")
def get_upload(request: HttpRequest, upload: str) -> dict[str, object]:
    """Of each file."""
    return _shown(pieces.arriving(upload))


@router.post(
    "/bases/uploads/{upload}/pieces", response=PieceSentOut, summary="Send a piece of a file"
)
def send_piece(
    request: HttpRequest,
    upload: str,
    name: Annotated[str, Form(max_length=200)],
    offset: Annotated[int, Form(ge=0, description="Bytes of the file before this piece")],
    piece: Annotated[UploadedFile, File(description="Some megabytes")],
) -> dict[str, int]:
    """409 when the file does not continue at `offset`: ask for what has arrived."""
    return {"received": pieces.append(pieces.arriving(upload), name, offset, piece.chunks())}


@router.post(
    "/bases/uploads/{upload}/import",
    response={202: BaseImportOut},
    summary="Import what was sent",
)
def import_upload(request: HttpRequest, upload: str, payload: FuseIn) -> Status[BaseImport]:
    """Once all has arrived. Runs in the background as other imports do."""
    found = pieces.arriving(upload)
    path = pieces.whole(found)
    name = payload.name or (path.stem if found.is_gguf else "model")
    sent = f"Upload: {path.name}" if found.is_gguf else f"Upload: {len(found.sizes)} files"
    return Status(202, work.launch(imports.start_local(path, name, upload=upload, origin=sent)))


def _shown(upload: pieces.Arriving) -> dict[str, object]:
    received = upload.received
    files = [
        {"name": name, "size": size, "received": received[name]}
        for name, size in upload.sizes.items()
    ]
    return {"upload": upload.key, "files": files, "left_out": list(upload.left_out)}
