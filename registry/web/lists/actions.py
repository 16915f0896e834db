"""What can be done with the rows of a list."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from django.db.models import Model


def _nothing(row: Any) -> str:
    return ""


@dataclass(frozen=True)
class Action[T: Model]:
    """Something to do with rows. `name` ends its address; what is called `delete` or `revoke` needs
    the permission to delete."""

    name: str
    label: str
    done: str = ""
    """What a row is afterwards, such as `cancelled`."""
    effect: str = ""
    """What happens, for the question before it: one sentence."""
    do: Callable[[T], object] | None = None
    """Does it with one row; raises HubError. A text that it returns says what could not be done
    with a part of it."""
    go: Callable[[Sequence[T]], str] | None = None
    """Or: the address that shows the rows together. Nothing is changed, so nothing is asked."""
    refuses: Callable[[T], str] = _nothing
    """Why it can't be done with that row, as far as that is known before; "" where it can."""
    danger: bool = False
    only_many: bool = False
    """Whether it makes no sense with one row."""
