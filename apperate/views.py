"""Pages that belong to no app: home, theme, documentation, errors."""

import logging
import sys
from typing import Any

from django.conf import settings
from django.contrib.auth.views import redirect_to_login
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseBase, HttpResponseRedirect
from django.shortcuts import redirect, render
from django.template.loader import render_to_string
from django.utils.http import url_has_allowed_host_and_scheme
from django.views.decorators.http import require_POST, require_safe

from apperate.accounts.decorators import public
from apperate.dashboard.context import THEMES
from apperate.database.outage import UNAVAILABLE, outage
from apperate.guides import BY_SLUG, GUIDES
from apperate.kernel.dates import seconds_in_words
from apperate.kernel.refusals import REFUSALS
from datasets.pages import start

YEAR_SECONDS = 31_536_000
logger = logging.getLogger("apperate.requests")


@public
@require_safe
def home(request: HttpRequest) -> HttpResponseBase:
    if not request.user.is_authenticated:
        return redirect_to_login("/")
    workspace = getattr(request, "workspace", None)
    return redirect("datasets:start" if workspace and start.is_new(workspace) else "tokens:list")


@public
@require_POST
def theme(request: HttpRequest) -> HttpResponse:
    """Store the chosen theme in a cookie of this browser, and return to the page."""
    response = HttpResponseRedirect(own_address(request, request.POST.get("next", "")))
    if (chosen := request.POST.get("theme", "")) in THEMES:
        response.set_cookie(
            "theme",
            chosen,
            max_age=YEAR_SECONDS,
            samesite="Lax",
            secure=settings.SERVES_HTTPS,
            httponly=True,
        )
    return response


def own_address(request: HttpRequest, address: str, *, otherwise: str = "/") -> str:
    """The address if it is on this host, so that a form cannot send people elsewhere."""
    is_own = address.startswith("/") and url_has_allowed_host_and_scheme(address, allowed_hosts=None)
    return address if is_own else otherwise


@public
@require_safe
def docs(request: HttpRequest) -> HttpResponse:
    return render(request, "docs/index.html", {"public_url": settings.PUBLIC_URL, "guides": GUIDES})


@public
@require_safe
def docs_guide(request: HttpRequest, slug: str) -> HttpResponse:
    """One guide, open to everybody."""
    guide = BY_SLUG.get(slug)
    if guide is None:
        raise Http404
    place = GUIDES.index(guide)
    context = {
        "guide": guide,
        "guides": GUIDES,
        "before": GUIDES[place - 1] if place else None,
        "after": next(iter(GUIDES[place + 1 :]), None),
        "public_url": settings.PUBLIC_URL,
        "delay": seconds_in_words(settings.ACTIVATION_SECONDS),
    }
    return render(request, guide.template, context)


@public
@require_safe
def docs_errors(request: HttpRequest) -> HttpResponse:
    """Every refusal of the API; a refusal's `docs` member links here."""
    refusals = [(code, status, title) for code, (status, title) in REFUSALS.items()]
    return render(request, "docs/errors.html", {"refusals": refusals})


# --- errors: these two use no page frame, because the database may be what failed -------------------


def bad_request(request: HttpRequest, exception: Exception) -> HttpResponse:
    return HttpResponse(render_to_string("400.html"), status=400)


def server_error(request: HttpRequest) -> HttpResponse:
    """500, or 503 when the database is unreachable."""
    request_id = getattr(request, "request_id", "")
    error: Any = sys.exc_info()[1]
    if isinstance(error, UNAVAILABLE):
        outage.note(error)
        response = HttpResponse(render_to_string("503.html", {"request_id": request_id}), status=503)
        response.headers["Retry-After"] = "2"
        return response
    return HttpResponse(render_to_string("500.html", {"request_id": request_id}), status=500)
