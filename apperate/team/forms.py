from typing import Any

from django import forms

from apperate.accounts.audit.words import GROUPS
from apperate.accounts.models import Role
from apperate.dashboard.forms import Choices, Switch
from apperate.team import audit_log
from apperate.team.workspace_settings import Security
from tokens.rules.webhook_target import URL_CHARACTERS_MAX, target_of

HELP = {
    Role.USER: "Sees everything but secrets, and calls the API with the tokens.",
    Role.ADMIN: "Also changes tokens, datasets and the team.",
}


class InviteForm(forms.Form):
    """Whom to invite, and with which role."""

    email = forms.EmailField(
        label="E-mail",
        max_length=254,
        help_text="The invitation works for this address alone.",
        widget=forms.EmailInput(attrs={"autocomplete": "off"}),
    )
    role = forms.ChoiceField(
        label="Status",
        choices=[(Role.USER, Role.USER.label), (Role.ADMIN, Role.ADMIN.label)],
        initial=Role.USER,
        widget=Choices(help={role.value: text for role, text in HELP.items()}),
    )

    def clean_email(self) -> Any:
        return self.cleaned_data["email"].lower()


class RoleForm(forms.Form):
    role = forms.ChoiceField(choices=[(Role.USER, Role.USER.label), (Role.ADMIN, Role.ADMIN.label)])


class SecurityForm(forms.Form):
    """The switches of the page "Workspace"."""

    refuses_secret_in_browser = forms.BooleanField(
        label="Refuse secret tokens from browsers",
        required=False,
        widget=Switch,
        help_text="A secret token that a web page sends is answered with 403, whoever sends it.",
    )
    requires_second_factor = forms.BooleanField(
        label="Require a second factor",
        required=False,
        widget=Switch,
        help_text="Members without one see no page of this workspace until they have added it.",
    )

    @property
    def security(self) -> Security:
        return Security(
            allows_secret_in_browser=not self.cleaned_data["refuses_secret_in_browser"],
            requires_second_factor=self.cleaned_data["requires_second_factor"],
        )


class AuditFilterForm(forms.Form):
    """Which audit events are shown. Every field is optional; days are in UTC."""

    who = forms.CharField(label="Person or token", max_length=254, required=False)
    action = forms.ChoiceField(
        label="Action",
        required=False,
        choices=[("", "Every action"), *((title, list(actions.items())) for title, actions in GROUPS)],
    )
    thing = forms.CharField(
        label="Thing",
        max_length=254,
        required=False,
        widget=forms.TextInput(attrs={"placeholder": "Token or dataset"}),
    )
    since = forms.DateField(label="From", required=False, widget=forms.DateInput(attrs={"type": "date"}))
    until = forms.DateField(label="To", required=False, widget=forms.DateInput(attrs={"type": "date"}))
    below = forms.CharField(required=False, widget=forms.HiddenInput)

    def clean_below(self) -> audit_log.Place | None:
        text = self.cleaned_data["below"]
        place = audit_log.read_place(text) if text else None
        if text and place is None:
            raise forms.ValidationError("This page of the log cannot be found: begin with the first one.")
        return place

    def said(self) -> dict[str, str]:
        """The filters that are set, as written in addresses and in the log itself."""
        return {name: str(value) for name, value in self.cleaned_data.items() if value and name != "below"}


class WebhookForm(forms.Form):
    """Where a workspace's alerts are posted."""

    url = forms.CharField(
        label="Address",
        max_length=URL_CHARACTERS_MAX,
        help_text="Gets a POST with JSON for each alert. It must be on the public internet.",
        widget=forms.URLInput(attrs={"placeholder": "https://example.com/apperate", "autocomplete": "off"}),
    )

    def clean_url(self) -> str:
        url: str = self.cleaned_data["url"]
        if isinstance(fault := target_of(url), str):
            raise forms.ValidationError(fault)
        return url
