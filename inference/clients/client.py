"""One API of one hub, asked about one version."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from inference.clients.asking import Ask, Broken, Failed, Reply, Skipped, shortened
from inference.clients.faces.speech import Face, Refusal, RefusedInStream
from registry.commands import typed
from registry.errors import Unavailable
from registry.late import Late

if TYPE_CHECKING:
    import httpx
else:
    httpx = Late("httpx")


_TRIES = 30  # of a request that a full queue, or a lack of memory, refuses
_MOST_WAIT_S = 10.0
_UNREADABLE = (KeyError, IndexError, TypeError, ValueError, AttributeError)


@dataclass
class Client:
    """`model` over one API. The same question is asked once."""

    face: Face
    model: str
    http: httpx.AsyncClient
    thinks: bool  # whether its chat template knows thoughts
    _known: dict[str, Reply] = field(default_factory=dict)

    async def ask(self, ask: Ask) -> Reply:
        """The answer, which keeps what every answer must. Raises Broken, Failed, Skipped, and
        Unavailable when the hub cannot answer at all."""
        body = self.face.body(ask)
        key = json.dumps(body, sort_keys=True)
        if key not in self._known:
            self._known[key] = await self.again(ask)
        return self._known[key]

    async def again(self, ask: Ask) -> Reply:
        """The same, not remembered."""
        reply = await self.send(self.face.body(ask))
        if reply.completion_tokens > ask.max_tokens:
            raise Broken(f"Of {ask.max_tokens} tokens at most it counts {reply.completion_tokens}.")
        return reply

    async def send(self, body: dict[str, Any]) -> Reply:
        """The answer to a request in this API's own words."""
        response = await self._post({**body, "model": self.model})
        try:
            if not response.is_success:
                self._refuse(response.status_code, self.face.refusal(response.json()))
            reply = self._read(response, bool(body.get("stream")))
        except RefusedInStream as error:
            self._refuse(200, error.refusal)
        except _UNREADABLE as error:
            what = f"{type(error).__name__}: {error}"
            raise Broken(
                f"The answer ({response.status_code}) has not its API's form ({what}): "
                f"{shortened(response.text, 160)}."
            ) from error
        _keeps_its_form(reply)
        return reply

    def _read(self, response: httpx.Response, streamed: bool) -> Reply:
        if streamed:
            return self.face.read_stream(response.text)
        return self.face.read(response.json())

    async def _post(self, body: dict[str, Any]) -> httpx.Response:
        for _ in range(_TRIES):
            try:
                response = await self.http.post(self.face.path, json=body)
            except httpx.TransportError as error:
                raise Unavailable(
                    f"The hub did not answer at {self.http.base_url} ({type(error).__name__}); "
                    f"start it with `{typed('up')}`."
                ) from error
            if response.status_code not in (429, 503):
                return response
            wait = float(response.headers.get("Retry-After", 1))
            await asyncio.sleep(min(wait, _MOST_WAIT_S))
        raise Unavailable(f"The hub refused for too long: {shortened(response.text, 200)}.")

    @staticmethod
    def _refuse(status: int, refusal: Refusal) -> None:
        """Raises Failed for what the model is to blame for, Skipped for what cannot be tried."""
        if refusal.written is not None:
            raise Failed(f"It wrote a call that cannot be read: {shortened(refusal.written)}.")
        if "refuses these messages" in refusal.message:  # its template, which came with the model
            raise Failed(refusal.message)
        if "has no chat template" in refusal.message:
            raise Skipped(refusal.message)
        if refusal.code == "context_length_exceeded" or "the context of" in refusal.message:
            raise Skipped(refusal.message)
        if status == 504 or "cannot be enforced" in refusal.message:
            raise Skipped(refusal.message)
        if status in (401, 403, 404):
            raise Unavailable(refusal.message)
        raise Broken(f"Refused with {status}: {refusal.message}")


def _keeps_its_form(reply: Reply) -> None:
    """Raises Broken."""
    if bool(reply.calls) != (reply.finish == "calls") and not reply.cut:
        raise Broken(f"It has {len(reply.calls)} calls and ends with {reply.finish!r}.")
    for call in reply.calls:
        if not isinstance(json.loads(call.arguments), dict):
            raise Broken(f"The arguments of a call are no object: {shortened(call.arguments)}.")
    if reply.prompt_tokens < 1 or (reply.text and reply.completion_tokens < 1):
        raise Broken("Its usage counts no tokens.")
    if reply.total not in (None, reply.prompt_tokens + reply.completion_tokens):
        raise Broken("Its usage has a wrong sum.")
