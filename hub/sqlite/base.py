"""Django's SQLite backend, for a driver that may be pysqlite3.

pysqlite3 follows the standard module but for `Connection.getlimit`, which Django asks for the
largest number of parameters of a query.
"""

from __future__ import annotations

from django.db.backends.sqlite3 import base, features


class DatabaseFeatures(features.DatabaseFeatures):
    max_query_params = 32766  # SQLite's own default since 3.32


class DatabaseWrapper(base.DatabaseWrapper):
    features_class = DatabaseFeatures
