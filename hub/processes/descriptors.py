"""How many files and sockets a process may have open: each stream takes two in the web process.

macOS starts programs with 256, and what `up` raises, its processes inherit.
"""

from __future__ import annotations

import resource

WANTED = 10_240  # macOS's own most for a process that does not ask for "unlimited"
ENOUGH = (
    1_200  # for 500 streams, each with a socket to its client and one to the engine, and the rest
)


def raise_limit() -> int:
    """Raise the soft limit as far as the hard one lets; returns what it is now."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = WANTED if hard == resource.RLIM_INFINITY else min(WANTED, hard)
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return WANTED if soft == resource.RLIM_INFINITY else soft
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    except (OSError, ValueError):  # a system whose own limit is lower
        return soft
    return wanted
