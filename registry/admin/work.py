"""Long work in the admin. What failed is retried on its page."""

from __future__ import annotations

from typing import ClassVar

from django.contrib import admin

from registry.admin.kept import Kept
from registry.models import BaseImport, BundleImport, DatasetTask, ExportTask
from registry.models.work import Work
from registry.storage.sizes import human

_STATE = ("status", "stage")
_END = ("error_message", "created_at", "heartbeat_at")


class WorkAdmin[W: Work](Kept[W]):
    list_filter: ClassVar[tuple[str, ...]] = ("status", "created_at")
    search_fields: ClassVar[tuple[str, ...]] = ("name", "source", "error_message")
    date_hierarchy = "created_at"


@admin.register(BaseImport)
class BaseImportAdmin(WorkAdmin[BaseImport]):
    """Downloads and conversions."""

    list_display = ("name", "source", "origin", *_STATE, "received", "base_model", *_END)
    list_filter = ("status", "source", "created_at")
    list_select_related = ("base_model",)
    search_fields = ("name", "origin", "revision", "error_message")

    @admin.display(ordering="done_bytes")
    def received(self, row: BaseImport) -> str:
        if row.total_bytes is None:
            return "–"
        return f"{human(row.done_bytes)} of {human(row.total_bytes)}"


@admin.register(DatasetTask)
class DatasetTaskAdmin(WorkAdmin[DatasetTask]):
    """Large data sets being registered or examined."""

    list_display = ("name", "kind", "source", *_STATE, "examples", "dataset", *_END)
    list_filter = ("status", "kind", "created_at")
    list_select_related = ("dataset",)


@admin.register(BundleImport)
class BundleImportAdmin(WorkAdmin[BundleImport]):
    """Large bundles being imported."""

    list_display = ("name", "source", *_STATE, "version", *_END)
    list_select_related = ("version__model",)


@admin.register(ExportTask)
class ExportTaskAdmin(WorkAdmin[ExportTask]):
    """Exports of versions being created."""

    list_display = ("version", "form", *_STATE, *_END)
    list_filter = ("status", "form", "created_at")
    list_select_related = ("version__model",)
    search_fields = ("version__model__name", "error_message")
