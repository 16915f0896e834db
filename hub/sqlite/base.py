"""Django's SQLite backend, for a driver that may be pysqlite3.

pysqlite3 follows the standard module but for `Connection.getlimit`, which Django asks for the
largest number of parameters of a query.
"""

from __future__ import annotations

from django.db.backends.sqlite3 import base, features, operations

from hub.nul import NoNulOperations, NoNulWrapper


class DatabaseFeatures(features.DatabaseFeatures):
    max_query_params = 32766  # SQLite's own default since 3.32


class DatabaseOperations(NoNulOperations, operations.DatabaseOperations):
    pass


class DatabaseWrapper(NoNulWrapper, base.DatabaseWrapper):
    features_class = DatabaseFeatures
    ops_class = DatabaseOperations
