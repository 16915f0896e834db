"""Python and JavaScript write the same number in the same way."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from django.conf import settings

from hub.templatetags import display
from tests.pages.browser import chromium, executable

SIZES = (0, 1, 999, 1000, 1234, 98_400_000, 999_499_999, 999_500_000, 2 * 10**9, 48e9, 3.2e12)
FIGURES = (0.0, 1.0, 0.0141, 0.30425, 2.4, 14.42, 123.45678, 9999.4, 9999.6, 10364.2, -12345.6)
SMALL_AND_LARGE = (1e-05, 2e-4, 0.00009999, 1.5e10)
RATES = (0.04, 9.96, 27.2, 99.94, 100.0, 512.4, 12_345.6)
SECONDS = (0, 0.4, 1.2, 42, 59.4, 60, 125, 3599, 3600, 12_000, 90_061)
AGO = (0, 4.9, 5, 59, 60, 3599, 3600, 86_399, 86_400, 172_800, 10**7)
TABLE = {
    "bytes": (display.size, SIZES),
    "figure": (display.figure, FIGURES + SMALL_AND_LARGE),
    "rate": (display.rate, RATES),
    "duration": (display.duration, SECONDS),
    "ago": (display._relative, AGO),
}
CALL = """async ([source, table]) => {
  const figures = await import("data:text/javascript," + encodeURIComponent(source));
  return Object.fromEntries(
    Object.entries(table).map(([name, values]) => [name, values.map(figures[name])]));
}"""


@pytest.mark.any_database
@pytest.mark.skipif(executable() is None, reason="Chromium is not installed")
def test_numbers_look_the_same_from_python_and_javascript() -> None:
    source = Path(settings.BASE_DIR / "static/js/figures.js").read_text()
    values: dict[str, Any] = {name: list(column) for name, (_, column) in TABLE.items()}
    with chromium() as browser:
        written = browser.new_page().evaluate(CALL, [source, values])
    for name, (write, column) in TABLE.items():
        assert written[name] == [str(write(value)) for value in column], name
