"""Alerts: one table of them, and which of them stand now."""
