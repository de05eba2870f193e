"""Template tags of every page: icons, avatars, small charts, and relative times."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from django import template
from django.template.defaultfilters import date as date_filter
from django.templatetags.static import static
from django.utils import timezone
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString

from apperate.dashboard import charts
from apperate.http.static_files import style_addresses

register = template.Library()
# Marks in a User-Agent, first match wins: most browsers also name the browsers they imitate.
BROWSERS = (
    ("Edg", "Edge"), ("OPR/", "Opera"), ("Firefox/", "Firefox"), ("FxiOS/", "Firefox"),
    ("CriOS/", "Chrome"), ("Chrome/", "Chrome"), ("Safari/", "Safari"), ("curl/", "curl"),
)  # fmt: skip
SYSTEMS = (
    ("iPhone", "iPhone"), ("iPad", "iPad"), ("Android", "Android"), ("Windows", "Windows"),
    ("Mac OS X", "macOS"), ("CrOS", "ChromeOS"), ("Linux", "Linux"),
)  # fmt: skip
MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)


@register.simple_tag
def icon(name: str, css_class: str = "") -> SafeString:
    """An icon from the sprite; hidden from screen readers."""
    return format_html(
        '<svg class="i{}" aria-hidden="true"><use href="{}#{}"/></svg>',
        f" {css_class}" if css_class else "",
        static("vendor/icons.svg"),
        name,
    )


@register.simple_tag
def styles() -> SafeString:
    """Links to the style sheets of every page. Links, and no imports: a browser finds them all at once."""
    return format_html_join("\n", '<link rel="stylesheet" href="{}">', ((it,) for it in style_addresses()))


@register.simple_tag
def meter(value: float, top: float | None) -> SafeString:
    """A bar of how much of `top` is used; the figures belong in the text beside it."""
    return charts.meter(value, top)


@register.simple_tag
def share(percent: float) -> SafeString:
    """A share of a whole, without a limit to warn about; the figures belong in the text beside it."""
    return charts.meter(percent, 100, is_limit=False)


@register.simple_tag
def sparkline(values: Sequence[float], css_class: str = "s1") -> SafeString:
    """A line through the values, oldest first."""
    return charts.sparkline(values, css_class=css_class)


@register.simple_tag
def when(moment: datetime | None, never: str = "Never", now: datetime | None = None) -> SafeString:
    """A relative time, with the absolute UTC time as its title."""
    if moment is None:
        return format_html('<span class="muted">{}</span>', never)
    return time_element(moment, relative(moment, now=now or timezone.now()))


@register.simple_tag
def at(moment: datetime, date_format: str) -> SafeString:
    """A UTC time in a format of the `date` filter, with the full time as its title."""
    return time_element(moment, date_filter(moment.astimezone(UTC), date_format))


def time_element(moment: datetime, words: str) -> SafeString:
    moment = moment.astimezone(UTC)
    return format_html(
        '<time datetime="{}" title="{}">{}</time>',
        moment.isoformat(timespec="seconds"),
        f"{moment:%Y-%m-%d %H:%M:%S} UTC",
        words,
    )


def relative(moment: datetime, *, now: datetime) -> str:
    """ "14 min ago", "in 2 hours", "yesterday", or the date when it is more than a week away."""
    distance = now - moment
    if moment > now:
        # A future time is rounded, so that five days from now do not read "in 4 days" a minute later.
        distance = moment - now
        distance += (DAY if distance >= 2 * DAY else MINUTE) / 2
    if distance < MINUTE:
        return "just now" if moment <= now else "in less than a minute"
    if distance >= 7 * DAY:
        return f"{moment.day} {moment:%b %Y}"
    if distance < HOUR:
        words = f"{distance // MINUTE} min"
    elif distance < DAY:
        words = count_of(distance // HOUR, "hour")
    elif distance < 2 * DAY:
        return "yesterday" if moment < now else "tomorrow"
    else:
        words = count_of(distance // DAY, "day")
    return f"{words} ago" if moment < now else f"in {words}"


def count_of(count: int, unit: str) -> str:
    return f"{count} {unit}" if count == 1 else f"{count} {unit}s"


@register.filter
def browser(user_agent: str) -> str:
    """The browser and system that a User-Agent names, by their usual names; its own text if neither."""
    names = [next((name for mark, name in marks if mark in user_agent), "") for marks in (BROWSERS, SYSTEMS)]
    return " on ".join(filter(None, names)) or user_agent[:60] or "Unknown"


@register.simple_tag
def avatar(user: object) -> SafeString:
    """A person's initials in a circle; the name belongs in the text beside it."""
    return format_html('<span class="avatar" aria-hidden="true">{}</span>', getattr(user, "initials", "?"))
