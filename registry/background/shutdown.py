"""Whether this process is shutting down. Loops and streams without an end check it and stop."""

from __future__ import annotations

import threading

requested = threading.Event()
