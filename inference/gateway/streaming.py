"""A stream of answers as server-sent events or lines, in the frames of any API."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncGenerator, Callable, Iterable
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
    """A response whose pieces are bytes already, each with whether more will come: Django would pass each
    through two more generators, and send a last one that is empty."""

    def __init__(self, stream: Stream, frames: Frames, **options: Any) -> None:
        self.pieces = _encoded(stream, frames)
        super().__init__(_bodies(self.pieces), **options)
        self._stream, self._frames = stream, frames

    def write_with(self, write: Callable[[bytes], None], ready: Callable[[], bool]) -> None:
        """While the next of the pieces is awaited, texts of a single answer go to `write` as they come, if
        that is `ready`."""
        frames = self._frames

        def take(chunk: Chunk) -> bool:
            if not ready():
                return False
            if piece := frames.chunk(0, chunk):
                write(piece)
            return True

        if self._stream.answers == 1:
            self._stream.direct.take = take


async def _bodies(pieces: AsyncGenerator[tuple[bytes, bool]]) -> AsyncGenerator[bytes]:
    """For what reads the response as any other."""
    async with aclosing(pieces):
        async for piece, _ in pieces:
            yield piece


def event_stream(
    stream: Stream, frames: Frames, content_type: str = "text/event-stream; charset=utf-8"
) -> StreamingHttpResponse:
    """The stream as it comes, without buffering; closed when the client disconnects."""
    return EventStream(
        stream,
        frames,
        content_type=content_type,
        headers={"Cache-Control": "no-cache", "X-Accel-Buffering": "no"},
    )


async def _encoded(stream: Stream, frames: Frames) -> AsyncGenerator[tuple[bytes, bool]]:
    """What is to be sent together in one piece, and whether more will come."""
    left, last = stream.answers, b""
    async with aclosing(stream.events) as events:
        if first := b"".join(frames.start()):
            yield first, True
        try:
            async for index, event in events:
                if isinstance(event, Chunk):
                    if piece := frames.chunk(index, event):
                        yield piece, True
                elif isinstance(event, Read):
                    if isinstance(frames, ReadingFrames) and (piece := frames.read(index, event)):
                        yield piece, True
                elif isinstance(event, Done):
                    left, last = left - 1, b"".join(frames.end(index, event))
                    if left:
                        yield last, True
                        last = b""
        except HubError as error:
            yield last + frames.fail(error), False
            return
    yield last + b"".join(frames.finish()), False


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
