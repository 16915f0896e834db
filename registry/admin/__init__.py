"""The registry in Django's admin: the tables, and how their long lists are searched."""

from registry.admin import tables as tables
from registry.admin import work as work
