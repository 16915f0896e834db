"""The one list of all pages that list things: filters, order, columns, pages by key, a summary of
one row, and actions on the rows that are selected."""

from registry.web.lists.acting import act
from registry.web.lists.actions import Action
from registry.web.lists.filters import Filter
from registry.web.lists.keyset import Order
from registry.web.lists.listing import Column, Listing, Shown

__all__ = ["Action", "Column", "Filter", "Listing", "Order", "Shown", "act"]
