"""`manage.py bench`: what it reads from the self-test's items, keeps, compares and shows."""

from __future__ import annotations

from io import StringIO
from typing import Any

import pytest
from django.core.management import call_command
from django.test import Client

from hub.management.commands import bench
from hub.monitoring import speeds
from hub.selftest.report import Row, not_right, right

pytestmark = pytest.mark.any_database


def rows(one: float, cold: float) -> list[Row]:
    beside = {"one": one, "bare_one": 50.0, "eight": 400.0, "bare_eight": 200.0}
    outcomes = {
        "bundled_model": right("It answers.", import_s=1.0),
        "beside_mlx_lm": right("Fast.", tokens_per_second=beside),
        "first_token": right("Soon.", cold_ms=cold, cached_ms=10.0),
        "beside_mlx_lm_lora": not_right("Its process ended with SIGKILL.", "Report it."),
    }
    return [Row(name, "serving", "?", 1.0, 1.0, outcome) for name, outcome in outcomes.items()]


def run(monkeypatch: pytest.MonkeyPatch, measured: list[Row], **options: Any) -> str:
    asked: list[str] = []

    def measure(items: Any, *_: Any, **__: Any) -> Any:
        asked.extend(item.name for item in items)
        return iter(measured)

    monkeypatch.setattr(bench, "run_all", measure)
    out = StringIO()
    call_command("bench", stdout=out, stderr=out, **options)
    assert asked == list(bench._ITEMS)
    return out.getvalue()


def test_runs_are_kept_and_compared(
    client: Client, monkeypatch: pytest.MonkeyPatch, db: None
) -> None:
    assert "Not measured yet" in client.get("/system/speed/").content.decode()
    first = run(monkeypatch, rows(one=100.0, cold=80.0))
    assert "2.00" in first  # times mlx-lm
    assert "beside_mlx_lm_lora: Its process ended with SIGKILL." in first
    assert "The run before" not in first
    assert "The run before" in run(monkeypatch, rows(one=80.0, cold=40.0))
    run(monkeypatch, rows(one=1.0, cold=1.0), quick=True)  # which is not kept
    newest, earlier = speeds.history()
    one, eight, cold, cached = speeds.compare(newest, speeds.before(newest, [earlier]))
    assert (one.ratio, one.change, one.worse) == (1.6, 0.8, True)
    assert (eight.ratio, eight.change, eight.worse) == (2.0, 1.0, False)
    assert (cold.ratio, cold.change) == (None, 2.0)  # less is faster
    assert cached.value == 10
    with speeds.file().open("a") as lines:
        lines.write('{"made": "20')  # the disk was full
    page = client.get("/system/speed/").content.decode()
    assert "Slower" in page
    assert "SIGKILL" in page
    assert page.count("<time") == 2


def test_nothing_is_kept_where_nothing_was_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SystemExit):
        run(monkeypatch, [row for row in rows(1, 1) if row.name == "beside_mlx_lm_lora"])
    assert speeds.history() == []
