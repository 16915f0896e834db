"""Creating and limiting API keys, for pages, API and commands alike."""

from __future__ import annotations

from collections.abc import Iterable

from django.db import IntegrityError, transaction
from django.http import HttpRequest

from inference.models import ApiToken
from registry.audit import Action, audit
from registry.errors import Conflict, Forbidden, Invalid


def require_scope(request: HttpRequest, scope: str) -> None:
    """Raises Forbidden when a signed-in user may not make a key of this scope: it could do what
    they cannot, so that only superusers make keys that do more than generate text."""
    user = getattr(request, "user", None)
    if scope == ApiToken.Scope.INFERENCE or getattr(request, "token", None) is not None:
        return
    if user is not None and user.is_authenticated and not user.is_superuser:
        raise Forbidden(f"Only a superuser creates keys with the scope {scope}.")


def issue_key(
    name: str, scope: str, max_running: int | None = None, max_waiting: int | None = None
) -> tuple[ApiToken, str]:
    """The row, and the text that is shown this once. Raises Invalid and Conflict."""
    name = name.strip()
    if not 0 < len(name) <= 100:
        raise Invalid("name: use 1 to 100 characters.")
    if scope not in ApiToken.Scope.values:
        raise Invalid(f"scope: choose one of {', '.join(ApiToken.Scope.values)}.")
    _check(max_running, max_waiting)
    try:
        with transaction.atomic():
            row, text = ApiToken.issue(
                name, scope, max_running=max_running, max_waiting=max_waiting
            )
            audit(Action.KEY_CREATED, row, f"{row.prefix}…, scope {row.scope}")
    except IntegrityError as error:
        raise Conflict(f"There is already a key named {name}; choose another name.") from error
    return row, text


def limit_key(key: ApiToken, max_running: int | None, max_waiting: int | None) -> ApiToken:
    """Replace its limits; None is no limit. Raises Invalid."""
    _check(max_running, max_waiting)
    key.max_running, key.max_waiting = max_running, max_waiting
    with transaction.atomic():
        key.save(update_fields=["max_running", "max_waiting"])
        audit(Action.KEY_CHANGED, key, _limits(key))
    return key


def revoke_key(key: ApiToken) -> None:
    """Refuse the key from now on; doing so again keeps the first moment and is not recorded."""
    with transaction.atomic():
        if key.revoke():
            audit(Action.KEY_REVOKED, key, f"{key.prefix}…")


def delete_key(key: ApiToken) -> None:
    """Remove the key with its row."""
    with transaction.atomic():
        audit(Action.KEY_REVOKED, key, f"{key.prefix}…, deleted")
        key.delete()


def change_key(key: ApiToken, names: Iterable[str]) -> None:
    """Save a key of which these fields were changed."""
    with transaction.atomic():
        key.save()
        audit(Action.KEY_CHANGED, key, ", ".join(f"{name}: {getattr(key, name)}" for name in names))


def _limits(key: ApiToken) -> str:
    at_once, waiting = (
        "no limit" if limit is None else limit for limit in (key.max_running, key.max_waiting)
    )
    return f"At once: {at_once}; waiting: {waiting}"


def _check(max_running: int | None, max_waiting: int | None) -> None:
    if max_running is not None and not 1 <= max_running <= 10_000:
        raise Invalid("max_running: use 1 to 10000, or leave it empty for no limit.")
    if max_waiting is not None and not 0 <= max_waiting <= 10_000:
        raise Invalid("max_waiting: use 0 to 10000, or leave it empty for no limit.")
