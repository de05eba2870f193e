"""The operators' admin: workspaces with their owners, members, invitations, people. It shows no secret.

Where the dashboard uses a service, the admin uses the same one.
"""

from typing import Any

from allauth.account.admin import EmailAddressAdmin
from allauth.account.decorators import secure_admin_login
from allauth.mfa.admin import AuthenticatorAdmin
from allauth.usersessions.admin import UserSessionAdmin
from django import forms
from django.contrib import admin, messages
from django.contrib.auth.admin import GroupAdmin
from django.core.exceptions import PermissionDenied
from django.db import transaction
from django.db.models import QuerySet
from django.http import HttpRequest
from procrastinate.contrib.django.admin import ProcrastinateJobAdmin

from apperate.accounts import services as people
from apperate.accounts.addresses import client_address
from apperate.accounts.audit import trail
from apperate.accounts.models import Invitation, Membership, Role, User, Workspace
from apperate.accounts.preconditions import may_be_invited, workspace_name
from apperate.accounts.sign_in import mail
from apperate.database.clock import database_now
from apperate.kernel.refusals import Refusal
from apperate.team.services import create_workspace
from apperate.team.workspace_settings import save_fields

admin.site.site_header = admin.site.site_title = "Apperate for operators"
admin.site.index_title = "Workspaces and people"
# Everybody signs in at one place, where rate limits and the second factor apply.
admin.site.login = secure_admin_login(admin.site.login)  # type: ignore[method-assign]
# Authenticators hold the seeds of second factors, sessions their keys, and jobs their callers' arguments;
# nobody needs the rest.
UNWANTED = (AuthenticatorAdmin, EmailAddressAdmin, GroupAdmin, ProcrastinateJobAdmin, UserSessionAdmin)
for model, its_admin in list(admin.site._registry.items()):
    if isinstance(its_admin, UNWANTED):
        admin.site.unregister(model)


def acting(request: HttpRequest) -> dict[str, Any]:
    return {"by": request.user, "now": database_now(), "address": client_address(request)}


class WorkspaceForm(forms.ModelForm):  # type: ignore[type-arg]
    class Meta:
        model = Workspace
        fields = [
            "title", "plan", "is_legacy", "has_premium", "allows_secret_in_browser", "requires_second_factor",
        ]  # fmt: skip


class NewWorkspaceForm(forms.ModelForm):  # type: ignore[type-arg]
    """A workspace with its owner: the service makes the rows, and says why not."""

    owner_email = forms.EmailField(label="Owner's e-mail", help_text="Gets the invitation as primary.")

    class Meta:
        model = Workspace
        fields = ["name", "title", "plan"]

    request: Any

    def clean_name(self) -> str:
        name = self.cleaned_data["name"].strip().upper()
        if refusal := workspace_name(name, self.request.user):
            raise forms.ValidationError(refusal.detail)
        return name


@admin.register(Workspace)
class WorkspaceAdmin(admin.ModelAdmin):  # type: ignore[type-arg]
    list_display = ["name", "title", "plan", "has_premium", "created_at"]
    list_filter = ["plan", "has_premium", "is_system"]
    search_fields = ["name", "title"]
    readonly_fields = ["created_at"]

    def get_form(
        self, request: HttpRequest, obj: Workspace | None = None, change: bool = False, **kwargs: Any
    ) -> Any:
        form = super().get_form(
            request, obj, change, form=WorkspaceForm if obj else NewWorkspaceForm, **kwargs
        )
        return type(form.__name__, (form,), {"request": request})

    def get_fields(self, request: HttpRequest, obj: Workspace | None = None) -> Any:
        return [*WorkspaceForm.Meta.fields, "created_at"] if obj else ["name", "title", "plan", "owner_email"]

    def save_model(self, request: HttpRequest, obj: Workspace, form: Any, change: bool) -> None:
        if change:
            before = {name: form.initial.get(name) for name in form.changed_data}
            return save_fields(workspace=obj, before=before, **acting(request))
        made = create_workspace(
            name=obj.name,
            title=obj.title,
            plan=obj.plan,
            owner_email=form.cleaned_data["owner_email"],
            **acting(request),
        )
        if isinstance(made, Refusal):  # The form has checked already; only a race leads here.
            raise PermissionDenied(made.detail)
        obj.pk = made.workspace.pk
        show_link(request, form.cleaned_data["owner_email"], made.url or "", fault=made.mail_fault)

    def has_delete_permission(self, request: HttpRequest, obj: Workspace | None = None) -> bool:
        """Its tokens and data depend on it."""
        return False


def show_link(request: HttpRequest, email: str, url: str, *, fault: str = "") -> None:
    """Let operators pass the link on themselves: an installation may have no mail server yet."""
    state = "is sent" if mail.can_send() else "was not sent, because EMAIL_URL is not set"
    if fault:
        state = f"could not be sent ({fault})"
    messages.info(request, f"The invitation of {email} {state}. Its link, shown only now: {url}")


