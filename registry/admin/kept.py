"""What the admin's tables of the registry have in common."""

from __future__ import annotations

from django.contrib import admin
from django.db.models import Model as Row
from django.http import HttpRequest

from registry.web.paging import RowPages


class Kept[T: Row](admin.ModelAdmin[T]):
    """Rows that others name as their origin: never added or deleted here, and of their fields
    only those in `editable` change."""

    editable: tuple[str, ...] = ()
    paginator = RowPages
    list_per_page = 25
    show_full_result_count = False

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: T | None = None) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: T | None = None) -> bool:
        return bool(self.editable) and super().has_change_permission(request, obj)

    def get_readonly_fields(self, request: HttpRequest, obj: T | None = None) -> list[str]:
        return [field.name for field in self.opts.fields if field.name not in self.editable]
