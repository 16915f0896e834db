"""Django's PostgreSQL backend, without NUL characters."""

from __future__ import annotations

from django.db.backends.postgresql import base, operations

from hub.nul import NoNulOperations, NoNulWrapper


class DatabaseOperations(NoNulOperations, operations.DatabaseOperations):
    pass


class DatabaseWrapper(NoNulWrapper, base.DatabaseWrapper):
    ops_class = DatabaseOperations
