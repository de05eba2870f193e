"""The context of every page: navigation, the person's workspaces, the theme. Queries run on first use."""

from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from typing import Any

from django.core.exceptions import DisallowedHost
from django.http import HttpRequest
from django.http.request import split_domain_port
from django.urls import NoReverseMatch, reverse

from apperate.accounts.models import Workspace
from apperate.accounts.sign_in import mail
from apperate.backup import status
from apperate.kernel.hosts import is_loopback

THEMES = {"light", "dark"}
# (section, ((title, URL name, icon), …)). Pages that do not exist are left out.
NAVIGATION = (
    (
        "Access & Security",
        (
            ("API Tokens", "tokens:list", "key-round"),
            ("Usage", "tokens:usage", "chart-column"),
            ("Audit log", "team:audit_log", "scroll-text"),
        ),
    ),
    ("Data", (("Datasets", "datasets:list", "database"), ("Ingestion jobs", "datasets:jobs", "upload"))),
    ("Settings", (("Team", "team:members", "users"), ("Workspace", "team:workspace", "settings"))),
)


@dataclass(frozen=True, slots=True)
class Link:
    title: str
    url: str
    icon: str
    is_current: bool


@dataclass(frozen=True, slots=True)
class Section:
    title: str
    links: list[Link]


class Shell:
    """The page frame for one request."""

    def __init__(self, request: HttpRequest) -> None:
        self.request = request

    @cached_property
    def theme(self) -> str:
        """light, dark, or empty to follow the system."""
        theme = self.request.COOKIES.get("theme", "")
        return theme if theme in THEMES else ""

    @cached_property
    def workspaces(self) -> list[Workspace]:
        return list(getattr(self.request, "workspaces", []))

    @cached_property
    def nav(self) -> list[Section]:
        """The sections with their links; the link with the longest matching path is current."""
        found = [
            (section, title, address_of(name), icon)
            for section, links in NAVIGATION
            for title, name, icon in links
        ]
        addresses = [url for _, _, url, _ in found if url and self.request.path.startswith(url)]
        current = max(addresses, key=len, default="")
        sections = []
        for section, _ in NAVIGATION:
            links = [
                Link(t, url, icon, url == current) for name, t, url, icon in found if name == section and url
            ]
            if links:
                sections.append(Section(section, links))
        return sections

    @property
    def can_send_mail(self) -> bool:
        return mail.can_send()

    @cached_property
    def is_open_http(self) -> bool:
        """Whether this page crosses a network in clear text: plain http, from another machine."""
        if self.request.is_secure():
            return False
        try:
            host = split_domain_port(self.request.get_host())[0].strip("[]")
        except DisallowedHost:
            return False
        return not is_loopback(host)

    @cached_property
    def late_backup(self) -> str:
        """That the last backup is too old, for operators and for who manages the workspace; else empty."""
        said = status.banner(now=datetime.now(UTC))
        user, membership = (getattr(self.request, name, None) for name in ("user", "membership"))
        if not said or user is None:
            return ""
        # A membership that there is none of is a lazy object, and false.
        return (
            said if user.is_authenticated and (user.is_staff or (membership and membership.manages)) else ""
        )


def address_of(url_name: str) -> str:
    """The URL of a page, or empty when there is no such page."""
    try:
        return reverse(url_name)
    except NoReverseMatch:
        return ""


def shell(request: HttpRequest) -> dict[str, Any]:
    """The context processor: `shell`, and the current `workspace` and `membership`."""
    return {
        "shell": Shell(request),
        "workspace": getattr(request, "workspace", None),
        "membership": getattr(request, "membership", None),
    }
