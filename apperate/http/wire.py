"""What is refused of a request before any of it is interpreted: sizes, repeated headers, Host, codings.

The server has told requests apart by then; what it takes that a proxy could read in another way is refused.
Source: docs/security-checks.md, S11 and S35.
"""

import re
from typing import Any

from apperate.kernel.refusals import Refusal

TARGET_BYTES_MAX = 16_384
HEADER_BYTES_MAX = 32_768
# Repeating one of these is ambiguous.
ONCE = {
    b"authorization",
    b"x-api-key",
    b"host",
    b"origin",
    b"referer",
    b"x-iex-date",
    b"content-length",
    b"transfer-encoding",
}
_HOST = re.compile(rb"(?:[A-Za-z0-9._~%-]+|\[[0-9A-Fa-f:.]+\])(?::[0-9]{0,5})?")


def refuse_wire(scope: dict[str, Any]) -> Refusal | None:
    """What is wrong with a request at the protocol level, before any of it is interpreted."""
    names = [name.lower() for name, _ in scope["headers"]]
    target_bytes = len(scope.get("raw_path") or scope["path"]) + len(scope["query_string"])
    if target_bytes > TARGET_BYTES_MAX:
        return Refusal(
            "url-too-long",
            f"The URL may have at most {TARGET_BYTES_MAX:,} bytes.",
            received=f"{target_bytes:,} bytes",
            needed=f"at most {TARGET_BYTES_MAX:,} bytes",
        )
    header_bytes = sum(len(name) + len(value) for name, value in scope["headers"])
    if header_bytes > HEADER_BYTES_MAX:
        return Refusal(
            "headers-too-large",
            f"The headers may have at most {HEADER_BYTES_MAX:,} bytes in all.",
            received=f"{header_bytes:,} bytes",
            needed=f"at most {HEADER_BYTES_MAX:,} bytes",
        )
    if repeated := {name for name in names if names.count(name) > 1} & ONCE:
        listed = ", ".join(sorted(name.decode() for name in repeated))
        return Refusal(
            "invalid-values",
            f"Send each of these headers once: {listed}.",
            received=f"{listed} repeatedly",
            needed="each header once",
        )
    for name, value in scope["headers"]:
        if name.lower() == b"host" and not _HOST.fullmatch(value) and scope.get("http_version") != "1":
            # The server adds an empty Host where there was none; HTTP/1.0, which it calls "1", needs none.
            return Refusal(
                "invalid-values",
                "The request does not say which host it is for.",
                received=f"Host: {value[:40].decode('latin-1')}" if value else "no Host",
                needed="one Host header with a host name or an address, and its port if it has one",
            )
        if name.lower() == b"transfer-encoding" and value.strip().lower() != b"chunked":
            return refused_coding(value.decode("latin-1"))
        if name.lower() == b"content-encoding" and value.strip().lower() not in {
            b"",
            b"identity",
            b"undefined",
        }:
            shown = value[:40].decode("latin-1")
            return Refusal(
                "unsupported-encoding",
                "The body must not be encoded.",
                received=f"Content-Encoding: {shown}",
                needed="no Content-Encoding",
            )
    return None


def refused_coding(value: str) -> Refusal:
    """The server takes whatever ends in "chunked" as chunks alone; a proxy could see another body in it."""
    return Refusal(
        "unsupported-encoding",
        "The body may be sent in chunks, and not be encoded besides.",
        received=f"Transfer-Encoding: {value[:40]}",
        needed="Transfer-Encoding: chunked, or a Content-Length",
    )
