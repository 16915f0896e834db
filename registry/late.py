"""Modules that take long to import or much memory, and that most processes never ask for anything."""

from __future__ import annotations

import importlib
from typing import Any


class Late:
    """Stands for the module `name`, which is imported at its first use:

    if TYPE_CHECKING:
        import numpy as np
    else:
        np = Late("numpy")
    """

    def __init__(self, name: str) -> None:
        self._name = name

    def __getattr__(self, attribute: str) -> Any:
        return getattr(importlib.import_module(self._name), attribute)
