"""Fixtures for the hub's own tests."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from asgiref.sync import sync_to_async
from django.db import connections


@pytest.fixture
async def closed_connections() -> AsyncIterator[None]:
    """Closes what `sync_to_async` opened on its thread: PostgreSQL would keep the test database
    from being dropped."""
    yield
    await sync_to_async(connections.close_all)()
