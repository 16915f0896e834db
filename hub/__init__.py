"""The Django project: configuration, process supervision, dashboard, sampling."""

import sys

# Debian, Ubuntu and python.org ship SQLite versions that can corrupt a WAL database when a reset
# races with a write (fixed in 3.51.3); the pysqlite3 wheel brings a newer library under the same API.
# This must happen before Django imports sqlite3.
try:
    import pysqlite3
except ImportError:
    pass
else:
    sys.modules["sqlite3"] = pysqlite3
    sys.modules["sqlite3.dbapi2"] = pysqlite3.dbapi2
