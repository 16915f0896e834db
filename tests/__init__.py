"""The tests. What every process of theirs needs before it imports anything else is set here."""

import contextlib
import os
import shutil
import sys
from pathlib import Path

import certifi

CACHE = Path(__file__).resolve().parent.parent / ".pytest_cache"

if sys.dont_write_bytecode:
    # Each of the many processes that tests start would compile all that it imports, which takes
    # longer than the rest of its start. Bytecode unwanted beside the sources is kept here.
    sys.dont_write_bytecode = False
    sys.pycache_prefix = str(CACHE / "bytecode")
    os.environ["PYTHONPYCACHEPREFIX"] = sys.pycache_prefix
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)

# As manage.py sets it, for processes that are started otherwise.
os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")

# Each new HTTP client reads the certificates of all authorities, which takes twenty times as long as a
# request to this machine; and tests ask no other one. One certificate does.
_authority = CACHE / "authority.pem"
if not _authority.exists():
    CACHE.mkdir(exist_ok=True)
    _whole = _authority.with_suffix(f".{os.getpid()}")
    _end = "-----END CERTIFICATE-----\n"
    _whole.write_text(Path(certifi.where()).read_text().partition(_end)[0] + _end)
    _whole.rename(_authority)
os.environ["SSL_CERT_FILE"] = str(_authority)

if sys.platform == "linux":
    # MLX hands each operation to a thread of its own. Where all cores are busy, the system let that
    # thread take the core at once and gave it back for the next operation: a fifth of the processor
    # time. Now it waits until the one that computes does; and so does all that a test starts.
    with contextlib.suppress(PermissionError):  # of a sandbox
        os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))

MEMORY = "/dev/shm"  # a folder in memory, where the system has one
if Path(MEMORY).is_dir() and shutil.disk_usage(MEMORY).free > 8 << 30:
    os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", MEMORY)  # some 70,000 folders come and go
