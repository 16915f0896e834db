"""Classes of Django that are generic to the type checker alone, made subscriptable at run time.

django-stubs' own patch does that for every such class, and for it every process imports Django's
test client and generic views: 0.4 s. These are the ones that the hub subclasses.
"""

from __future__ import annotations

from typing import Any

from django.contrib.admin import ModelAdmin, TabularInline
from django.core.paginator import Paginator
from django.forms import ModelChoiceField


def _itself(cls: Any, _: object) -> Any:
    return cls


_GENERICS: tuple[Any, ...] = (ModelAdmin, TabularInline, Paginator, ModelChoiceField)
for _generic in _GENERICS:
    if not hasattr(_generic, "__class_getitem__"):
        _generic.__class_getitem__ = classmethod(_itself)
