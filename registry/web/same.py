"""What a form does, as a call of the JSON API and as a command: for whoever wants to repeat it."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from django.conf import settings
from django.http import HttpRequest

from registry.commands import typed

KEY_VARIABLE = "HUB_API_KEY"


@dataclass(frozen=True)
class Same:
    """Both for a POSIX shell; the command is empty where there is none."""

    api: str
    command: str


def call(request: HttpRequest, path: str, body: Mapping[str, Any] | None, *more: str) -> str:
    """A POST as curl sends it: `body` as JSON, and `more` options."""
    options = list(more)
    if body is not None:
        options += ["-H 'Content-Type: application/json'"]
        options += [f"-d {shlex.quote(json.dumps(body, indent=2, ensure_ascii=False))}"]
    if not settings.IS_LOOPBACK:
        options.insert(0, f'-H "Authorization: Bearer ${KEY_VARIABLE}"')
    address = shlex.quote(f"{request.scheme}://{request.get_host()}{path}")
    return " \\\n  ".join([f"curl -X POST {address}", *options])


def fetched(request: HttpRequest, path: str) -> str:
    """A GET as curl sends it."""
    return call(request, path, None).replace("curl -X POST", "curl", 1)


def command(*words: str) -> str:
    """A command of the hub, with its words quoted where that is necessary."""
    return typed(" ".join(map(shlex.quote, words)))


def alias_moved(
    request: HttpRequest, model: Any, alias: str, version: str, reason: str, force: bool
) -> Same:
    """The same as the form that promotes a version."""
    body: dict[str, Any] = {"version": version}
    body |= {"reason": reason} if reason else {}
    body |= {"force": True} if force else {}
    more = [*(["--reason", reason] if reason else []), *(["--force"] if force else [])]
    return Same(
        call(request, f"/api/models/{model.pk}/aliases/{alias}", body),
        command("move_alias", model.name, alias, version, *more),
    )


def dataset_registered(
    request: HttpRequest,
    name: str,
    description: str,
    files: list[str],
    hub: str,
    columns: Mapping[str, str],
) -> Same:
    """The same as the form that registers a data set. `files` are as they were called where they came
    from; several stand in one folder."""
    about = ["--description", description] if description else []
    mapped = [word for to, column in columns.items() for word in ("--map", f"{to}={column}")]
    if hub:
        body: dict[str, Any] = {"name": name, "hub": hub}
        body |= {"description": description} if description else {}
        body |= {"columns": dict(columns)} if columns else {}
        sent = call(request, "/api/datasets", body)
        return Same(sent, command("register_dataset", name, hub, *about, *mapped))
    parts = [f"name={name}", *([f"description={description}"] if description else [])]
    parts += [f"columns={json.dumps(columns, ensure_ascii=False)}"] if columns else []
    fields = [f"--form-string {shlex.quote(part)}" for part in parts]
    fields += [f"-F {shlex.quote(f'file=@{file}')}" for file in files]
    source = files[0] if len(files) == 1 else "."
    return Same(
        call(request, "/api/datasets", None, *fields),
        command("register_dataset", name, source, *about, *mapped),
    )
