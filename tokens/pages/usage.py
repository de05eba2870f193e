"""The page "Usage" and its CSV, for every member."""

from typing import Any

from django.http import HttpResponseBase, StreamingHttpResponse
from django.shortcuts import get_object_or_404, render
from django.views.decorators.http import require_GET, require_safe

from apperate.accounts.addresses import client_address
from apperate.accounts.audit import trail
from apperate.accounts.decorators import MemberRequest, workspace_member
from apperate.database.clock import database_now
from tokens.models import Token
from tokens.usage import report as usage_report
from tokens.usage.csv_file import csv_parts
from tokens.usage.figures import MEASURES
from tokens.usage.periods import MONTH, PERIODS, span_of


def chosen(request: MemberRequest) -> tuple[str, Token | None, str]:
    """Period, token and measure from the query string; unknown values fall back to the defaults."""
    period, measure = request.GET.get("period", ""), request.GET.get("show", "")
    public_id = request.GET.get("token", "")
    is_one = public_id.isascii() and public_id.isprintable()
    tokens = request.workspace.tokens if is_one else request.workspace.tokens.none()
    token = get_object_or_404(tokens, public_id=public_id) if public_id else None
    return (
        period if period in PERIODS else MONTH,
        token,
        measure if measure in MEASURES else "",
    )


@require_safe
@workspace_member
def usage(request: MemberRequest) -> HttpResponseBase:
    now = database_now()
    period, token, measure = chosen(request)
    span = span_of(period, now=now)
    report = usage_report.report(request.workspace, token, span, now=now, shown=measure)
    context: dict[str, Any] = {
        "report": report,
        "span": span,
        "token": token,
        "now": now,
        "periods": [(value, title, value == period) for value, title in PERIODS.items()],
        "measures": [
            (name, name.capitalize(), report is not None and name == report.shown) for name in MEASURES
        ],
        "tokens": usage_report.tokens_to_choose(request.workspace),
    }
    return render(request, "tokens/usage.html", context, status=200 if report else 503)


@require_GET
@workspace_member
def usage_export(request: MemberRequest) -> HttpResponseBase:
    """The span's counts as a CSV; the export is audited."""
    now = database_now()
    period, token, _ = chosen(request)
    trail.record(
        "usage.exported",
        workspace=request.workspace,
        by=request.user,
        now=now,
        target=token.public_id if token else "",
        after={"period": PERIODS[period]},
        address=client_address(request),
    )
    # request.workspace is lazy and needs the session, which is closed by then.
    workspace = request.membership.workspace
    name = f"usage-{workspace.name}-{period}-{now:%Y-%m-%d}.csv"
    return StreamingHttpResponse(
        csv_parts(workspace, token, span_of(period, now=now)),
        content_type="text/csv; charset=utf-8",
        headers={
            "Content-Disposition": f'attachment; filename="{name}"',
            "Cache-Control": "private, no-store",
        },
    )
