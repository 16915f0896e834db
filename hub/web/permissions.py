"""What a signed-in user may do beyond loopback: Django's permissions, by one rule for every path.

Each path is about one table. Reading it needs that table's `view` permission; writing needs `add`
where something new is made, `delete` where something goes, else `change`. A path of no table is
for superusers alone. The admin asks for the same permissions itself.
"""

from __future__ import annotations

import re

SAFE = frozenset({"GET", "HEAD", "OPTIONS", "TRACE"})

_TABLES: tuple[tuple[str, str, str], ...] = (  # path, app, table; the first that fits decides
    (r"/api/keys|/system/keys/", "inference", "apitoken"),
    (r"/api/audit|/system/audit/", "registry", "auditentry"),
    (r"/api/feedback|/(api/)?requests/([^/]+/)?feedback", "inference", "feedback"),
    (r"/api/replays|/requests/(replays/|[^/]+/replay/)", "inference", "replay"),
    (r"/api/requests|/requests/([^/]+/)?$", "inference", "inferencerequest"),
    (r"/api/client-checks|/models/[0-9]+/[0-9.]+/clients/|/bases/[0-9]+/clients/", "inference", "clientcheck"),
    (r"/api/playground|/playground/conversations/", "inference", "conversation"),
    (r"/api/inference/(models|memory)|/system/models/", "registry", "basemodel"),  # what stays loaded
    (r"/v1/|/ollama/|/api/inference|/ws/inference|/playground/", "inference", "inferencerequest"),
    (r"/api/models/[^/]+/(aliases|moves|rules)|/models/[^/]+/(alias|rules)/", "registry", "alias"),
    (r"/(api/)?models/[^/]+/versions/[^/]+/reproduce|/models/[^/]+/[^/]+/reproduce/", "training", "trainingjob"),
    (r"/api/models/[^/]+/versions|/models/[0-9]+/([0-9.]+|selected)/|/(api/)?compare", "registry", "modelversion"),
    (r"/api/bundles|/models/import/", "registry", "modelversion"),
    (r"/(api/)?models", "registry", "model"),
    (r"/(api/)?bases", "registry", "basemodel"),
    (r"/(api/)?datasets", "registry", "dataset"),
    (r"/(api/)?training", "training", "trainingjob"),
    (r"/start/", "training", "setup"),
    (r"/$|/system/|/metrics$|/api/storage", "hub", "systemsample"),
)  # fmt: skip
_MAKES = re.compile(
    r"/(keys|(?<!inference/)models|datasets|bases|jobs|sweeps|bundles|replays|client-checks|clients|conversations|presets|feedback|examples|replay|imports|rules"
    r"|new|import|starter|reproduce|clone|quantize|fuse|exports|bases/uploads|bases/new/(here|folder))/?$"
    r"|^/(start/|v1/|ollama/|api/inference(/stream|/embeddings)?$|ws/inference)"
)
_REMOVES = re.compile(r"/(delete|remove|revoke)/$")


def needed(method: str, path: str) -> str | None:
    """The permission that a request needs, as Django names it; None where no table is meant."""
    for pattern, app, table in _TABLES:
        if re.match(pattern, path):
            return f"{app}.{_action(method, path)}_{table}"
    return "" if path in _FOR_ALL else None


_FOR_ALL = frozenset(
    {"/find/", "/api/docs", "/api/openapi.json", "/api/", "/v1/docs", "/v1/openapi.json"}
)


def _action(method: str, path: str) -> str:
    if method in SAFE and not path.startswith("/ws/"):
        return "view"
    if method == "DELETE" or _REMOVES.search(path):
        return "delete"
    return "add" if _MAKES.search(path) else "change"


def allows(user: object, method: str, path: str) -> bool:
    """Whether this signed-in user may do that: active, staff, and permitted."""
    if not (getattr(user, "is_active", False) and getattr(user, "is_staff", False)):
        return False
    if getattr(user, "is_superuser", False):
        return True
    permission = needed(method, path)
    return permission == "" or (permission is not None and user.has_perm(permission))  # type: ignore[attr-defined]
