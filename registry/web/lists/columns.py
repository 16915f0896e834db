"""Columns that several lists have. Where one differs in a list, `dataclasses.replace` says in what."""

from __future__ import annotations

from django.db.models.functions import Lower

from registry.web.lists.keyset import Order
from registry.web.lists.listing import Column

NEWEST = Order(("-created_at", "-pk"))

NAME = Column("name", "Name", kind="wrap", order=Order((Lower("name").asc(), "pk")))
WHEN = Column("when", "When", kind="fit", order=NEWEST)
STATUS = Column("status", "Status", phone="end")
MODEL = Column("model", "Model", kind="wrap", phone="line")
DATASET = Column("dataset", "Data set", "brief", kind="wrap", phone="line")
SIZE = Column("size_bytes", "Size", "size", kind="n")


def created(
    label: str, sort: str = "new", phone: str = "line", shown: bool = True, room: bool = False
) -> Column:
    """When a row was made, in the word for rows of its kind; the newest come first."""
    return Column(
        "created_at",
        label,
        "ago",
        kind="fit",
        phone=phone,
        order=NEWEST,
        sort=sort,
        shown=shown,
        room=room,
    )
