"""The machine's samples in the admin, read-only."""

from __future__ import annotations

from django.contrib import admin
from django.http import HttpRequest

import registry.web.generics  # noqa: F401  # its classes can be subscripted
from hub.models import SystemSample

admin.site.site_header = admin.site.site_title = "MLX Model Hub"
admin.site.index_title = "Tables"


@admin.register(SystemSample)
class SystemSampleAdmin(admin.ModelAdmin[SystemSample]):
    list_display = (
        "created_at",
        "cpu_percent",
        "gpu_percent",
        "memory_used_bytes",
        "engine_memory_bytes",
        "training_memory_bytes",
        "disk_free_bytes",
    )
    list_filter = ("created_at",)
    show_full_result_count = False  # a sample every few seconds for two weeks

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: SystemSample | None = None) -> bool:
        return False
