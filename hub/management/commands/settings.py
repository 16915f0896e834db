"""`manage.py settings`: every setting, and changing one."""

from __future__ import annotations

from argparse import ArgumentParser
from typing import Any

from hub.preferences import changing, values
from hub.preferences.table import ENTRIES
from registry.errors import Invalid
from registry.management.hub_command import HubCommand


class Command(HubCommand):
    help = "List the settings with where each comes from, show one, or change one."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("name", nargs="?", help="such as log_prompts or HUB_LOG_PROMPTS")
        parser.add_argument("value", nargs="?", help="what it shall be, as in the environment")
        parser.add_argument("--default", action="store_true", help="take back what was saved")

    def handle(
        self, *args: Any, name: str | None, value: str | None, default: bool, **options: Any
    ) -> None:
        if name is None:
            for _, title, group in values.every():
                self.stdout.write(f"\n{title}")
                for shown in group:
                    self._line(shown)
            return
        if default and value is not None:
            raise Invalid("Give either a value or --default.")
        if value is not None or default:
            changed = changing.change({name: value})
            effect = ENTRIES[_plain(name)].effect.words
            self.stdout.write(f"Saved. {effect}." if changed else "It was so already.")
        if _plain(name) not in ENTRIES:
            raise Invalid(f"{name} is no setting; without a name they are listed.")
        shown = values.one(_plain(name))
        self._line(shown)
        self.stdout.write(f"  {shown.about}.")

    def _line(self, shown: values.Shown) -> None:
        where = {"saved": "saved in the hub"}.get(shown.source, shown.origin or shown.source)
        later = "" if shown.waiting is None else f"; {shown.waiting or 'none'} after a restart"
        value = f"{shown.value} {shown.entry.unit}".strip() if shown.value else "–"
        self.stdout.write(f"  {shown.entry.variable:<31} {value}  ({where}{later})")


def _plain(name: str) -> str:
    return name.lower().removeprefix("hub_")
