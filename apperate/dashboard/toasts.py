"""The messages after a change that servers follow."""

from django.contrib import messages
from django.http import HttpRequest

from apperate.database import propagation


def changed(request: HttpRequest, text: str) -> None:
    """Say what was changed, and whether some server process has not confirmed it yet."""
    messages.success(request, text)
    if count := propagation.take_unconfirmed():
        messages.warning(request, propagation.unconfirmed_words(count))
