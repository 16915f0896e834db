"""Small lines in the cells of a list: `{% loss_line row %}`, `{% request_bars row %}`. What they show is
asked once for all rows of the page."""

from __future__ import annotations

import datetime
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from django import template
from django.db.models import Max, Q
from django.utils import timezone
from django.utils.html import format_html
from django.utils.safestring import SafeString

from hub.templatetags.display import count, figure
from inference.models import InferenceRequest
from registry.models import Model, ModelVersion
from registry.web.lists import Shown
from training.models import TrainingJob, TrainingMetric

register = template.Library()

POINTS = 30
DAYS = 14
MOST_REQUESTS = 5_000  # the newest, which are looked through
_WIDTH, _HEIGHT, _EDGE = 72.0, 20.0, 1.5


@register.simple_tag(takes_context=True)
def loss_line(context: template.Context, row: TrainingJob | ModelVersion) -> str:
    return _once(context, "losses", loss_lines).get(row.pk, "")


@register.simple_tag(takes_context=True)
def request_bars(context: template.Context, row: Model) -> str:
    return _once(context, "requests", requests_of).get(row.pk, "")


def _once(
    context: template.Context, name: str, draw: Callable[[Any], dict[int, SafeString]]
) -> dict[int, SafeString]:
    shown: Shown[Any] = context["list"]
    if name not in shown.drawn:
        shown.drawn[name] = draw(shown.rows)
    found: dict[int, SafeString] = shown.drawn[name]
    return found


def loss_lines(rows: Iterable[TrainingJob | ModelVersion]) -> dict[int, SafeString]:
    """The training loss of jobs, or of the jobs that made versions, which come with the versions, by the
    id of the row."""
    jobs = {
        row.pk: row if isinstance(row, TrainingJob) else getattr(row, "job", None) for row in rows
    }
    losses = _losses({job.pk: job.iteration for job in jobs.values() if job})
    return {pk: line(losses[job.pk]) for pk, job in jobs.items() if job and len(losses[job.pk]) > 1}


def _losses(steps: dict[int, int]) -> dict[int, list[float]]:
    """Some losses of each job, evenly over its steps, each found in the index."""
    wanted = Q()
    for pk, last in steps.items():
        points = {max(1, round(last * n / POINTS)) for n in range(POINTS + 1)}
        if last > 1:
            wanted |= Q(job=pk, iteration__in=points)
    losses: dict[int, list[float]] = defaultdict(list)
    if wanted:
        rows = TrainingMetric.objects.filter(wanted, train_loss__isnull=False)
        for pk, loss in rows.order_by("job", "iteration").values_list("job", "train_loss"):
            losses[pk].append(loss or 0.0)
    return losses


def requests_of(models: Iterable[Model]) -> dict[int, SafeString]:
    """How many of the newest requests each model answered on each of the last days, by its id."""
    keys = [model.pk for model in models]
    newest = InferenceRequest.objects.aggregate(newest=Max("pk"))["newest"] or 0
    today = timezone.now()
    rows = InferenceRequest.objects.filter(
        pk__gt=newest - MOST_REQUESTS,
        created_at__gt=today - datetime.timedelta(days=DAYS),
        version__model__in=keys,
    )
    counts: dict[int, Counter[int]] = defaultdict(Counter)
    for pk, moment in rows.order_by().values_list("version__model", "created_at"):
        ago = max(0, (today - moment).days)  # one may have come since, or the clock was set back
        counts[pk][DAYS - 1 - ago] += 1
    return {pk: bars([of[day] for day in range(DAYS)]) for pk, of in counts.items()}


def line(values: Sequence[float]) -> SafeString:
    """Values as a line from left to right."""
    low, high = min(values), max(values)
    across = _WIDTH / (len(values) - 1)
    room = _HEIGHT - 2 * _EDGE
    places = (
        f"{at * across:.1f} {_EDGE + room * ((high - value) / (high - low) if high > low else 0.5):.1f}"
        for at, value in enumerate(values)
    )
    about = f"Train loss from {figure(values[0])} to {figure(values[-1])}"
    return _drawn("spark", about, f"M{'L'.join(places)}")


def bars(counts: Sequence[int]) -> SafeString:
    """Counts as bars from left to right, of a hair's height where nothing was counted."""
    wide, most = _WIDTH / len(counts), max(counts)
    drawn = "".join(
        f"M{at * wide:.1f} {_HEIGHT:.0f}h{wide - 1.5:.1f}v{-max(1, _HEIGHT * n / most):.1f}h{1.5 - wide:.1f}z"
        for at, n in enumerate(counts)
    )
    requests = f"{count(sum(counts))} request{'s' if sum(counts) > 1 else ''}"
    return _drawn("spark bars", f"{requests} in the last {len(counts)} days", drawn)


def _drawn(name: str, about: str, path: str) -> SafeString:
    return format_html(
        '<svg class="{}" viewBox="0 0 {} {}" preserveAspectRatio="none" role="img"'
        ' aria-label="{}"><title>{}</title><path d="{}"/></svg>',
        *(name, int(_WIDTH), int(_HEIGHT), about, about, path),
    )
