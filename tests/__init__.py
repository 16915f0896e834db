"""The tests. What every process of theirs needs before it imports anything else is set here."""

import os
import shutil
import sys
from pathlib import Path

if sys.dont_write_bytecode:
    # Each of the many processes that tests start would compile all that it imports, which takes
    # longer than the rest of its start. Bytecode unwanted beside the sources is kept here.
    sys.dont_write_bytecode = False
    sys.pycache_prefix = str(Path(__file__).resolve().parent.parent / ".pytest_cache" / "bytecode")
    os.environ["PYTHONPYCACHEPREFIX"] = sys.pycache_prefix
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)

MEMORY = "/dev/shm"  # a folder in memory, where the system has one
if Path(MEMORY).is_dir() and shutil.disk_usage(MEMORY).free > 8 << 30:
    os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", MEMORY)  # some 70,000 folders come and go
