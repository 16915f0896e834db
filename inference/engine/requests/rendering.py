"""A limit on how long a model's chat template may take.

A template is a program that came with a model, and the sandbox that it runs in does not keep it
from looping for ever. It runs on the generation thread, so nobody would be answered any more.
Another thread looks at the time now and then and raises an exception inside the template.
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
            f"The model's chat template did not come to an end within {LIMIT_S:g} s on these "
            "messages; ask another model."
        )


class Rendering:
    """What one thread renders now. It costs that thread two assignments."""

    def __init__(self) -> None:
        self._began: float | None = None
        self._thread = 0

    def limited[T](self, render: Callable[[], T]) -> T:
        """What `render` gives. Raises TemplateTooSlow."""
        self._thread = threading.get_ident()
        self._began = time.monotonic()
        try:
            return render()
        finally:
            self._began = None

    def look(self) -> None:
        """End what takes too long; for any other thread. Should it come to an end in the very
        moment between the look and the exception, the exception ends the engine instead, which is
        started again."""
        began = self._began
        if began is not None and time.monotonic() - began > LIMIT_S:
            self._began = None
            ctypes.pythonapi.PyThreadState_SetAsyncExc(
                ctypes.c_ulong(self._thread), ctypes.py_object(TemplateTooSlow)
            )
