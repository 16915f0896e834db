"""Django's PostgreSQL backend, without NUL characters, and with a pool that waits no longer than people
do."""

from __future__ import annotations

from typing import Any

import psycopg
from django.db.backends.postgresql import base, operations

from hub.nul import NoNulOperations, NoNulWrapper
from hub.postgresql import patience

_MOST = 80
_LOCK_MS = 4000


class DatabaseOperations(NoNulOperations, operations.DatabaseOperations):
    pass


class DatabaseWrapper(NoNulWrapper, base.DatabaseWrapper):
    ops_class = DatabaseOperations

    def keep_connections(self) -> None:
        """Keep connections between requests. Each request runs in its own thread, so Django would open
        a connection for each, and a new connection plans slowly (8 ms a page, 2026-11-24). The maximum
        is PostgreSQL's default limit minus the other processes' connections, since a stream may hold
        its connection until it ends. Nobody waits long for a row that another process has locked."""
        self.settings_dict["OPTIONS"].setdefault("options", f"-c lock_timeout={_LOCK_MS}")
        options = patience.pool_options(self.get_connection_params, _MOST)
        self.settings_dict["OPTIONS"]["pool"] = options

    def get_new_connection(self, conn_params: dict[str, Any]) -> Any:
        if not self.pool:
            return super().get_new_connection(conn_params)
        patience.refuse_while_away()
        try:
            return super().get_new_connection(conn_params)
        except psycopg.OperationalError:
            patience.note_failure()
            raise
