"""Whether this process has been told to end. What would go on for ever looks here and stops."""

from __future__ import annotations

import threading

begun = threading.Event()
