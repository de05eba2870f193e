"""Tokens in the operators' admin: a read-only list, without values, secrets or settings."""

from typing import Any

from django.contrib import admin
from django.http import HttpRequest

from tokens.models import Token


@admin.register(Token)
class TokenAdmin(admin.ModelAdmin):  # type: ignore[type-arg]
    list_display = ("public_id", "workspace", "kind", "nickname", "created_at", "disabled_at", "deleted_at")
    list_filter = ("kind",)
    list_select_related = ("workspace",)
    search_fields = ("public_id", "nickname", "workspace__name")
    ordering = ("-created_at", "-pk")
    fields = (*list_display, "created_by", "expires_at")

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False
