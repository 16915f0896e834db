"""The request log, the tokens and what the playground keeps, in the admin. Of these only the
presets are forms; the others are records."""

from __future__ import annotations

from typing import Any

from django.contrib import admin, messages
from django.contrib.admin.views.main import SEARCH_VAR
from django.db.models import Q, QuerySet
from django.forms import ModelForm
from django.http import HttpRequest

import registry.web.generics  # noqa: F401  # its classes can be subscripted
from inference.keys import change_key, delete_key, revoke_key
from inference.models import (
    ApiToken,
    ClientCheck,
    Conversation,
    Feedback,
    InferenceRequest,
    Preset,
    Replay,
)
from registry.admin.search import Searched, either
from registry.web.paging import RowPages

FOUND_AT_MOST = 500  # of a search in a log that grows without end


@admin.register(ApiToken)
class ApiTokenAdmin(admin.ModelAdmin[ApiToken]):
    """Tokens are made on the page System › API keys or by `manage.py create_token`, which alone can
    show the text."""

    list_display = (
        "name",
        "prefix",
        "scope",
        "requests",
        "prompt_tokens",
        "completion_tokens",
        "last_used_at",
        "revoked_at",
    )
    list_filter = ("scope", ("revoked_at", admin.EmptyFieldListFilter))
    search_fields = ("name", "prefix")
    readonly_fields = (
        "prefix",
        "requests",
        "prompt_tokens",
        "completion_tokens",
        "created_at",
        "last_used_at",
        "revoked_at",
    )
    actions = ("revoke",)

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def get_readonly_fields(
        self, request: HttpRequest, obj: ApiToken | None = None
    ) -> tuple[str, ...]:
        """A wider scope allows everything, so only superusers change it."""
        return (
            self.readonly_fields if request.user.is_superuser else (*self.readonly_fields, "scope")
        )

    def save_model(
        self, request: HttpRequest, obj: ApiToken, form: ModelForm[ApiToken], change: bool
    ) -> None:
        change_key(obj, form.changed_data)

    def delete_model(self, request: HttpRequest, obj: ApiToken) -> None:
        delete_key(obj)

    def delete_queryset(self, request: HttpRequest, queryset: QuerySet[ApiToken]) -> None:
        for token in queryset:
            delete_key(token)

    @admin.action(description="Revoke the selected tokens", permissions=["change"])
    def revoke(self, request: HttpRequest, queryset: QuerySet[ApiToken]) -> None:
        for token in queryset:
            revoke_key(token)
        messages.success(request, f"{queryset.count()} revoked; they are refused from now on.")


@admin.register(InferenceRequest)
class InferenceRequestAdmin(Searched[InferenceRequest], admin.ModelAdmin[InferenceRequest]):
    list_display = (
        "created_at",
        "requested_model",
        "version",
        "api",
        "token",
        "status",
        "prompt_tokens",
        "cached_tokens",
        "completion_tokens",
        "first_token_ms",
        "tokens_per_second",
    )
    list_filter = ("status", "api", "streamed", "created_at")
    list_select_related = ("version__model", "base_model", "token")
    search_fields = ("request_id", "correlation_id", "requested_model", "error")
    search_help_text = (
        "Part of the requested name or of a failed request's error, or a whole request or "
        f"correlation id. Lists the newest {FOUND_AT_MOST:,}."
    )
    list_per_page = 25
    show_full_result_count = False  # the log grows without end

    def get_paginator(
        self, request: HttpRequest, queryset: QuerySet[InferenceRequest], per_page: int, *_: Any
    ) -> RowPages[InferenceRequest]:
        most = FOUND_AT_MOST if request.GET.get(SEARCH_VAR) else None
        return RowPages(queryset, per_page, most=most)

    def found_by(self, word: str) -> Q:
        rows = InferenceRequest.objects.order_by().values_list("pk", flat=True)
        failed = rows.filter(status=InferenceRequest.Status.FAILED).order_by("-created_at")
        others = [
            *rows.filter(Q(request_id=word) | Q(correlation_id=word))[:FOUND_AT_MOST],
            *failed.filter(error__icontains=word)[:FOUND_AT_MOST],
        ]
        named = Q(requested_model__name_contains=word)
        return either(InferenceRequest, Q(pk__in=others), named)

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(
        self, request: HttpRequest, obj: InferenceRequest | None = None
    ) -> bool:
        return False


@admin.register(Replay)
class ReplayAdmin(admin.ModelAdmin[Replay]):
    list_display = ("created_at", "source", "target", "status", "total", "agreed", "agreement")
    list_filter = ("status",)
    list_select_related = ("source__model", "target__model")

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Replay | None = None) -> bool:
        return False


@admin.register(ClientCheck)
class ClientCheckAdmin(admin.ModelAdmin[ClientCheck]):
    list_display = ("created_at", "version", "base_model", "status", "total", "asked")
    list_filter = ("status",)
    list_select_related = ("version__model", "base_model")

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: ClientCheck | None = None) -> bool:
        return False


@admin.register(Conversation)
class ConversationAdmin(admin.ModelAdmin[Conversation]):
    list_display = ("title", "models_asked", "turns", "created_at", "updated_at")
    search_fields = ("title",)
    readonly_fields = (
        "system",
        "sampling",
        "tools",
        "columns",
        "revision",
        "created_at",
        "updated_at",
    )

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False


@admin.register(Preset)
class PresetAdmin(admin.ModelAdmin[Preset]):
    list_display = ("name", "model", "system", "updated_at")
    search_fields = ("name", "model", "system")


@admin.register(Feedback)
class FeedbackAdmin(admin.ModelAdmin[Feedback]):
    list_display = ("created_at", "answered_by", "rating", "ideal", "request_id")
    list_filter = ("rating",)
    search_fields = ("request_id", "answered_by", "ideal", "answer")
    readonly_fields = ("request_id", "version")

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False
