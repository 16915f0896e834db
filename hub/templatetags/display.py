"""How pages show sizes, times, numbers, hashes and statuses. What is unknown says so, never blank.

`static/js/figures.js` formats the numbers that change while a page is open; tests/pages/in_browser/test_figures.py
holds both to the same results.
"""

from __future__ import annotations

import math
from datetime import UTC, datetime
from typing import Any, Literal

from django import template
from django.urls import reverse
from django.utils import timezone
from django.utils.html import format_html
from django.utils.safestring import SafeString

from registry.bases import speed
from registry.commands import typed
from registry.models import BaseImport
from registry.storage.sizes import human
from registry.versions.comparison import flatten
from registry.versions.measures import measure, percent
from training.config.vocabulary import LABELS, labelled

register = template.Library()
register.filter(percent)

UNKNOWN = SafeString('<span class="unknown">unknown</span>')
NOT_YET = SafeString('<span class="muted">–</span>')

_BRIEF = 24  # characters

_TONES = {
    "ready": "ok",
    "completed": "ok",
    "ok": "ok",
    "up": "ok",
    "passed": "ok",
    "bit-exact": "ok",
    "close": "ok",
    "running": "run",
    "training": "run",
    "queued": "warn",
    "warning": "warn",
    "cancelled": "",
    "archived": "",
    "failed": "bad",
    "broken": "bad",
    "down": "bad",
    "diverged": "bad",
    "error": "bad",
}


@register.simple_tag
def command(words: str) -> str:
    """A command as it is typed here: `{% command "doctor" %}`."""
    return typed(words)


@register.simple_tag
def badge(status: str, label: str = "") -> SafeString:
    """A status as text with a colour: `{% badge job.status job.get_status_display %}`."""
    text = label or status.replace("_", " ").capitalize()
    return format_html('<span class="badge {}">{}</span>', _TONES.get(status, ""), text)


# Pages whose addresses do not say to which place of the navigation they belong.
_BELONG = {"models": ("compare",), "jobs": ("start",)}


@register.simple_tag(takes_context=True)
def current(context: template.Context, url_name: str) -> SafeString:
    """`aria-current="page"` when the page shown lies below the named one, or belongs to it."""
    request = context.get("request")
    path = getattr(request, "path", "")
    target = reverse(url_name)
    below = (target, *map(reverse, _BELONG.get(url_name, ())))
    inside = path == target if target == "/" else path.startswith(below)
    return SafeString('aria-current="page"') if inside else SafeString("")


@register.simple_tag(takes_context=True)
def query_with(context: template.Context, **changes: Any) -> str:
    """The page's query string with some of its parameters replaced; empty ones are dropped."""
    query = context["request"].GET.copy()
    for name, value in changes.items():
        query[name] = value
    for name in [name for name, value in query.items() if value in ("", None)]:
        del query[name]
    return f"?{query.urlencode()}"


@register.filter
def size(value: float | Literal[""] | None) -> str | SafeString:
    """Bytes for a person: `98.4 MB`. Powers of 1000, as macOS and disks count."""
    if value is None or value == "":  # a template passes "" for what is not there
        return UNKNOWN
    return human(value)


@register.filter
def received(task: BaseImport) -> str:
    """How much of a model has arrived, how fast, and how long the rest takes."""
    return speed.received(task)


@register.filter
def count(value: float | Literal[""] | None) -> str | SafeString:
    """A whole number: `12,345`; millions and billions as `134.5 M`."""
    if value is None or value == "":
        return UNKNOWN
    if value >= 1e9:
        return f"{value / 1e9:.1f} B"
    if value >= 1e6:
        return f"{value / 1e6:.1f} M"
    return f"{value:,.0f}"


@register.filter
def figure(value: Any) -> str | SafeString:
    """A measured number with four significant digits, from 10,000 on with commas; other values as they
    are."""
    if value is None or value == "":
        return NOT_YET
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        short = float(f"{value:.4g}")
        return f"{short:,.0f}" if 10_000 <= abs(short) < math.inf else f"{value:.4g}"
    if isinstance(value, int) and abs(value) >= 10_000:
        return f"{value:,}"
    return str(value)


@register.filter
def ratio(value: float | None) -> str | SafeString:
    """0.8333 → `0.83`: a precision, recall or F1 of a table."""
    return UNKNOWN if value is None else f"{value:.2f}"


@register.filter
def rate(value: float | Literal[""] | None) -> str | SafeString:
    """Tokens per second."""
    return (
        NOT_YET
        if value is None or value == ""
        else f"{value:,.0f}"
        if value >= 100
        else f"{value:.1f}"
    )


@register.filter
def ms(value: float | Literal[""] | None) -> str | SafeString:
    """Milliseconds for a person: `153 ms`, `1.24 s`, `2 min 5 s`."""
    if value is None or value == "":
        return NOT_YET
    if value < 1000:
        return f"{value:.0f} ms"
    return f"{value / 1000:.2f} s" if value < 60_000 else str(duration(value / 1000))


