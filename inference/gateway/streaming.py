"""A stream of answers as server-sent events or lines, in the frames of any API."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncGenerator, AsyncIterator, Iterable
from contextlib import aclosing
from typing import Any, Protocol, runtime_checkable

from django.http import StreamingHttpResponse

from inference.gateway.answer import Stream
from inference.protocol import Chunk, Done, Read
from registry.errors import HubError


class Frames(Protocol):
    """What one stream looks like in one API; `index` is the number of the answer."""

    def start(self) -> Iterable[bytes]: ...
    def chunk(self, index: int, chunk: Chunk) -> bytes: ...
    def end(self, index: int, done: Done) -> Iterable[bytes]: ...
    def finish(self) -> Iterable[bytes]:
        """After the last answer has ended."""
        ...

    def fail(self, error: HubError) -> bytes:
        """The stream's last event, when something fails after its start."""
        ...


@runtime_checkable
class ReadingFrames(Frames, Protocol):
    """Frames of an API that also reports what the model read."""

    def read(self, index: int, read: Read) -> bytes: ...


class EventStream(StreamingHttpResponse):
    """A response whose pieces are bytes already: Django would pass each through two more generators."""

    _iterator: AsyncIterator[bytes]

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self._iterator


def event_stream(
    stream: Stream, frames: Frames, content_type: str = "text/event-stream; charset=utf-8"
) -> StreamingHttpResponse:
    """The stream as it comes, without buffering; closed when the client disconnects."""
    return EventStream(
        _encoded(stream, frames),
        content_type=content_type,
        headers={"Cache-Control": "no-cache", "X-Accel-Buffering": "no"},
    )


async def _encoded(stream: Stream, frames: Frames) -> AsyncGenerator[bytes]:
    async with aclosing(stream.events) as events:
        for first in frames.start():
            yield first
        try:
            async for index, event in events:
                if isinstance(event, Chunk):
                    yield frames.chunk(index, event)
                elif isinstance(event, Read):
                    if isinstance(frames, ReadingFrames):
                        yield frames.read(index, event)
                elif isinstance(event, Done):
                    for ended in frames.end(index, event):
                        yield ended
        except HubError as error:
            yield frames.fail(error)
            return
        for last in frames.finish():
            yield last


def json_text(value: Any) -> str:
    """`value` as JSON in one line, also for clients that split lines as Python's `splitlines` does."""
    return one_line(json.dumps(value, ensure_ascii=False))


def one_line(text: str) -> str:
    """JSON without what Unicode counts as the end of a line: U+0085, U+2028 and U+2029, which JSON may
    have as they are, are escaped."""
    if text.isascii():
        return text
    return _BREAKS.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


_BREAKS = re.compile("[\u0085\u2028\u2029]")


def frame(data: dict[str, Any] | str, event: str = "") -> bytes:
    """One event: `data` as JSON, or as it is when it is a text."""
    text = data if isinstance(data, str) else json_text(data)
    return f"{f'event: {event}\n' if event else ''}data: {text}\n\n".encode()
