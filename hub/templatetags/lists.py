"""What `_list.html` needs to draw a list (`registry.web.lists`)."""

from __future__ import annotations

from typing import Any

from django import template
from django.template.defaultfilters import register as built_in
from django.template.loader import get_template

from hub.templatetags.display import NOT_YET
from hub.templatetags.display import register as display
from registry.web.lists import Action, Column, Filter, Shown

register = template.Library()
_FILTERS: dict[str, Any] = {**built_in.filters, **display.filters}


@register.simple_tag(takes_context=True)
def cell(context: template.Context, column: Column) -> Any:
    """The cell of `row` in that column: a partial of the page's template, or the attribute through
    the filter that the column names."""
    if not column.show:
        return _partial(context, column.name)
    value = getattr(context["row"], column.name)
    return NOT_YET if value in (None, "") else _FILTERS[column.show](value)


@register.simple_tag(takes_context=True)
def part(context: template.Context, name: str) -> Any:
    """The partial `name` of the page's template."""
    return _partial(context, name)


def _partial(context: template.Context, name: str) -> Any:
    known: dict[str, Any] = context["list"].partials
    if name not in known:
        loaded: Any = get_template(f"{context['cells']}#{name}")
        known[name] = loaded.template
    return known[name].render(context)


@register.simple_tag
def opens(shown: Shown[Any], row: Any) -> str:
    """The address of the list with that row's summary beside it."""
    address = shown.here
    return f"{address}{'&' if '?' in address else '?'}open={row.pk}"


@register.simple_tag
def acts(shown: Shown[Any], row: Any) -> list[tuple[Action[Any], str]]:
    """What can be done with that row, each with its address."""
    return shown.actions_of(row)


@register.simple_tag
def called(one: Filter, value: str) -> str:
    """The value of a filter that came with a link, in words."""
    return one.words(value)


@register.filter
def key_of(row: Any, shown: Shown[Any]) -> str:
    """By what a form names the row."""
    return str(getattr(row, shown.listing.key))


@register.filter
def named(row: Any, shown: Shown[Any]) -> str:
    """What the row is called."""
    return shown.listing.heading(row)
