"""Outgoing answers: JSON, the link to the next page, ETag, compression, CORS, cost headers.

Source: docs/api.md, Answers.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from functools import partial
from typing import IO, Any
from urllib.parse import quote, urlencode

import simplejson
from django.http import HttpResponse, HttpResponseBase, StreamingHttpResponse

from apperate.database import shares
from apperate.http import delivery
from apperate.http.data_plane import raw_path_of
from apperate.http.problems import JSON
from tokens.gate import payment
from tokens.gate.calls import Answer, ApiRequest, Call
from tokens.rules import domains
from tokens.rules.permissions import PREMIUM

SHORT_BYTES = 100_000
FILE_PART_BYTES = 256 * 1024
LINK_CHARS_MAX = 8_000


def json_answer(document: dict[str, Any], **facts: Any) -> Answer:
    """An Answer with a JSON document."""
    return Answer(simplejson.dumps(document).encode(), JSON, **facts)


def pairs(parameters: Any) -> list[tuple[str, str]]:
    """The query string's names and values, including repeated names."""
    return [(name, value) for name, values in parameters.lists() for value in values]


def paging_headers(call: Call, cursor: str) -> dict[str, str]:
    """The headers that lead to the next page. The link contains no token: clients send theirs again."""
    asked = [(name, value) for name, value in pairs(call.request.GET) if name not in ("token", "cursor")]
    # The path is repeated as sent, but characters that could end the link are escaped.
    path = quote(raw_path_of(call.request.scope), safe="/%:@!$&'()*+,;=~-._")
    link = f'<{path}?{urlencode([*asked, ("cursor", cursor)])}>; rel="next"'
    headers = {"Apperate-Next-Cursor": cursor}
    return headers | {"Link": link} if len(link) <= LINK_CHARS_MAX else headers


async def etag_of(call: Call, answer: Answer, *, is_priced: bool) -> str:
    """The ETag of an answer. For priced data it is specific to this token and query, so that only those who
    paid for the answer know it.
    """
    if not is_priced or answer.is_free:
        return await aside(answer, answer.etag)
    asked = sorted(pair for pair in pairs(call.request.GET) if pair[0] != "token")
    more = (call.token.public_id, call.request.path, repr(asked))
    return await aside(answer, partial(answer.etag, *more, key=payment.etag_key()))


async def compressed(call: Call, answer: Answer) -> HttpResponseBase:
    """The answer with its headers, compressed when it is long enough and the client accepts that."""
    if answer.file is not None:
        headers = answer.headers | {"Content-Length": str(answer.file_bytes)}
        parts = file_parts(answer.file)
        sent = StreamingHttpResponse(parts, content_type=answer.content_type, headers=headers)
        sent._resource_closers.append(answer.file.close)  # type: ignore[attr-defined]
        return sent
    response = HttpResponse(answer.body, content_type=answer.content_type, headers=answer.headers)
    encoding = delivery.encoding_for(call.request.headers.get("Accept-Encoding", ""))
    if encoding and len(answer.body) >= delivery.COMPRESSED_BYTES_MIN:
        response.content = await aside(answer, lambda: delivery.compressed(answer.body, encoding))
        response.headers["Content-Encoding"] = encoding
    return response


async def file_parts(file: IO[bytes]) -> AsyncIterator[bytes]:
    """The rest of a file, read off the event loop."""
    while part := await asyncio.to_thread(file.read, FILE_PART_BYTES):
        yield part


async def aside(answer: Answer, work: Callable[[], Any]) -> Any:
    """The result of `work` on an answer's body, run off the event loop when the body is long."""
    return await shares.in_body_thread(work) if len(answer.body) > SHORT_BYTES else work()


def share_with_origin(call: Call, response: HttpResponseBase) -> None:
    """CORS of a 2xx answer: any origin, or for a token with domain rules the one that matched.

    A Referer alone has an origin too. Report-only rules let every page call, so every page may read.
    """
    versions = call.token.versions(now=call.now)
    if not any(version.allowed_domains and not version.domains_report_only for version in versions):
        response.headers["Access-Control-Allow-Origin"] = "*"
        return
    headers = call.request.headers
    origin = headers.get("Origin") or domains.origin_of(headers.get("Referer", ""))
    response.headers["Access-Control-Allow-Origin"] = origin or "*"
    response.headers["Vary"] += ", Origin"


def say_rate(request: ApiRequest, response: HttpResponseBase) -> None:
    """How many more requests the token may send, on answers to counted requests."""
    if (rate := request.rate) is not None:
        for name, text in rate.headers.items():
            response.headers[name] = text


def say_cost(response: HttpResponseBase, cost: int, workspace: str) -> None:
    """What the answer costs, in the headers older clients read; PREMIUM has its own."""
    premium = cost if workspace == PREMIUM else 0
    for name, figure in (("credits", cost - premium), ("premium-credits", premium)):
        response.headers[f"iexcloud-{name}-used"] = str(figure)
        response.headers[f"iexcloud-{name.replace('credits', 'messages')}-used"] = str(figure)
