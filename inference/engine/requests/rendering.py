"""A limit on how long a model's chat template may take.

A template is a program that came with a model, and the sandbox that it runs in does not keep it
from looping forever. It runs on the generation thread, so all answers would stop. Another thread
checks the time now and then and raises an exception inside the template.
"""

from __future__ import annotations

import ctypes
import threading
import time
from collections.abc import Callable

from backends.base import BackendError

LIMIT_S = 20.0
LOOK_EVERY_S = 0.5


class TemplateTooSlow(BackendError):
    """Made by the interpreter, without arguments."""

    def __init__(self) -> None:
        super().__init__(
            f"The model's chat template did not finish within {LIMIT_S:g} s on these "
            "messages; use another model."
        )


class Rendering:
    """What one thread renders now. It costs that thread two assignments."""

    def __init__(self) -> None:
        self._started: float | None = None
        self._thread = 0

    def limited[T](self, render: Callable[[], T]) -> T:
        """What `render` gives. Raises TemplateTooSlow."""
        self._thread = threading.get_ident()
        self._started = time.monotonic()
        try:
            return render()
        finally:
            self._started = None

    def look(self) -> None:
        """End what takes too long; for any other thread. If it finishes in the very moment between
        the check and the exception, the exception ends the engine instead, which then restarts."""
        started = self._started
        if started is not None and time.monotonic() - started > LIMIT_S:
            self._started = None
            ctypes.pythonapi.PyThreadState_SetAsyncExc(
                ctypes.c_ulong(self._thread), ctypes.py_object(TemplateTooSlow)
            )
