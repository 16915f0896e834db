"""How the JSON API reads bodies: JSON, without NUL characters in its texts."""

from __future__ import annotations

from typing import Any

from django.http import HttpRequest
from ninja.parser import Parser

from hub.nul import without_nul
from registry.errors import Invalid


class HubParser(Parser):
    def parse_body(self, request: HttpRequest) -> dict[str, Any]:
        """Raises Invalid when a text in the body contains a NUL."""
        body = super().parse_body(request)
        if b"\\u0000" in request.body and without_nul(body) != body:
            raise Invalid("A text in the body contains a NUL character (\\u0000); leave it out.")
        return body