@register.filter
def duration(seconds: float | Literal[""] | None) -> str | SafeString:
    """Seconds for a person: `42 s`, `2 min 5 s`, `3 h 20 min`."""
    if seconds is None or seconds == "":
        return NOT_YET
    whole = max(0, round(seconds))
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


@register.filter
def ago(moment: datetime | Literal[""] | None) -> SafeString:
    """`<time>` that reads `3 min ago`; a script keeps it true."""
    if not moment:
        return NOT_YET
    return _time(moment, "ago", _relative((timezone.now() - moment).total_seconds()))


@register.filter
def clock(moment: datetime) -> SafeString:
    """`<time>` that reads `14:05:09 UTC`."""
    return _time(moment, "clock", f"{moment.astimezone(UTC):%H:%M:%S}")


@register.filter
def minute(moment: datetime | None) -> SafeString:
    """`<time>` that reads `2026-11-30 14:05 UTC`."""
    return (
        _time(moment, "minute", f"{moment.astimezone(UTC):%Y-%m-%d %H:%M}") if moment else NOT_YET
    )


@register.filter
def day(moment: datetime | None) -> SafeString:
    """`<time>` that reads `2026-11-30`, of UTC's day."""
    return _time(moment, "day", f"{moment.astimezone(UTC):%Y-%m-%d}") if moment else NOT_YET


def _time(moment: datetime, kind: str, text: str) -> SafeString:
    """A moment in UTC, with the whole of it as title; `static/js/times.js` puts it into the reader's zone.
    Where scripts run, the word UTC takes no room even before, so that nothing moves."""
    utc = moment.astimezone(UTC)
    zone = SafeString(' <span class="utc">UTC</span>') if kind in ("clock", "minute") else ""
    return format_html(
        '<time datetime="{}" title="{}" data-time="{}">{}{}</time>',
        utc.isoformat(timespec="seconds"),
        f"{utc:%Y-%m-%d %H:%M:%S} UTC",
        kind,
        text,
        zone,
    )


@register.filter
def soon(moment: datetime) -> str:
    """A moment to come: `in 12 s`; `in a moment` once it is due."""
    seconds = (moment - timezone.now()).total_seconds()
    return "in a moment" if seconds < 1 else f"in {duration(seconds)}"


def _relative(seconds: float) -> str:
    if seconds < 5:
        return "just now"
    if seconds < 60:
        return f"{seconds // 1:.0f} s ago"
    if seconds < 3600:
        return f"{seconds // 60:.0f} min ago"
    if seconds < 86_400:
        return f"{seconds // 3600:.0f} h ago"
    days = int(seconds // 86_400)
    return f"{days} day{'s' if days > 1 else ''} ago"


@register.filter
def short(digest: str | None) -> SafeString:
    """The first twelve characters of a hash; the whole of it as title."""
    if not digest:
        return UNKNOWN
    return format_html('<code title="{}">{}</code>', digest, digest[:12])


@register.filter
def brief(name: Any) -> str | SafeString:
    """A name on two lines at most, with the whole of a long one as title."""
    text = str(name)
    if len(text) <= _BRIEF:
        return text
    return format_html('<span class="name" title="{}">{}</span>', text, text)


@register.filter
def known(value: Any) -> Any:
    """The value, or the word unknown."""
    return UNKNOWN if value is None or value == "" else value


@register.filter
def words(name: str) -> str:
    """`peak_memory_bytes` → `peak memory`."""
    return name.removesuffix("_bytes").replace("_", " ")


@register.filter
def measured(name: str) -> str:
    """`exact_match` → `Exact answers`: a figure of a version by its name in words."""
    return measure(name).label


@register.filter
def measured_as(value: Any, name: str) -> Any:
    """The value of the figure `name` as tables show it: shares in percent."""
    share = measure(name).share and isinstance(value, int | float)
    return percent(value) if share else figure(value)


@register.filter
def change_in(difference: float, name: str) -> str:
    """By how much the figure `name` differs: `+4 points` of a share, `-0.012`."""
    share = measure(name).share
    shown = f"{100 * difference:.3g} points" if share else str(figure(difference))
    return f"+{shown}" if difference > 0 else shown


@register.filter
def setting(name: str) -> str:
    """`lora.rank` → `LoRA rank`: a training setting by its name in the form."""
    return LABELS.get(name) or words(name)


@register.filter
def settings_in_words(params: dict[str, Any]) -> list[tuple[str, Any]]:
    """(name in the form, value) of each stored training setting, in the form's order; then what no
    form of this hub has."""
    other = {name: value for name, value in flatten(params).items() if name not in LABELS}
    more = [(setting(name), value) for name, value in other.items() if value not in (None, "")]
    return [*(labelled(params) if params else []), *more]


@register.filter
def entry(mapping: dict[str, Any] | None, key: str) -> Any:
    """`mapping[key]`, or None."""
    return (mapping or {}).get(key)
