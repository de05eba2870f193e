"""/livez and /readyz, for whoever looks after the processes from inside: under any Host, and without https.

Health                 middleware that answers both before sessions, hosts and the rest are looked at
livez(), readyz()      the answers, and the views of their addresses
"""

from collections.abc import Callable

from django.db import connection
from django.http import HttpRequest, HttpResponse
from django.views.decorators.http import require_safe

from apperate.database.outage import UNAVAILABLE, outage

GetResponse = Callable[[HttpRequest], HttpResponse]


def plain(text: str, *, status: int = 200) -> HttpResponse:
    headers = {"X-Content-Type-Options": "nosniff"}
    return HttpResponse(f"{text}\n", status=status, headers=headers, content_type="text/plain; charset=utf-8")


@require_safe
def livez(request: HttpRequest) -> HttpResponse:
    """The process answers; nothing else is checked."""
    return plain("ok")


@require_safe
def readyz(request: HttpRequest) -> HttpResponse:
    """The database answers too; when it has just ended the connection, it is asked on another one."""
    for is_last in (False, True):
        try:
            with connection.cursor() as cursor:
                cursor.execute("SELECT 1")
            break
        except UNAVAILABLE as error:
            connection.close()
            if is_last:
                outage.note(error)
                answer = plain("The database does not answer.", status=503)
                answer.headers["Retry-After"] = "2"
                # By outage, once a minute and not for each probe.
                answer._has_been_logged = True  # type: ignore[attr-defined]
                return answer
    return plain("ok")


ANSWERS: dict[str, GetResponse] = {"/livez": livez, "/readyz": readyz}


class Health:
    """A probe knows neither the public name nor the proxy's headers, and must not need them."""

    def __init__(self, get_response: GetResponse) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        return ANSWERS.get(request.path_info, self.get_response)(request)
