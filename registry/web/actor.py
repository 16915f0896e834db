"""Who does something, as the history names them."""

from __future__ import annotations

from django.http import HttpRequest

COMMAND_LINE = "command line"


def who(request: HttpRequest) -> str:
    """The API token's name, else the user's; empty for anybody at the machine itself."""
    token = getattr(request, "token", None)
    if token is not None:
        return str(token)
    user = getattr(request, "user", None)  # API requests under test have no session
    return user.get_username() if user is not None and user.is_authenticated else ""
