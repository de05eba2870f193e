"""Datasets and jobs in the operators' admin: read-only, except for a dataset's price."""

from typing import Any

from django.contrib import admin
from django.db import transaction
from django.http import HttpRequest

from apperate.accounts.audit import trail
from apperate.accounts.models import User
from apperate.database.clock import database_now
from datasets.models import Dataset, IngestJob


class ReadOnly(admin.ModelAdmin):  # type: ignore[type-arg]
    """Nothing can be added or removed here: services do that, with their checks."""

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False


@admin.register(Dataset)
class DatasetAdmin(ReadOnly):
    list_display = ("name", "workspace", "title", "credits_per_record", "created_at", "deleted_at")
    list_filter = ("workspace__is_system",)
    list_select_related = ("workspace",)
    search_fields = ("name", "title", "workspace__name")
    fields = (
        "workspace", "name", "title", "description", "source", "email", "credits_per_record",
        "column_mapping", "schema_json", "version", "created_at", "created_by", "deleted_at",
    )  # fmt: skip
    readonly_fields = tuple(name for name in fields if name != "credits_per_record")

    @transaction.atomic
    def save_model(self, request: HttpRequest, obj: Dataset, form: Any, change: bool) -> None:
        """Set the price; readers notice the new version."""
        before = Dataset.objects.select_for_update().get(pk=obj.pk)
        if before.credits_per_record == obj.credits_per_record:
            return
        obj.version = before.version + 1
        obj.save(update_fields=["credits_per_record", "version"])
        trail.record(
            "dataset.price_set",
            workspace=obj.workspace,
            by=request.user if isinstance(request.user, User) else None,
            now=database_now(),
            target=obj.name,
            before={"credits_per_record": before.credits_per_record},
            after={"credits_per_record": obj.credits_per_record},
        )


@admin.register(IngestJob)
class IngestJobAdmin(ReadOnly):
    list_display = ("public_id", "dataset", "status", "file_name", "stored", "invalid", "created_at")
    list_filter = ("status",)
    list_select_related = ("dataset",)
    search_fields = ("public_id", "dataset__name", "file_name")

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False
