"""Settings over JSON; beyond loopback they need a key of the scope admin."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

from django.http import HttpRequest
from ninja import Body, Field, Router, Schema

from hub.preferences import changing, values

router = Router(tags=["settings"])


class SettingOut(Schema):
    """One setting. Values are texts as in the environment, empty where there is none; secrets are
    hidden."""

    name: str
    variable: str = Field(description="Its name in the environment and in `.env`")
    label: str
    group: str
    about: str
    value: str
    default: str
    unit: str
    choices: list[str] = Field(description="The values that it may have, where they are few")
    source: Literal["environment", "file", "saved", "default"]
    origin: str = Field(description="The variable or the file that sets it")
    changeable: bool
    takes_effect: Literal["fixed", "now", "next job", "restart"]
    after_restart: str | None = Field(
        description="What it will be once the hub is restarted; null where that is what it is"
    )


@router.get("/settings", response=list[SettingOut], summary="Settings and where they come from")
def settings(request: HttpRequest) -> list[SettingOut]:
    return list(_all())


@router.patch("/settings", response=list[SettingOut], summary="Change settings")
def change(
    request: HttpRequest, payload: Body[dict[str, str | bool | int | float | None]]
) -> list[SettingOut]:
    """The body has a value for each setting to change, by its name; null stands for the default. The
    answer has those that are different now."""
    changed = changing.change(payload)
    return [one for one in _all() if one.name in changed]


def _all() -> Iterator[SettingOut]:
    for _, title, group in values.every():
        for shown in group:
            entry = shown.entry
            yield SettingOut(
                name=entry.name,
                variable=entry.variable,
                label=entry.label,
                group=title,
                about=shown.about,
                value=shown.value,
                default=shown.default,
                unit=entry.unit,
                choices=list(shown.choices),
                source=shown.source,
                origin=shown.origin,
                changeable=shown.changeable,
                takes_effect=entry.effect.value,
                after_restart=shown.waiting,
            )
