"""Bytes for a person, in the same units everywhere: pages, messages, commands."""

from __future__ import annotations

GB = 10**9


def human(nbytes: float) -> str:
    """`98.4 MB`: powers of 1000, as macOS and disks count."""
    amount = float(nbytes)
    for unit in ("B", "kB", "MB", "GB"):
        if abs(amount) < 999.5:
            return f"{amount:.0f} {unit}" if unit == "B" else f"{amount:.3g} {unit}"
        amount /= 1000
    return f"{amount:.3g} TB"
