"""Sending a person to another page."""

from django.http import HttpResponseBase
from django.shortcuts import redirect
from django_htmx.http import HttpResponseClientRedirect

from apperate.accounts.decorators import MemberRequest


def go_to(request: MemberRequest, address: str) -> HttpResponseBase:
    """Redirect the whole page, from htmx too."""
    return HttpResponseClientRedirect(address) if request.htmx else redirect(address)
