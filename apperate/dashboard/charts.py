"""Small charts as SVG: no script, no inline style; colours come from CSS classes.

Horizontal positions are percentages and vertical ones pixels, so an <svg> without a viewBox stretches
with its card while corners and lines keep their size.
"""

from collections.abc import Sequence

from django.utils.html import format_html
from django.utils.safestring import SafeString

NEAR_LIMIT_PERCENT = 90
SPARKLINE_HEIGHT = 36


def percent(share: float) -> str:
    """A length for SVG, with at most three decimals."""
    return f"{share:.3f}".rstrip("0").rstrip(".") + "%"


def meter(value: float, top: float | None, *, is_limit: bool = True) -> SafeString:
    """A bar of value out of top, empty without one. Amber near a limit, red from the limit on."""
    share = min(100.0, max(0.0, value * 100 / top)) if top else 0.0
    is_near = is_limit and top and share >= NEAR_LIMIT_PERCENT
    state = "" if not is_near else " warn" if share < 100 else " bad"
    return format_html(
        '<svg class="meter{}" width="100%" height="6" aria-hidden="true">'
        '<rect class="track" width="100%" height="6" rx="3"/>'
        '<rect class="fill" width="{}" height="6" rx="3"/></svg>',
        state,
        percent(share),
    )


def sparkline(
    values: Sequence[float], *, css_class: str = "s1", height: int = SPARKLINE_HEIGHT
) -> SafeString:
    """A line through the values, oldest first. The figures themselves belong in the text beside it."""
    if len(values) < 2:
        values = [0, *values, *([0] if not values else [])]
    top, last = max(values) or 1, len(values) - 1
    line = " ".join(
        f"{place * 100 / last:.1f},{height - 2 - (height - 4) * value / top:.1f}"
        for place, value in enumerate(values)
    )
    return format_html(
        '<svg class="spark {}" viewBox="0 0 100 {}" preserveAspectRatio="none" aria-hidden="true">'
        '<polygon points="0,{} {} 100,{}"/><polyline points="{}"/></svg>',
        css_class,
        height,
        height,
        line,
        height,
        line,
    )
