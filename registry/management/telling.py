"""How commands tell a person what the registry refused."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from django.core.management.base import CommandError

from registry.errors import HubError


@contextmanager
def told() -> Iterator[None]:
    """The registry's sentence alone, without a traceback, and an exit status of 1."""
    try:
        yield
    except HubError as error:
        raise CommandError(str(error)) from None
