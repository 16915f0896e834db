"""`manage.py replay FROM TO`: the requests of one version asked again of another."""

from __future__ import annotations

import json
from typing import Any

from django.core.management.base import CommandParser

from inference import replay
from inference.models import Replay
from registry.management.hub_command import HubCommand


class Command(HubCommand):
    help = "Ask TO what FROM was asked, and show how often both give the same answer."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("source", metavar="FROM", help="NAME@VERSION that answered then")
        parser.add_argument("target", metavar="TO", help="NAME@VERSION that is to answer now")
        parser.add_argument(
            "--since", default="24h", help="30m, 24h, 7d, or a date (default: %(default)s)"
        )
        parser.add_argument(
            "--limit", type=int, default=200, help="newest requests (default: %(default)s)"
        )
        parser.add_argument("--json", action="store_true", help="print the figures as JSON")

    def handle(self, *args: Any, **options: Any) -> None:
        done = self._replay(options)
        if options["json"]:
            names = ("total", "skipped", "asked", "agreed", "agreement", "similarity")
            figures = {name: getattr(done, name) for name in names}
            self.stdout.write(json.dumps({"id": done.pk, "replay": str(done), **figures}))
            return
        for answer in done.answers.filter(same=False):
            self.stdout.write(f"— {answer.prompt_text[-200:]}")
            self.stdout.write(f"  then: {answer.before}")
            self.stdout.write(f"  now:  {answer.after or answer.error}")
        self.stdout.write(
            f"{done}: {done.agreed} of {done.total} answers are the same "
            f"({done.agreement:.1%}; likeness {done.similarity:.3f}); "
            f"{done.skipped} sampled without a seed were left out."
        )

    def _replay(self, options: dict[str, Any]) -> Replay:
        planned = replay.plan(
            replay.version_named(options["source"]),
            replay.version_named(options["target"]),
            replay.start_of(options["since"]),
            limit=options["limit"],
        )
        return replay.run(planned)
