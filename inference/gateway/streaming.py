"""Server-sent events over ASGI."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator
from typing import Any

from django.http import StreamingHttpResponse


def frame(data: dict[str, Any] | str, event: str = "") -> bytes:
    """One event: `data` as JSON, or as it is when it is a text."""
    text = data if isinstance(data, str) else json.dumps(data, ensure_ascii=False)
    return f"{f'event: {event}\n' if event else ''}data: {text}\n\n".encode()


def event_stream(frames: AsyncGenerator[bytes]) -> StreamingHttpResponse:
    """`frames` as they come, buffered by nobody; closed when the client goes away."""
    return StreamingHttpResponse(
        frames,
        content_type="text/event-stream; charset=utf-8",
        headers={"Cache-Control": "no-cache", "X-Accel-Buffering": "no"},
    )
