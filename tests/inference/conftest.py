"""Fixtures: the real processes, and the database for asynchronous tests."""

from collections.abc import AsyncIterator, Iterator

import pytest
from asgiref.sync import sync_to_async
from django.db import connections

from tests.inference.processes import Hub, own_database, wait_for


@pytest.fixture(scope="session")
def processes(tmp_path_factory: pytest.TempPathFactory, database: str) -> Iterator[Hub]:
    with own_database() as database_url:
        hub = Hub(tmp_path_factory.mktemp("hub") / "storage", database_url)
        try:
            hub.seed()
            hub.start_web()
            hub.start_engine()
            yield hub
        finally:
            hub.stop()


@pytest.fixture
def hub(processes: Hub) -> Hub:
    """Those processes, with nothing left to answer of the test before."""
    wait_for(lambda: processes.stats().get("running") == 0)
    return processes


@pytest.fixture
async def db_in_threads(transactional_db: None) -> AsyncIterator[None]:
    """Asynchronous code uses the database in a thread: the rows must be committed, and the
    thread's connections must end before the test database can be dropped."""
    yield
    await sync_to_async(connections.close_all)()
