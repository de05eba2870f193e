from typing import Any

from django import forms

from apperate.accounts.models import Role
from apperate.forms import Choices

HELP = {
    Role.USER: "Sees everything but secrets, and calls the API with the tokens.",
    Role.ADMIN: "Also changes tokens, datasets and the team.",
}


class InviteForm(forms.Form):
    """Whom to invite, and with which status."""

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
