"""refusal_of(): the refusal of an invalid signature; includes the server's time where that helps."""

from apperate.kernel.refusals import Refusal
from tokens.rules.signing import ALGORITHM, SIGNED_HEADERS, WINDOW, Fault, Presented, date_of

FORM = (
    f"Authorization: {ALGORITHM} Credential=<token>/<day>/iex_request, "
    f"SignedHeaders={SIGNED_HEADERS}, Signature=<64 hex>"
)
MINUTES = int(WINDOW.total_seconds()) // 60
DETAILS = {
    Fault.MALFORMED: "The Authorization header is not a signature in the one form that is accepted.",
    Fault.DATE_MALFORMED: "The x-iex-date header is not a date in UTC.",
    Fault.OTHER_DAY: "The day in the Credential is not the day of the x-iex-date header.",
    Fault.OTHER_TOKEN: "The token in the Credential is not the token that was sent beside the signature.",
    Fault.OTHER_REQUEST: "The signature was made with another secret, or for another request: method, path, "
    "query, Host, date and body are signed exactly as they are sent.",
}
NEEDED = {
    Fault.MALFORMED: FORM,
    Fault.DATE_MALFORMED: "x-iex-date: YYYYMMDDTHHMMSSZ",
    Fault.OTHER_DAY: "Credential=<token>/<the first eight digits of x-iex-date>/iex_request",
    Fault.OTHER_TOKEN: "one token, in both places",
    Fault.OTHER_REQUEST: "a signature with the token's signing secret, or the workspace's secret token, "
    "over the request as it is sent",
}


def refusal_of(fault: Fault, presented: Presented | None) -> Refusal:
    """The refusal of a fault. `presented` is None when the request carries no signature."""
    if fault is Fault.MISSING or presented is None:
        return Refusal(
            "signature-required",
            f"This token accepts signed requests only, and this request is not signed with {ALGORITHM}.",
            check="signature",
            received="no signature",
            needed=FORM,
        )
    if fault in (Fault.TOO_OLD, Fault.TOO_NEW):
        at = presented.received_at
        side = "older" if fault is Fault.TOO_OLD else "further ahead"
        return Refusal(
            "signature-invalid",
            f"The date of the signature is {side} than {MINUTES} minutes. The server's time is "
            f"{at:%Y-%m-%d %H:%M:%S} UTC: compare the clock of the machine that signs.",
            check="signature",
            received=f"x-iex-date: {presented.request.date}",
            needed=f"x-iex-date within {MINUTES} minutes of {date_of(at)}",
        )
    return Refusal(
        "signature-invalid", DETAILS[fault], check="signature",
        received=_received(fault, presented), needed=NEEDED[fault],
    )  # fmt: skip


def unreadable() -> Refusal:
    """No signature can be checked, because the secret for it cannot be decrypted."""
    return Refusal(
        "unavailable",
        "The signature cannot be checked: the token's signing secret cannot be decrypted. "
        "An operator must look at the key ring.",
        check="signature",
        needed="the keys that encrypted the secret",
        retry_after_seconds=60,
    )


def reused(received_date: str) -> Refusal:
    """A write repeated with the same signature."""
    return Refusal(
        "signature-reused",
        "A request that changes something came with a signature that was used before. Nothing was changed.",
        check="signature",
        received=f"a signature of {received_date} that was used",
        needed="a signature of its own for each write",
    )


def _received(fault: Fault, presented: Presented) -> str:
    if fault in (Fault.DATE_MALFORMED, Fault.OTHER_DAY):
        return f"x-iex-date: {presented.request.date[:40]}"
    return (
        "a signature that does not belong to this request"
        if fault is Fault.OTHER_REQUEST
        else "another header"
    )
