"""One request on its way through the engine, and the clock that measures it."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from backends.base import Delta, FinishReason
from inference.protocol import Done, Event, Generate, Started


class Row:
    """A request, where its files are, and when what happened to it.

    Made on the event loop; from `GenerationThread.submit` on, all but `deliver` belongs to the
    generation thread. `deliver` is called on the event loop.
    """

    def __init__(
        self,
        request: Generate,
        base: Path,
        adapter: Path | None,
        deliver: Callable[[Event], None],
    ) -> None:
        self.request = request
        self.uid = request.request_id
        self.base = base
        self.adapter = adapter
        self.deliver = deliver
        self.prompt_tokens = 0
        self.completion_tokens = 0
        self._received = time.perf_counter()
        self._inserted = self._received
        self._first_token: float | None = None

    def started(self, prompt_tokens: int) -> Started:
        """The prompt is in the batch: waiting and loading end here."""
        self._inserted = time.perf_counter()
        self.prompt_tokens = prompt_tokens
        return Started(self.uid, prompt_tokens, self._since_received(self._inserted))

    def count(self, delta: Delta) -> None:
        """One more token came."""
        self.completion_tokens += 1
        if self._first_token is None:
            self._first_token = time.perf_counter()

    def done(self, reason: FinishReason) -> Done:
        now = time.perf_counter()
        first = self._first_token if self._first_token is not None else now
        decoded = self.completion_tokens - 1  # the first one belongs to the prompt's time
        return Done(
            finish_reason=reason,
            prompt_tokens=self.prompt_tokens,
            completion_tokens=self.completion_tokens,
            queue_ms=self._since_received(self._inserted),
            first_token_ms=self._since_received(first),
            total_ms=self._since_received(now),
            tokens_per_second=round(decoded / (now - first), 2) if decoded > 0 else None,
        )

    def _since_received(self, moment: float) -> float:
        return round((moment - self._received) * 1000, 3)
