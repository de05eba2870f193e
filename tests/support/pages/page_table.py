"""Every route of the dashboard: the addresses that show its page, or why it shows none.

    PAGES["tokens/<slug:public_id>/"]   Visits; {token} and the like are filled in from fill_demo.filled()
    NO_PAGE["theme/"]                   what a GET is answered with instead

A route of the URL resolver that is in neither fails tests/site/test_every_page.py.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Visit:
    """One address, opened by one of the people of fill_demo."""

    address: str
    who: str = "owner"
    status: int = 200

    def filled(self, made: Mapping[str, Any]) -> str:
        return "/" + self.address.format_map(made)


def nobody(address: str, status: int = 200) -> Visit:
    return Visit(address, "nobody", status)


POST, AWAY, FILE, PART, PLAIN = (
    "takes a POST",
    "leads on",
    "is a file",
    "is a part of a page",
    "is plain text",
)
UNFILLED = "needs what no page of this product makes"

PAGES: dict[str, tuple[Visit, ...]] = {
    # Signing in, and a person's account.
    "account/login/": (nobody("account/login/"),),
    "account/logout/": (Visit("account/logout/"),),
    "account/inactive/": (nobody("account/inactive/"),),
    "account/signup/": (nobody("account/signup/"),),
    "account/reauthenticate/": (Visit("account/reauthenticate/?next=/tokens/"),),
    "account/email/": (Visit("account/email/"),),
    "account/confirm-email/<str:key>/": (nobody("account/confirm-email/{confirmation}/"),),
    "account/password/change/": (Visit("account/password/change/"),),
    "account/password/reset/": (nobody("account/password/reset/"),),
    "account/password/reset/done/": (nobody("account/password/reset/done/"),),
    "account/^password/reset/key/(?P<uidb36>[0-9A-Za-z]+)-(?P<key>.+)/$": (
        nobody("account/password/reset/key/{reset}/"),
        nobody("account/password/reset/key/1-wrong/"),
    ),
    "account/password/reset/key/done/": (nobody("account/password/reset/key/done/"),),
    "account/sessions/": (Visit("account/sessions/"),),
    "account/2fa/": (Visit("account/2fa/"), Visit("account/2fa/", "second factor")),
    "account/2fa/authenticate/": (Visit("account/2fa/authenticate/", "half signed in"),),
    "account/2fa/reauthenticate/": (Visit("account/2fa/reauthenticate/?next=/tokens/", "second factor"),),
    "account/2fa/totp/activate/": (Visit("account/2fa/totp/activate/"),),
    "account/2fa/totp/deactivate/": (Visit("account/2fa/totp/deactivate/", "second factor"),),
    "account/2fa/recovery-codes/": (Visit("account/2fa/recovery-codes/", "second factor"),),
    "account/2fa/recovery-codes/generate/": (Visit("account/2fa/recovery-codes/generate/", "second factor"),),
    "join/<str:token>/": (
        nobody("join/{invitation}/"),
        Visit("join/{invitation}/", status=403),
        nobody("join/{old_invitation}/", 410),
    ),
    # Documentation.
    "docs/": (Visit("docs/"), nobody("docs/")),
    "docs/errors/": (Visit("docs/errors/"),),
    "docs/<slug:slug>/": (
        nobody("docs/get-started/"),
        Visit("docs/access-and-security/"),
        Visit("docs/restrict-domains/"),
        Visit("docs/manage-users/", "member"),
        Visit("docs/older-clients/"),
        nobody("docs/nothing/", 404),
    ),
    "start/": (Visit("start/"), Visit("start/", "member")),
    # Access and security.
    "tokens/": (Visit("tokens/"), Visit("tokens/?q=nothing-has-this-name"), Visit("tokens/", "member")),
    "tokens/new/": (Visit("tokens/new/"), Visit("tokens/new/", "member", 403)),
    "tokens/<slug:public_id>/": (
        Visit("tokens/{token}/"),
        Visit("tokens/{secret}/"),
        Visit("tokens/{restricted}/"),
        Visit("tokens/{limited}/"),
        Visit("tokens/{pending}/"),
        Visit("tokens/{disabled}/"),
        Visit("tokens/{token}/", "member"),
    ),
    "tokens/<slug:public_id>/test/": (Visit("tokens/{token}/test/"),),
    "tokens/<slug:public_id>/rotate/": (Visit("tokens/{token}/rotate/"), Visit("tokens/{secret}/rotate/")),
    "tokens/<slug:public_id>/signing-secret/": (Visit("tokens/{token}/signing-secret/"),),
    "tokens/<slug:public_id>/delete/": (Visit("tokens/{token}/delete/"),),
    "tokens/usage/": (
        Visit("tokens/usage/"),
        Visit("tokens/usage/?period=12m&show=calls"),
        Visit("tokens/usage/?period=7d&token={limited}"),
        Visit("tokens/usage/?token={disabled}", "member"),
    ),
    "team/audit-log/": (Visit("team/audit-log/"), Visit("team/audit-log/?action=nothing", status=422)),
    # Data.
    "datasets/": (
        Visit("datasets/"),
        Visit("datasets/?q=nothing-has-this-name"),
        Visit("datasets/", "member"),
    ),
    "datasets/new/": (Visit("datasets/new/"),),
    "datasets/new/define/": (Visit("datasets/new/define/"),),
    "datasets/new/<str:upload_id>/": (Visit("datasets/new/{upload}/"),),
    "datasets/<str:name>/": (
        Visit("datasets/STOCKS/"),
        Visit("datasets/QUOTES/"),
        Visit("datasets/EMPTY/"),
        Visit("datasets/QUOTES/", "member"),
    ),
    "datasets/<str:name>/docs/": (Visit("datasets/STOCKS/docs/"),),
    "datasets/<str:name>/records/": (
        Visit("datasets/STOCKS/records/?key=AAPL"),
        Visit("datasets/EMPTY/records/"),
    ),
    "datasets/<str:name>/schema/": (Visit("datasets/QUOTES/schema/"),),
    "datasets/<str:name>/add/": (Visit("datasets/QUOTES/add/"),),
    "datasets/<str:name>/details/": (Visit("datasets/QUOTES/details/"),),
    "datasets/<str:name>/rename/": (Visit("datasets/QUOTES/rename/"),),
    "datasets/<str:name>/delete/": (Visit("datasets/QUOTES/delete/"),),
    "datasets/<str:name>/erase/": (Visit("datasets/THROWN_AWAY/erase/"),),
    "datasets/<str:name>/deletions/<int:deletion_id>/erase/": (
        Visit("datasets/QUOTES/deletions/{deletion}/erase/"),
    ),
    "jobs/": (Visit("jobs/"), Visit("jobs/?dataset=NOTHING&state=failed"), Visit("jobs/", "member")),
    "jobs/<str:job_id>/": (Visit("jobs/{job}/"),),
    # Settings.
    "team/": (Visit("team/"), Visit("team/", "member")),
    "team/invite/": (Visit("team/invite/"),),
    "team/members/<int:pk>/remove/": (Visit("team/members/{member}/remove/"),),
    "team/workspace/": (Visit("team/workspace/"), Visit("team/workspace/", "member")),
}
NO_PAGE = {
    "": AWAY,
    "account/confirm-email/": UNFILLED,
    "account/^confirm-email/(?P<key>[-:\\w]+)/$": "is shadowed by the same address above it",
    "account/password/set/": AWAY,
    "account/login/code/confirm/": AWAY,
    "account/2fa/recovery-codes/download/": FILE,
    "theme/": POST,
    "livez": PLAIN,
    "readyz": PLAIN,
    "w/switch/<str:name>/": POST,
    "team/invitations/<int:pk>/resend/": POST,
    "team/invitations/<int:pk>/withdraw/": POST,
    "team/audit-log/export.csv": FILE,
    "tokens/usage/export.csv": FILE,
    "team/members/<int:pk>/role/": POST,
    "team/workspace/security/": POST,
    "team/workspace/webhook/": POST,
    "team/workspace/webhook/secret/": POST,
    "team/workspace/webhook/remove/": POST,
    "team/workspace/webhook/test/": POST,
    "start/sample/": POST,
    "start/token/": POST,
    "tokens/<slug:public_id>/row/": PART,
    "tokens/<slug:public_id>/state/": PART,
    "tokens/<slug:public_id>/datasets/": PART,
    "tokens/<slug:public_id>/undo/": POST,
    "tokens/<slug:public_id>/apply-now/": POST,
    "tokens/<slug:public_id>/fix/": POST,
    "tokens/<slug:public_id>/disable/": POST,
    "tokens/<slug:public_id>/enable/": POST,
    "tokens/<slug:public_id>/restore/": POST,
    "tokens/<slug:public_id>/reveal/": POST,
    "tokens/<slug:public_id>/duplicate/": POST,
    "datasets/<str:name>/records.csv": FILE,
    "datasets/<str:name>/restore/": POST,
    "datasets/<str:name>/deletions/<int:deletion_id>/restore/": POST,
    "jobs/<str:job_id>/cancel/": POST,
    "jobs/<str:job_id>/retry/": POST,
    "jobs/<str:job_id>/invalid.csv": FILE,
}


def visits(*, of_owner: bool) -> Iterator[Visit]:
    """The visits of the owner, or those of everybody else, one person's after another's."""
    found = [visit for of_route in PAGES.values() for visit in of_route if (visit.who == "owner") is of_owner]
    yield from sorted(found, key=lambda visit: visit.who)
