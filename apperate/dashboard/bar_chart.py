"""Stacked bars as SVG, like charts.py: no script, no inline style, colours from CSS classes."""

from collections.abc import Sequence
from math import ceil, floor, log10

from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString

from apperate.dashboard.charts import percent

HEIGHT, TICKS, BAR_SHARE = 240, 4, 0.62
Series = tuple[str, str, Sequence[int]]


def nice_step(top: float, ticks: int = TICKS) -> int:
    """The distance between grid lines: 1, 2, 2.5 or 5 times a power of ten, and a whole number."""
    raw = max(top, 1) / ticks
    size = 10 ** floor(log10(raw))
    return max(1, ceil(next(times * size for times in (1, 2, 2.5, 5, 10) if times * size >= raw)))


def short(count: float) -> str:
    """ "950", "1.5K", "2M", for the axis labels only."""
    for size, unit in ((1e9, "B"), (1e6, "M"), (1e3, "K")):
        if count >= size:
            return f"{count / size:.1f}".removesuffix(".0") + unit
    return f"{count:g}"


def stacked_bars(
    labels: Sequence[str],
    series: Sequence[Series],
    *,
    long_labels: Sequence[str],
    title: str,
    forecast: Sequence[int] = (),
    majors: Sequence[bool] = (),
) -> SafeString:
    """One bar per label; `series` are (name, CSS class, values), drawn from the bottom up.

    `forecast`: the expected values of future bars, 0 for the others. `majors`: the labels to keep where
    there is little room; all by default.
    """
    totals = [sum(values[place] for _, _, values in series) for place in range(len(labels))]
    highest = max([*totals, *forecast], default=0)
    step = nice_step(highest)
    lines = max(1, ceil(highest / step))
    top = lines * step
    axis = format_html_join("", "<span>{}</span>", ((short(line * step),) for line in range(lines, -1, -1)))
    grid = format_html_join(
        "",
        '<line class="{}" x1="0" x2="100%" y1="{}" y2="{}"/>',
        (
            ("grid" if line else "axis", *[f"{HEIGHT * (1 - line / lines):.1f}"] * 2)
            for line in range(lines + 1)
        ),
    )
    columns = format_html_join(
        "",
        "{}",
        (
            (
                _column(
                    place,
                    len(labels),
                    labels[place],
                    long_labels[place],
                    series,
                    top,
                    expected=forecast[place] if forecast else 0,
                    is_major=majors[place] if majors else True,
                ),
            )
            for place in range(len(labels))
        ),
    )
    return format_html(
        '<div class="chart"><div class="y-axis" aria-hidden="true">{}</div>'
        '<svg class="plot" width="100%" height="{}" role="img" aria-label="{}: {}">{}{}</svg></div>',
        axis,
        HEIGHT + 24,
        title,
        ", ".join(f"{label} {total:,}" for label, total in zip(long_labels, totals, strict=True)),
        grid,
        columns,
    )


def _column(
    place: int,
    places: int,
    label: str,
    long_label: str,
    series: Sequence[Series],
    top: int,
    *,
    expected: int,
    is_major: bool,
) -> SafeString:
    slot = 100 / places
    left, width = place * slot + slot * (1 - BAR_SHARE) / 2, slot * BAR_SHARE
    parts, base = [], 0
    if expected:
        height = max(HEIGHT * expected / top, 1)
        parts.append(("ghost", percent(left), f"{HEIGHT - height:.1f}", percent(width), f"{height:.1f}"))
    for _, css_class, values in series:
        if value := values[place]:
            # A gap separates the series, whose colours differ little in lightness.
            height = max(HEIGHT * value / top - (1.5 if base else 0), 1)
            y = HEIGHT * (1 - (base + value) / top)
            parts.append((css_class, percent(left), f"{y:.1f}", percent(width), f"{height:.1f}"))
            base += value
    total = sum(values[place] for _, _, values in series)
    told = "; ".join(f"{name} {values[place]:,}" for name, _, values in series if values[place])
    if expected:
        told = f"Forecast {expected:,}"
    return format_html(
        '<g class="col" data-label="{}" data-total="{}" data-tip="{}">'
        '<title>{}: {}</title><rect class="hit" x="{}" y="0" width="{}" height="{}"/>{}'
        '<text class="tick{}" x="{}" y="{}" text-anchor="middle">{}</text></g>',
        long_label,
        f"{expected or total:,}",
        told,
        long_label,
        told or "none",
        percent(place * slot),
        percent(slot),
        HEIGHT,
        format_html_join("", '<rect class="{}" x="{}" y="{}" width="{}" height="{}" rx="2"/>', parts),
        " major" if is_major else "",
        percent(place * slot + slot / 2),
        HEIGHT + 18,
        label,
    )
