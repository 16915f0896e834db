"""Whether a request comes from somebody at this machine."""

from __future__ import annotations

import ipaddress

from django.conf import settings
from django.http import HttpRequest

from registry.errors import Forbidden


def at_the_machine(request: HttpRequest) -> None:
    """Raises Forbidden unless the hub listens on loopback alone and the request came straight from
    there, not through a proxy."""
    forwarded = {"HTTP_FORWARDED", "HTTP_X_FORWARDED_FOR", "HTTP_X_REAL_IP"} & request.META.keys()
    if not settings.IS_LOOPBACK or forwarded or not _is_loopback(request.META.get("REMOTE_ADDR")):
        raise Forbidden(
            "Folders of this machine are shown only at the machine itself. Send the files instead, or "
            "run `import_base PATH` there."
        )


def _is_loopback(address: str | None) -> bool:
    try:
        return ipaddress.ip_address(address or "").is_loopback
    except ValueError:
        return False
