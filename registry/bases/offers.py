"""A model that could become a base model: on a model hub, or on this machine."""

from __future__ import annotations

import hashlib
import re
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from django.conf import settings

from backends import get_backend
from backends.base import BackendError, Prospect

HUB = "Model hub"


@dataclass(frozen=True)
class Offer:
    """`place` says where it is, `title` what it is called there. `size_bytes` is what is downloaded
    or read, 0 where that is not known. Without a `prospect`, `why` says in a sentence why it cannot
    be used, or that it is not known yet; `reading` that it will be soon."""

    place: str
    title: str
    kind: str  # of BaseModel.Source
    prospect: Prospect | None = None
    why: str = ""
    size_bytes: int = 0
    licence: str = ""
    downloads: int = 0
    gated: bool = False
    path: Path | None = None
    reading: bool = False

    @property
    def key(self) -> str:
        """By which a client names it, instead of by a path."""
        return hashlib.sha256(f"{self.place}\n{self.path or self.title}".encode()).hexdigest()[:16]

    @property
    def name(self) -> str:
        """What the base model may be called."""
        stem = self.title.rpartition("/")[2].removesuffix(".gguf")
        return re.sub(r"[^A-Za-z0-9._-]+", "-", stem).strip("-._")[:100] or "model"

    @property
    def origin(self) -> str:
        """What the row of its import would say about where it came from."""
        return str(self.path) if self.path else self.title


def foreseen(offer: Offer, config: Mapping[str, Any], nbytes: int, parameters: int = 0) -> Offer:
    """The offer with what its config.json says of it, or why it cannot be used here."""
    try:
        found = get_backend(settings.BACKEND).foresee(config)
    except BackendError as error:
        return replace(offer, why=str(error))
    except (TypeError, ValueError, AttributeError, RecursionError):
        return replace(offer, why="Its config.json is not one that can be read.")
    count = parameters or counted(found, nbytes)
    return replace(offer, prospect=replace(found, nbytes=nbytes, parameters=count))


def foreseen_gguf(offer: Offer, path: Path) -> Offer:
    """The same for a GGUF file, by its header."""
    try:
        found = get_backend(settings.BACKEND).foresee_gguf(path)
    except (BackendError, OSError, MemoryError) as error:
        return replace(offer, why=str(error) or "It cannot be read.")
    return replace(offer, prospect=found)


def counted(prospect: Prospect, nbytes: int) -> int:
    """About how many parameters weights of so many bytes are."""
    found = re.match(r"(\d+)-bit \(group (\d+)(, float32)?\)", prospect.quantization)
    if found:
        bits, group = int(found[1]), max(1, int(found[2]))
        pair = 8 if found[3] else 4  # bytes of a scale and a bias for each group
        return int(nbytes / (bits / 8 + pair / group))
    return nbytes // (4 if prospect.quantization == "float32" else 2)


def together[T](calls: Sequence[Callable[[], T]], until: float) -> list[T | Exception | None]:
    """What each call gives or raises; None of one that is not done at `until` (`time.monotonic`). It
    is left to itself: what it keeps is there the next time."""
    results: list[T | Exception | None] = [None] * len(calls)

    def run(place: int, call: Callable[[], T]) -> None:
        try:
            results[place] = call()
        except Exception as error:
            results[place] = error

    threads = [threading.Thread(target=run, args=pair, daemon=True) for pair in enumerate(calls)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(max(0.0, until - time.monotonic()))
    return list(results)
