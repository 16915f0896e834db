"""Python and JavaScript write the same number in the same way."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from django.conf import settings
from playwright.sync_api import Browser

from hub.templatetags import display
from tests.pages.browser import IN_BROWSER

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
LINES = """async ([source, marks]) => {
  const load = (text) => import("data:text/javascript," + encodeURIComponent(text));
  const { smoothed, entriesOf } = await load(source);
  const { checkpoints } = await load(marks);
  const kind = { x: "iteration", log: true, lines: [
    { key: "train_loss", label: "Train", colour: "a", noisy: true },
    { key: "val_loss", label: "Validation", colour: "b", sparse: true },
  ] };
  const run = (label, number, iteration, train_loss, val_loss) =>
    ({ label, number, columns: { iteration, train_loss, val_loss, low: {}, high: {} } });
  const one = run("", 0, [1, 2, 3, 4], [4, null, null, 1], [null, 2, null, -1]);
  const other = run("Job 2", 1, [2, 5], [3, 2], [null, null]);
  const named = (values) => values.map((value) => (value === undefined ? "not measured" : value));
  const drawn = (runs, chosen) => {
    const { x, entries } = entriesOf(runs, kind, chosen);
    return [x, ...entries.map((entry) => [entry.label, named(entry.raw)])];
  };
  return {
    smoothed: smoothed([1, null, 3, 3], 0.5),
    one: drawn([one], { smoothing: 0, log: false }),
    log: drawn([one], { smoothing: 0, log: true })[2],
    both: drawn([{ ...one, label: "Job 1" }, other], { smoothing: 0, log: false }),
    few: checkpoints({ every: 10, last: 35 }, 5, 40, 600),
    many: checkpoints({ every: 1, last: 1000 }, 0, 1000, 600),
  };
}"""
CALL = """async ([source, table]) => {
  const figures = await import("data:text/javascript," + encodeURIComponent(source));
  return Object.fromEntries(
    Object.entries(table).map(([name, values]) => [name, values.map(figures[name])]));
}"""


pytestmark = IN_BROWSER


def script(name: str) -> str:
    return Path(settings.BASE_DIR / "static/js" / name).read_text()


def test_numbers_look_the_same_from_python_and_javascript(browser: Browser) -> None:
    values: dict[str, Any] = {name: list(column) for name, (_, column) in TABLE.items()}
    with browser.new_page() as page:
        written = page.evaluate(CALL, [script("figures.js"), values])
    for name, (write, column) in TABLE.items():
        assert written[name] == [str(write(value)) for value in column], name
    assert display.figure(10364.2) == display.measured_as(10364.2, "tokens_per_second") == "10,360"
    assert display.measured("best_val_loss") == "Best validation loss"


def test_lines_keep_their_gaps_and_are_smoothed_from_the_first_value_on(browser: Browser) -> None:
    with browser.new_page() as page:
        found = page.evaluate(LINES, [script("charts/lines.js"), script("charts/marks.js")])
    # Half of each, divided by the share of weights that there are: 1, (1 + 6) / 3, (1 + 6 + 12) / 7.
    assert found["smoothed"] == [1, None, pytest.approx(7 / 3), pytest.approx(19 / 7)]
    no = "not measured"
    # Nothing at all at step 3 is a gap; at step 2 the validation alone was measured.
    assert found["one"] == [
        [1, 2, 3, 4],
        ["Train", [4, no, None, 1]],
        ["Validation", [no, 2, no, -1]],
    ]
    assert found["log"] == ["Validation", [no, 2, no, no]]
    assert found["both"] == [
        [1, 2, 3, 4, 5],
        ["Job 1 train", [4, no, None, 1, no]],
        ["Job 1 validation", [no, 2, no, -1, no]],
        ["Job 2 train", [no, 3, no, no, 2]],
    ]
    assert found["few"] == [10, 20, 30, 35]
    assert found["many"] == [1000]  # the last alone: the others would be a bar
