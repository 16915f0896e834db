"""Bytes and forecasts for a person, in the same words everywhere: pages, messages, commands."""

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


def about(seconds: float) -> str:
    """`about 2 min 10 s`: as exact as a forecast is."""
    if seconds < 5:
        return "a few seconds"
    if seconds < 60:
        return f"about {seconds:.0f} s" if seconds < 20 else f"about {5 * round(seconds / 5)} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 5:
        return (
            f"about {minutes} min {10 * (rest // 10)} s" if rest >= 10 else f"about {minutes} min"
        )
    if minutes < 60:
        return f"about {minutes} min"
    return f"about {minutes // 60} h {10 * (minutes % 60 // 10)} min"
