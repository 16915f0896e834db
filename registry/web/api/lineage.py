"""The lineage of a version over JSON, and its bundle."""

# No `from __future__ import annotations`: ninja resolves the annotations of operations.

from collections.abc import AsyncIterator, Iterator
from typing import Annotated, Any

from asgiref.sync import sync_to_async
from django.http import HttpRequest, StreamingHttpResponse
from django.shortcuts import get_object_or_404
from ninja import Router, Schema
from pydantic import Field

from registry.bundles import writer
from registry.models import ModelVersion
from registry.versions import graph

router = Router(tags=["versions"])


class NodeOut(Schema):
    """One thing in the picture."""

    id: str
    kind: str
    label: str
    detail: str
    url: Annotated[str, Field(description="Its page; empty when it has none")]
    known: Annotated[bool, Field(description="False: it is not recorded what this was")]


class EdgeOut(Schema):
    """`source` led to `target`."""

    source: str
    target: str
    relation: str


class LineageGraphOut(Schema):
    """The picture of a version's lineage and all facts behind it."""

    nodes: list[NodeOut]
    edges: list[EdgeOut]
    facts: Annotated[dict[str, Any], Field(description="Null and empty texts mean unknown")]


def find(model_id: int, version: str) -> ModelVersion:
    related = ModelVersion.objects.select_related(
        "model", "base_model", "dataset", "parent__model", "job"
    ).prefetch_related("aliases")
    return get_object_or_404(related, model_id=model_id, version=version)


@router.get(
    "/models/{int:model_id}/versions/{version}/lineage",
    response=LineageGraphOut,
    summary="Where a version comes from",
)
def lineage(request: HttpRequest, model_id: int, version: str) -> dict[str, Any]:
    """From the base model and the data set over the job to the aliases and the requests."""
    found = find(model_id, version)
    drawn = graph.graph(found)
    return {"nodes": drawn.nodes, "edges": drawn.edges, "facts": graph.facts(found)}


@router.get("/models/{int:model_id}/versions/{version}/bundle", summary="Download a version")
def download(
    request: HttpRequest, model_id: int, version: str, with_data: bool = False
) -> StreamingHttpResponse:
    """One file with adapter, digests, lineage, card and evaluation; `import-bundle` takes it."""
    found = find(model_id, version)
    pieces = writer.export(found, with_data=with_data)  # refuses before the answer begins
    name = f"{found.model.name}-{found.version}.bundle.tar"
    return StreamingHttpResponse(
        _streamed(pieces),
        content_type="application/x-tar",
        headers={"Content-Disposition": f'attachment; filename="{name}"'},
    )


async def _streamed(pieces: Iterator[bytes]) -> AsyncIterator[bytes]:
    """A plain iterator would be read whole into memory under ASGI."""
    while (piece := await sync_to_async(lambda: next(pieces, None))()) is not None:
        yield piece
