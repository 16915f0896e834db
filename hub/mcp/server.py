"""The tools that agents get.

Each is a request to the hub's own JSON API under the caller's key, so what a key may see or start is
decided there and nowhere else. Imports the `mcp` package, which takes a moment: import it late.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from typing import Annotated, Any

import httpx
from mcp.server.mcpserver import MCPServer
from mcp.server.mcpserver.exceptions import ToolError
from mcp.types import ToolAnnotations
from pydantic import Field

from registry.commands import typed

Reach = Callable[[], httpx.AsyncClient]
"""A client of the hub's API that sends the caller's key."""

_READS = ToolAnnotations(readOnlyHint=True, openWorldHint=False)
_STARTS = ToolAnnotations(readOnlyHint=False, destructiveHint=False, openWorldHint=False)
_ABOUT = (
    "A hub for fine-tuned language models on this machine: models and their versions, base models, data "
    "sets, training jobs and the log of requests. Everything is read but `train`, which shows a plan "
    "first and starts once the person has agreed to it."
)
Limit = Annotated[int, Field(ge=1, le=100)]
Offset = Annotated[int, Field(ge=0)]


def make_server(reach: Reach) -> MCPServer:
    """The server, which reaches the hub through `reach`."""
    server = MCPServer("mlx-model-hub", instructions=_ABOUT)

    async def ask(path: str, **query: Any) -> Any:
        return await _answer(reach, "GET", path, params={k: v for k, v in query.items() if v != ""})

    @server.tool(annotations=_READS)
    async def models(q: str = "", limit: Limit = 20, offset: Offset = 0) -> Any:
        """Models, newest first; `q` is part of a name."""
        return await ask("/api/models", q=q, limit=limit, offset=offset)

    @server.tool(annotations=_READS)
    async def model(model_id: int) -> Any:
        """One model with its versions and aliases."""
        return await ask(f"/api/models/{model_id}")

    @server.tool(annotations=_READS)
    async def version(model_id: int, number: str) -> Any:
        """One version, such as 1.2.0: its metrics, parameters, data set and where it comes from."""
        return await ask(f"/api/models/{model_id}/versions/{_part(number)}")

    @server.tool(annotations=_READS)
    async def base_models(limit: Limit = 20, offset: Offset = 0) -> Any:
        """Base models that can be fine-tuned or asked."""
        return await ask("/api/bases", limit=limit, offset=offset)

    @server.tool(annotations=_READS)
    async def datasets(q: str = "", limit: Limit = 20, offset: Offset = 0) -> Any:
        """Data sets, newest first; `q` is part of a name."""
        return await ask("/api/datasets", q=q, limit=limit, offset=offset)

    @server.tool(annotations=_READS)
    async def dataset(dataset_id: int) -> Any:
        """One data set: its splits, checksums and figures."""
        return await ask(f"/api/datasets/{dataset_id}")

    @server.tool(annotations=_READS)
    async def jobs(status: str = "", limit: Limit = 20, offset: Offset = 0) -> Any:
        """Training jobs, newest first; `status` such as queued, running, completed or failed."""
        return await ask("/api/training/jobs", status=status, limit=limit, offset=offset)

    @server.tool(annotations=_READS)
    async def job(job_id: int) -> Any:
        """One training job: its state, progress, settings and error."""
        return await ask(f"/api/training/jobs/{job_id}")

    @server.tool(annotations=_READS)
    async def requests(q: str = "", status: str = "", limit: Limit = 20, offset: Offset = 0) -> Any:
        """The log of answered requests, newest first; `q` is part of a model's name, `status` one of
        completed, cancelled, failed."""
        return await ask("/api/requests", q=q, status=status, limit=limit, offset=offset)

    @server.tool(annotations=_READS)
    async def memory() -> Any:
        """The memory budget, and the models in memory."""
        return {
            "budget": await ask("/api/inference/memory"),
            "models": await ask("/api/inference/models"),
        }

    @server.tool(annotations=_STARTS)
    async def train(
        model_id: int,
        dataset_id: int,
        config: dict[str, Any] | None = None,
        confirmation: str = "",
    ) -> Any:
        """Fine-tune a model on a data set; a new version is the result. The first call, without
        `confirmation`, starts nothing: it returns a plan and a confirmation code. Show the plan to the
        person, and only after they agree call again with the same arguments and that code. `config` has
        training settings that differ from the defaults, such as {"iters": 200}."""
        body = {"model_id": model_id, "dataset_id": dataset_id, "config": config or {}}
        code = hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()[:12]
        if not confirmation:
            named = await ask(f"/api/models/{model_id}")
            data = await ask(f"/api/datasets/{dataset_id}")
            return {"plan": {**body, "model": named, "dataset": data}, "confirmation": code}
        if confirmation != code:
            raise ToolError(
                "The confirmation belongs to another plan: call train without it, show the new plan "
                "to the person, and use the code that comes with it."
            )
        return await _answer(reach, "POST", "/api/training/jobs", json=body)

    return server


def _part(text: str) -> str:
    """A part of a path, which no text can lead elsewhere. Raises ToolError."""
    if not text.replace(".", "").isalnum() or ".." in text:
        raise ToolError(f"{text[:50]!r} is no version number; write one such as 1.2.0.")
    return text


async def _answer(reach: Reach, method: str, path: str, **more: Any) -> Any:
    """The JSON that the hub answers with. Raises ToolError with its sentence when it refuses."""
    try:
        async with reach() as client:
            response = await client.request(method, path, **more)
    except httpx.HTTPError as error:
        raise ToolError(
            f"The hub did not answer ({type(error).__name__}); start it with `{typed('up')}`."
        ) from error
    try:
        body = response.json()
    except ValueError:
        body = {}
    if response.is_success:
        return body
    said = body.get("error", {}).get("message") if isinstance(body, dict) else None
    raise ToolError(said or f"The hub answered with status {response.status_code}.")
