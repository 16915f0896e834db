"""Tokens and sessions: who may use the hub from other machines."""

from __future__ import annotations

import hashlib
from time import monotonic

from django.conf import settings
from django.contrib.auth.views import redirect_to_login
from django.db import InterfaceError, OperationalError
from django.http import HttpRequest, HttpResponseBase
from django.shortcuts import resolve_url

from hub.web import permissions
from hub.web.refusal import is_api, refusal
from inference.models import ApiToken
from registry.commands import typed

_INFERENCE = ("/v1/", "/ollama/", "/api/inference", "/metrics", "/ws/inference")
_ADMIN = ("/api/keys", "/system/keys/", "/api/settings", "/settings/", "/first-account/")
_MODELS = "/api/inference/models"  # an inference key may not decide what stays in memory

_SCRAPE_HELD_S = 3600.0
_scrapes: dict[bytes, float] = {}
"""When keys that exist were last used for `/metrics`, by digest."""


def is_open(path: str) -> bool:
    """Whether a path needs no token: /health has no secrets, and the admin has its own login."""
    return path == "/health" or path.startswith("/admin/")


def allows(token: ApiToken, path: str, method: str = "GET") -> bool:
    """Whether the token's scope covers this path."""
    if token.scope == ApiToken.Scope.ADMIN:
        return True
    if token.scope == ApiToken.Scope.MANAGE:
        return not path.startswith(_ADMIN)
    reads = method in ("GET", "HEAD", "OPTIONS")
    return path.startswith(_INFERENCE) and (reads or not path.startswith(_MODELS))


def bearer(authorization: str) -> str:
    """The token in an Authorization header, or an empty text."""
    scheme, _, text = authorization.partition(" ")
    return text.strip() if scheme.lower() == "bearer" else ""


def sent_token(request: HttpRequest) -> str:
    """The token: a Bearer token, or x-api-key as Anthropic's clients send it."""
    headers = request.headers
    return bearer(headers.get("Authorization", "")) or headers.get("x-api-key", "").strip()


def needs_no_check(request: HttpRequest) -> bool:
    """Whether no look-up is needed: the path is open to all, and no token of ours was sent."""
    if not (settings.IS_LOOPBACK or is_open(request.path)):
        return False
    return not sent_token(request).startswith(ApiToken.PREFIX)


def check(request: HttpRequest) -> HttpResponseBase | None:
    """Attach `request.token`; returns a refusal if access is denied. Reads the database."""
    text = sent_token(request)
    try:
        token = ApiToken.authenticate(text) if text else None
    except (OperationalError, InterfaceError):
        if request.path != "/metrics" or not _scraped_lately(text):
            raise
        request.token = None  # type: ignore[attr-defined]
        return None
    request.token = token  # type: ignore[attr-defined]
    if token is not None:
        allowed = is_open(request.path) or allows(token, request.path, request.method or "")
        if allowed and request.path == "/metrics":
            _scrapes[_digest(text)] = monotonic()
        return None if allowed else _refuse_scope(request, token)
    # An OpenAI client always sends some key: on loopback any text will do.
    if settings.IS_LOOPBACK or is_open(request.path):
        return None
    if not text and request.user.is_authenticated:
        if permissions.allows(request.user, request.method or "", request.path):
            return None
        return _refuse_user(request)
    if is_api(request) or text or request.path == "/metrics":
        return refusal(
            request,
            401,
            "invalid_token" if text else "token_required",
            "This needs a valid API key (Authorization: Bearer …). An administrator can create one "
            f"on the page System › API keys or with `{typed('create_token NAME')}`.",
        )
    return redirect_to_login(request.get_full_path(), resolve_url("admin:login"))


def _scraped_lately(text: str) -> bool:
    """Whether this key was good for `/metrics` within the hour: an alarm about the database has to be read
    while the database, which knows the keys, is away."""
    return monotonic() - _scrapes.get(_digest(text), float("-inf")) < _SCRAPE_HELD_S


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode()).digest()


def _refuse_user(request: HttpRequest) -> HttpResponseBase:
    permission = permissions.needed(request.method or "", request.path)
    return refusal(
        request,
        403,
        "permission",
        f"{request.user.get_username()} may not do this: it needs "
        f"{f'the permission {permission} and staff status' if permission else 'a superuser'}.",
    )


def locked_out(request: HttpRequest, *_: object, **__: object) -> HttpResponseBase:
    """The answer to a sign-in after too many that failed (django-axes)."""
    minutes = int(settings.AXES_COOLOFF_TIME.total_seconds() // 60)
    return refusal(
        request,
        429,
        "too_many_sign_ins",
        f"Too many sign-ins failed; try again in {minutes} minutes, or reset the count at the "
        f"machine with `{typed('axes_reset')}`.",
        retry_after=60 * minutes,
    )


def _refuse_scope(request: HttpRequest, token: ApiToken) -> HttpResponseBase:
    scopes = ApiToken.Scope
    needed = scopes.ADMIN if request.path.startswith(_ADMIN) else scopes.MANAGE
    return refusal(
        request,
        403,
        "scope",
        f"The key {token.name} has the scope {token.scope}, which does not allow this; use a key "
        f"with the scope {needed}.",
    )
