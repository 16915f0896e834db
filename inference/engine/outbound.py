"""Events on their way from the generation thread to one reader of the socket."""

from __future__ import annotations

import asyncio
from contextlib import suppress

from inference.protocol import Done, Event, Failed, encode_event

BUFFERED_EVENTS = 512  # events kept for a slow reader, beyond what its socket takes
LAST_EVENT_S = 5.0


class Outbound:
    """Events for one reader: bounded, so that a slow one costs the others nothing."""

    def __init__(self, writer: asyncio.StreamWriter, limit: int = BUFFERED_EVENTS) -> None:
        self._writer = writer
        self._events: asyncio.Queue[Event] = asyncio.Queue(limit)
        self.overflow = asyncio.Event()
        self.complete = False  # the last event is in
        self.failed: Failed | None = None  # that event, when it is an error

    def put(self, event: Event) -> None:
        """Called on the event loop for each event; never waits. What the socket takes goes out here, as
        nearly all does: to wake `send` for each token would take longer than to write it."""
        last = isinstance(event, Done | Failed)
        if last:
            self.complete = True
            self.failed = event if isinstance(event, Failed) else None
        if not last and self._events.empty() and not self._waits():
            self._writer.write(encode_event(event))
            return
        try:
            self._events.put_nowait(event)
        except asyncio.QueueFull:
            self.overflow.set()

    def _waits(self) -> bool:
        """Whether something of what was written is not with the kernel yet."""
        return self._writer.transport.get_write_buffer_size() > 0

    async def send(self) -> None:
        """Write what could not go out at once, until the last event is with the kernel."""
        while True:
            event = await self._events.get()
            await write(self._writer, event)
            if isinstance(event, Done | Failed):
                return

    async def refuse_slow_reader(self) -> None:
        """End the stream with an error; give the reader a moment to fetch it."""
        message = (
            "The answer was read too slowly and was stopped; read faster or generate fewer tokens."
        )
        with suppress(TimeoutError):
            await asyncio.wait_for(
                write(self._writer, Failed("slow_reader", message, 408)), LAST_EVENT_S
            )
        self._writer.transport.abort()


async def write(writer: asyncio.StreamWriter, event: Event) -> None:
    """Raises ConnectionError when the reader is gone."""
    writer.write(encode_event(event))
    await writer.drain()
