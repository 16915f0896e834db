"""Who does something, as the history names them."""

from __future__ import annotations

from django.http import HttpRequest

from registry.audit import Kind, Who

COMMAND_LINE = "command line"


def who(request: HttpRequest) -> str:
    """The API token's name, else the user's; empty for anybody at the machine itself."""
    token = getattr(request, "token", None)
    if token is not None:
        return str(token)
    user = getattr(request, "user", None)  # API requests under test have no session
    return user.get_username() if user is not None and user.is_authenticated else ""


def actor(request: HttpRequest) -> Who:
    """The same for the audit log, with what kind of name it is."""
    name = who(request)
    if getattr(request, "token", None) is not None:
        return Kind.KEY, name
    return (Kind.SESSION, name) if name else (Kind.MACHINE, "")