class NewInvitationForm(forms.ModelForm):  # type: ignore[type-arg]
    class Meta:
        model = Invitation
        fields = ["workspace", "email", "role"]

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean() or {}
        if not self.errors and (
            refusal := may_be_invited(cleaned["workspace"], cleaned["email"], cleaned["role"])
        ):
            raise forms.ValidationError(refusal.detail)
        return cleaned


@admin.register(Invitation)
class InvitationAdmin(admin.ModelAdmin):  # type: ignore[type-arg]
    """ "Add invitation" adds a teammate: the link goes out by e-mail."""

    form = NewInvitationForm
    list_display = ["email", "workspace", "role", "created_at", "expires_at", "accepted_at", "withdrawn_at"]
    list_filter = ["role"]
    search_fields = ["email", "workspace__name"]
    actions = ["withdraw"]

    def get_fields(self, request: HttpRequest, obj: Invitation | None = None) -> Any:
        return self.list_display if obj else ["workspace", "email", "role"]

    def save_model(self, request: HttpRequest, obj: Invitation, form: Any, change: bool) -> None:
        invited = people.invite(workspace=obj.workspace, email=obj.email, role=obj.role, **acting(request))
        if isinstance(invited, Refusal):  # The form has checked already; only a race leads here.
            raise PermissionDenied(invited.detail)
        obj.pk = invited.invitation.pk
        show_link(request, obj.email, invited.url)

    @admin.action(description="Withdraw the chosen invitations", permissions=["add"])
    def withdraw(self, request: HttpRequest, queryset: QuerySet[Invitation]) -> None:
        for invitation in queryset:
            tell(request, people.withdraw_invitation(invitation=invitation, **acting(request)))

    def has_change_permission(self, request: HttpRequest, obj: Invitation | None = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Invitation | None = None) -> bool:
        return False


@admin.register(Membership)
class MembershipAdmin(admin.ModelAdmin):  # type: ignore[type-arg]
    """Members come by invitation; roles and removals go through the team page's services."""

    list_display = ["user", "workspace", "role", "created_at"]
    list_filter = ["role"]
    search_fields = ["user__email", "user__name", "workspace__name"]
    actions = ["add_admin_status", "remove_admin_status", "remove_user"]

    @admin.action(description="Add Admin status", permissions=["delete"])
    def add_admin_status(self, request: HttpRequest, queryset: QuerySet[Membership]) -> None:
        for membership in queryset:
            tell(request, people.change_role(membership=membership, role=Role.ADMIN, **acting(request)))

    @admin.action(description="Remove Admin status", permissions=["delete"])
    def remove_admin_status(self, request: HttpRequest, queryset: QuerySet[Membership]) -> None:
        for membership in queryset:
            tell(request, people.change_role(membership=membership, role=Role.USER, **acting(request)))

    @admin.action(description="Remove user", permissions=["delete"])
    def remove_user(self, request: HttpRequest, queryset: QuerySet[Membership]) -> None:
        for membership in queryset:
            tell(request, people.remove_member(membership=membership, **acting(request)))

    def get_actions(self, request: HttpRequest) -> Any:
        actions = super().get_actions(request)
        actions.pop("delete_selected", None)
        return actions

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Membership | None = None) -> bool:
        return False

    def delete_model(self, request: HttpRequest, obj: Membership) -> None:
        tell(request, people.remove_member(membership=obj, **acting(request)))


def tell(request: HttpRequest, outcome: object) -> None:
    if isinstance(outcome, Refusal):
        messages.error(request, outcome.detail)
    else:
        messages.success(request, f"Done: {outcome}.")


@admin.register(User)
class UserAdmin(admin.ModelAdmin):  # type: ignore[type-arg]
    """People, without their passwords: those are set by invitation or by a reset link."""

    list_display = ["email", "name", "is_active", "is_staff", "last_login"]
    list_filter = ["is_active", "is_staff"]
    search_fields = ["email", "name"]
    fields = ["email", "name", "is_active", "is_staff", "last_login", "date_joined"]
    readonly_fields = ["email", "last_login", "date_joined"]
    ordering = ["email"]

    @transaction.atomic
    def save_model(self, request: HttpRequest, obj: User, form: Any, change: bool) -> None:
        if not form.changed_data:
            return
        before = {name: form.initial.get(name) for name in form.changed_data}
        after = {name: form.cleaned_data[name] for name in form.changed_data}
        obj.save(update_fields=form.changed_data)
        trail.record_person("person.changed", of=obj, before=before, after=after, **acting(request))

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: User | None = None) -> bool:
        """Switching `is_active` off keeps the person's trail in the audit log."""
        return False
