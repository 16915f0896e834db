"""Ending a thread that has used MLX.

MLX's streams belong to the thread that made them, and a process that exits while such a
thread has left streams behind sometimes aborts (8 of 20 exits, MLX 0.32.4 on Linux). Clearing them
is final for the thread, so it must not happen when one of several models closes.
"""

from __future__ import annotations

import atexit
import threading

import mlx.core as mx

_local = threading.local()


def clear_streams_at_end() -> None:
    """Clear the calling thread's MLX streams when the thread ends; later calls do nothing."""
    if hasattr(_local, "end"):
        return
    if threading.current_thread() is threading.main_thread():
        # The main thread's local values outlive the interpreter's orderly part.
        atexit.register(_clear)
        _local.end = None
    else:
        _local.end = _ClearedWithThread()


class _ClearedWithThread:
    """Python deletes a thread's local values in that thread, as the last thing it does."""

    def __del__(self) -> None:
        _clear()


def _clear() -> None:
    mx.synchronize()
    mx.clear_streams()
