"""What the hub's own middleware has in common."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import cast

from asgiref.sync import iscoroutinefunction, markcoroutinefunction
from django.http import HttpRequest, HttpResponseBase

GetResponse = Callable[[HttpRequest], HttpResponseBase | Awaitable[HttpResponseBase]]


class Gate:
    """A middleware that may respond instead of the view."""

    sync_capable = True
    async_capable = True

    def __init__(self, get_response: GetResponse) -> None:
        self.get_response = get_response
        self.is_async = bool(iscoroutinefunction(get_response))
        if self.is_async:
            markcoroutinefunction(self)

    def __call__(self, request: HttpRequest) -> HttpResponseBase | Awaitable[HttpResponseBase]:
        if self.is_async:
            return self._acall(request)
        return self.answer(request) or self.get_response(request)

    async def _acall(self, request: HttpRequest) -> HttpResponseBase:
        answer = await self.aanswer(request)
        return answer or await cast("Awaitable[HttpResponseBase]", self.get_response(request))

    def answer(self, request: HttpRequest) -> HttpResponseBase | None:
        """A refusal, or None to continue."""
        raise NotImplementedError

    async def aanswer(self, request: HttpRequest) -> HttpResponseBase | None:
        return self.answer(request)
