"""What a base model can do here, on its page."""

from __future__ import annotations

from django import template

from hub.catalogue.prospects import Here, of_base
from registry.models import BaseModel

register = template.Library()


@register.simple_tag
def can_do(base: BaseModel) -> Here:
    """`{% can_do base as here %}`."""
    return of_base(base)
