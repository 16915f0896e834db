"""`manage.py examine_dataset NAME`: check a data set for problems before training."""

from __future__ import annotations

from argparse import ArgumentParser
from typing import Any

from registry.bases.registration import find_base
from registry.datasets.examination import DEFAULT_LENGTH, SAMPLE, examine, warnings
from registry.datasets.revisions import newest_named
from registry.errors import Invalid, NotFound
from registry.management.hub_command import HubCommand


class Command(HubCommand):
    help = "Look for leaks, duplicates and cut examples in the newest revision of a data set."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("name", help="the data set")
        parser.add_argument(
            "--base", help="the base model whose tokens count; the only one if left"
        )
        parser.add_argument(
            "--max-seq-length", type=int, default=DEFAULT_LENGTH, help="tokens an example may have"
        )
        parser.add_argument(
            "--sample", type=int, default=SAMPLE, help="examples per split to tokenize; 0 is all"
        )

    def handle(self, *args: Any, **options: Any) -> None:
        dataset = newest_named(options["name"])
        if dataset is None:
            raise NotFound(f"There is no data set {options['name']!r}.")
        if options["max_seq_length"] < 8 or options["sample"] < 0:
            raise Invalid("max-seq-length is at least 8 tokens, and sample at least 0.")
        base = find_base(options["base"])
        report = examine(dataset, base, options["max_seq_length"], options["sample"])
        self.stdout.write(f"{dataset} for {base.name}, {report.max_seq_length} tokens at most")
        for split, tokens in report.report["tokens"].items():
            self.stdout.write(
                f"  {split}: {tokens['total']} examples, {tokens['examined']} tokenized, "
                f"longest {tokens['longest']} (line {tokens['longest_line']}), "
                f"{tokens['truncated']} cut, {tokens['dropped']} left out"
            )
        found = list(warnings(report))
        for warning in found:
            self.stdout.write(f"  ! {warning}")
        if not found:
            self.stdout.write("  No problems found.")
