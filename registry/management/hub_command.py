"""What the commands of every app have in common."""

from __future__ import annotations

from typing import Any, ClassVar

from django.core.management.base import BaseCommand, CommandError, CommandParser

from registry import audit
from registry.background.progress import Progress
from registry.bases.speed import per_second
from registry.errors import HubError, NotFound
from registry.models.work import Work


class HubCommand(BaseCommand):
    """A HubError reaches the terminal as its one sentence, without a traceback."""

    requires_system_checks = ()  # they load every page and schema; CI runs them
    refused: ClassVar[int] = 1
    """The exit status after a HubError."""

    def execute(self, *args: Any, **options: Any) -> str | None:
        name = type(self).__module__.rpartition(".")[2]
        try:
            with audit.acting(audit.Kind.COMMAND, name):
                return super().execute(*args, **options)
        except HubError as error:
            raise CommandError(str(error), returncode=self.refused) from error


class WorkCommand[W: Work](HubCommand):
    """Does the work of one row; the web process starts it (see `registry.background.work`)."""

    model: type[W]

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("id", type=int, metavar="ID")

    def handle(self, *args: Any, **options: Any) -> None:
        row = find_row(self.model, options["id"])
        self.do(row)
        self.stdout.write(f"{row} is done.")

    def do(self, row: W) -> object:
        """Do the work of a running row."""
        raise NotImplementedError


def find_row[W: Work](model: type[W], pk: int) -> W:
    """Raises NotFound."""
    for row in model._default_manager.filter(pk=pk):
        assert isinstance(row, model)
        return row
    raise NotFound(f"There is no {model._meta.verbose_name} {pk}.")


class Bar(Progress):
    """A bar on a terminal, a line for each stage elsewhere; `with` clears the bar at the end."""

    def __init__(self, terminal: Any) -> None:
        self._terminal, self._text, self._shown = terminal, "", ""

    def __enter__(self) -> Bar:
        return self

    def __exit__(self, *raised: object) -> None:
        if self._terminal.isatty():
            self._terminal.write("\r\033[K", ending="")

    def stage(self, text: str) -> None:
        self._text = text
        if self._terminal.isatty():
            self.part(0.0)
        else:
            self._terminal.write(text)

    def part(self, share: float, **counts: int) -> None:
        read = f"  {counts['examples']:,} examples" if counts.get("examples") else ""
        if rate := counts.get("bytes_per_second"):
            read = f"  {per_second(rate)}"
        line = f"\r{self._text:<22} [{'#' * round(30 * share):<30}] {share:4.0%}{read:12}"
        if self._terminal.isatty() and line != self._shown:
            self._terminal.write(line, ending="")
            self._terminal.flush()
        self._shown = line
