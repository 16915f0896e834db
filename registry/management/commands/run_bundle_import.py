"""`manage.py run_bundle_import ID`: the work of one task; the web process starts it."""

from __future__ import annotations

from registry.bundles import tasks
from registry.management.hub_command import WorkCommand
from registry.models import BundleImport


class Command(WorkCommand[BundleImport]):
    help = "Verify and import a large bundle, as its task's row says."
    model = BundleImport

    def do(self, row: BundleImport) -> object:
        return tasks.run(row)
