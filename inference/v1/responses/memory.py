"""The items of the last answers, for clients that send `item_reference` in their place, as Vercel's
AI SDK does unless it sends `store: false`. In the memory of the web process, never on disk."""

from __future__ import annotations

import json
from collections import OrderedDict
from collections.abc import Iterable
from typing import Any

from inference.models import ApiToken

KEPT_CHARACTERS = 16_000_000


class Memory:
    """Holds up to `most` characters; what was not used for the longest time goes first."""

    def __init__(self, most: int = KEPT_CHARACTERS) -> None:
        self._most = most
        self._items: OrderedDict[tuple[str, int | None], str] = OrderedDict()
        self._held = 0

    def keep(self, items: Iterable[dict[str, Any]], token: ApiToken | None) -> None:
        """For requests with the same key alone."""
        for item in items:
            text = json.dumps(item)
            self._items[item["id"], token.pk if token else None] = text
            self._held += len(text)
        while self._held > self._most:
            _, text = self._items.popitem(last=False)
            self._held -= len(text)

    def find(self, id: str, token: ApiToken | None) -> dict[str, Any] | None:
        key = id, token.pk if token else None
        if key not in self._items:
            return None
        self._items.move_to_end(key)
        found: dict[str, Any] = json.loads(self._items[key])
        return found


memory = Memory()
