"""`manage.py dataset_rows NAME`: list rows by what is wrong with them, and fix them."""

from __future__ import annotations

from argparse import ArgumentParser
from typing import Any

from registry.bases.registration import find_base
from registry.datasets.examination import DEFAULT_LENGTH, examine, find_report
from registry.datasets.revisions import newest_named
from registry.datasets.splits import SPLITS
from registry.datasets.workbench import fixes, issues, origins, rows
from registry.datasets.workbench.findings import Findings, find, newest_findings, open_findings
from registry.datasets.workbench.fixes import Action, Fix
from registry.datasets.workbench.rows import Wanted
from registry.errors import NotFound
from registry.management.hub_command import Bar, HubCommand
from registry.models import Dataset


class Command(HubCommand):
    help = (
        "List rows of a data set's newest revision by what is wrong with them; with --drop, "
        "--redact or --move-to, change them, which makes the next revision. The first call checks "
        "every row."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("name", help="the data set")
        names = ", ".join([issue.name for issue in issues.ISSUES])
        parser.add_argument("--issue", default="", help=f"{names}, personal or any")
        parser.add_argument("--split", default="", choices=["", *SPLITS], metavar="SPLIT")
        parser.add_argument("--shortest", type=int, help="tokens, at least")
        parser.add_argument("--longest", type=int, help="tokens, at most")
        parser.add_argument("--words", default="", help="anywhere in the row")
        parser.add_argument(
            "--row", action="append", default=[], metavar="SPLIT:LINE", help="rows to change"
        )
        parser.add_argument("--limit", type=int, default=20, help="rows to list")
        parser.add_argument("--base", help="the base model whose tokens count, to check rows for")
        parser.add_argument("--max-seq-length", type=int, help="tokens a row may have")
        change = parser.add_mutually_exclusive_group()
        change.add_argument("--drop", action="store_true", help="leave the rows out")
        change.add_argument("--redact", action="store_true", help="replace personal data")
        change.add_argument("--move-to", default="", choices=["", *SPLITS], metavar="SPLIT")
        parser.add_argument("-m", "--message", default="", help="why, for people")

    def handle(self, *args: Any, **options: Any) -> None:
        dataset = newest_named(options["name"])
        if dataset is None:
            raise NotFound(f"There is no data set {options['name']!r}.")
        wanted = Wanted(
            options["split"],
            options["issue"],
            options["shortest"],
            options["longest"],
            options["words"],
        )
        found = self._found(dataset, options["base"], options["max_seq_length"])
        action = _action(options)
        if action is None:
            self._list(found, wanted, options["limit"])
            return
        keys = tuple(options["row"])
        with Bar(self.stderr) as bar:
            fix = Fix(action, options["message"], keys, wanted, options["move_to"])
            made = fixes.apply(found, fix, bar)
        done = [f"{made.fixes[how]} {how}" for how in origins.CHANGES if made.fixes[how]]
        self.stdout.write(f"{made}: {', '.join(done)}")

    def _found(self, dataset: Dataset, base: str | None, limit: int | None) -> Findings:
        """What is found in the rows, looked for now unless it is there."""
        if base is None and limit is None and (found := newest_findings(dataset)):
            return found
        model, limit = find_base(base), limit or DEFAULT_LENGTH
        with Bar(self.stderr) as bar:
            report = find_report(dataset, model, limit) or examine(
                dataset, model, limit, progress=bar
            )
            return open_findings(report) or find(report, bar)

    def _list(self, found: Findings, wanted: Wanted, limit: int) -> None:
        for issue in issues.ISSUES:
            count = sum(split[issue.name] for split in found.summary["issues"].values())
            if count:
                self.stdout.write(f"{issue.label}: {count} ({issue.name})")
        first: int | None = 0
        shown = 0
        while first is not None and shown < limit:
            page = rows.page(found, wanted, first, limit - shown)
            for row in page.rows:
                like = [f"{one.share} % of {one.split}:{one.line}" for one in row.like]
                about = ", ".join([*(issue.name for issue in row.issues), *like])
                self.stdout.write(f"{row.key}  {row.tokens} tokens  {about}\n    {row.shown}")
            shown, first = shown + len(page.rows), page.next
        if first is not None and not wanted.q:
            self.stdout.write(f"And {page.total - shown} more.")


def _action(options: dict[str, Any]) -> Action | None:
    if options["drop"]:
        return "drop"
    if options["redact"]:
        return "redact"
    return "move" if options["move_to"] else None
