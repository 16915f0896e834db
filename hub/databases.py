"""A database's address as Django's settings for it."""

from __future__ import annotations

from typing import Any

import dj_database_url

from hub.config import config
from hub.sqlite import pragmas

# IMMEDIATE takes the write lock when a transaction begins, so that a write after a read in the same
# transaction cannot fail with "database is locked".
_SQLITE = {
    "ENGINE": "hub.sqlite",
    "NAME": config.storage / "hub.sqlite3",
    "OPTIONS": {
        "transaction_mode": "IMMEDIATE",
        "timeout": 20,
        "init_command": pragmas(),
    },
}

# A server that is cut off says nothing: libpq alone would wait for minutes, or for ever. What the address
# says (`?connect_timeout=10`) comes first.
_CUT_OFF = {
    "connect_timeout": 3,
    "keepalives_idle": 30,
    "keepalives_interval": 10,
    "keepalives_count": 3,
    "tcp_user_timeout": 30_000,
}


def settings_for(url: str) -> dict[str, Any]:
    """`postgres://…` or `sqlite:///PATH`; empty is SQLite in storage."""
    if not url or url.startswith("sqlite"):
        name = url.removeprefix("sqlite:///")
        return {**_SQLITE, **({"NAME": name} if name else {})}
    parsed = dj_database_url.parse(url, engine="hub.postgresql")
    options = {**_CUT_OFF, **parsed.get("OPTIONS", {})}
    return {**parsed, "OPTIONS": options, "CONN_HEALTH_CHECKS": True}
