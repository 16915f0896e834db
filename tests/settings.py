"""The hub's settings for tests: storage of their own, the fake backend, no `.env`.

tests/databases.py repeats on PostgreSQL what a database decides.
"""

import atexit
import os
import shutil
import tempfile

_storage = tempfile.mkdtemp(prefix="hub-tests-")
atexit.register(shutil.rmtree, _storage, ignore_errors=True)
os.environ.update(HUB_STORAGE=_storage, HUB_BACKEND="fake", HUB_ENV_FILE=os.devnull)
for _name in ("MLFLOW_TRACKING_URI", "OTEL_EXPORTER_OTLP_ENDPOINT", "HUB_HOST", "HUB_DEBUG"):
    os.environ.pop(_name, None)

from hub.settings import *  # noqa: E402, F403
from hub.settings import DATABASES  # noqa: E402

if DATABASES["default"]["ENGINE"] == "hub.sqlite":
    # A file, not memory: threads then have connections of their own, as in production.
    DATABASES["default"]["TEST"] = {"NAME": f"{_storage}/test.sqlite3"}
    DATABASES["default"]["OPTIONS"]["init_command"] += "PRAGMA synchronous=OFF;"  # as os.fsync
WHITENOISE_AUTOREFRESH = (
    True  # each test's client would list all static files before its first request
)
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
