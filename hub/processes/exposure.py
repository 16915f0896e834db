"""Whether the hub may listen on an address that other machines can reach."""

from __future__ import annotations

from hub.config import COMMAND, Config
from inference.models import ApiToken


def problem(config: Config) -> str | None:
    """Why the hub must not listen on `config.host`, or None. Reads the database."""
    if config.is_loopback or ApiToken.objects.filter(revoked_at=None).exists():
        return None
    return (
        f"HUB_HOST is {config.host}, which other machines can reach, but there is no API token yet. "
        f"Create one first with `{COMMAND} create_token NAME`."
    )
