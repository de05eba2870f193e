"""seen(): the sites that used a token in the last 7 days, and whether its saved rules allow each.

Sites of answered calls and of calls refused because of their site, from refusal_log.py, which stores a
limited number of the newest per token. Source: docs/security-checks.md.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta

from tokens.gate import refusal_log
from tokens.models import Token, TokenRefusal
from tokens.rules import domains
from tokens.rules.domains import DomainRule
from tokens.rules.permissions import Settings

SEEN_DAYS = 7
DOMAIN_REFUSED = "domain-not-allowed"


@dataclass(frozen=True, slots=True)
class Caller:
    """One site. `is_allowed`: by the last saved rules; None when there are none."""

    site: str
    answered: int
    refused: int
    last_at: datetime
    is_allowed: bool | None
    may_add: bool


def seen(token: Token, settings: Settings, *, now: datetime, may_edit: bool) -> list[Caller]:
    """The callers of a token, newest first. One query. Index: tokens_refusal_once."""
    rows = TokenRefusal.objects.filter(
        token_id=token.pk,
        code__in=(refusal_log.ANSWERED, DOMAIN_REFUSED),
        last_at__gt=now - timedelta(days=SEEN_DAYS),
    ).exclude(site="")
    by_site: dict[str, list[TokenRefusal]] = {}
    for row in rows.order_by("-last_at", "-pk"):
        by_site.setdefault(row.site, []).append(row)
    return [_caller(site, found, settings, may_edit=may_edit) for site, found in by_site.items()]


def _caller(site: str, rows: list[TokenRefusal], settings: Settings, *, may_edit: bool) -> Caller:
    calls = {
        is_ok: sum(row.calls for row in rows if (row.code == refusal_log.ANSWERED) is is_ok)
        for is_ok in (True, False)
    }
    is_allowed = allows(settings.allowed_domains, site) if settings.allowed_domains else None
    return Caller(
        site,
        calls[True],
        calls[False],
        max(row.last_at for row in rows),
        is_allowed,
        may_add=may_edit and not is_allowed and isinstance(domains.parse_rule(site), DomainRule),
    )


def allows(rules: tuple[DomainRule, ...], site: str) -> bool:
    """Whether the site's pages may call, over either protocol, judging by their origin alone."""
    origins = (f"{protocol}://{site}" for protocol in ("https", "http"))
    return any(domains.match(rules, referer=None, origin=origin).allowed for origin in origins)
