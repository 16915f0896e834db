"""The doctor: every problem with its fix, and an exit code for scripts."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from io import StringIO

import pytest
from django.core.management import call_command

from hub.config import config
from hub.monitoring import doctor
from hub.processes import presence


@pytest.fixture
def taken_port(monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        monkeypatch.setattr(doctor, "config", config.model_copy(update={"port": port}))
        yield port


@pytest.mark.django_db
def test_it_examines_every_part() -> None:
    names = {finding.name for finding in doctor.examine()}
    parts = {"Python", "Device", "BLAS", "SQLite", "Database", "MLflow", "Memory", "Disk"}
    assert parts | {"Address", "Processes"} <= names


@pytest.mark.django_db
def test_every_problem_says_how_to_fix_it(taken_port: int) -> None:
    ill = [finding for finding in doctor.examine() if finding.state == "failed"]
    assert [finding.name for finding in ill] == ["Address"]
    assert str(taken_port) in ill[0].found
    assert "--port" in ill[0].fix


@pytest.mark.django_db
def test_a_failure_is_the_exit_code(taken_port: int) -> None:
    output = StringIO()
    with pytest.raises(SystemExit) as ended:
        call_command("doctor", stdout=output, no_color=True)
    assert ended.value.code == 1
    assert "✗ Address" in output.getvalue()


@pytest.mark.django_db
def test_json_is_for_programs(taken_port: int) -> None:
    output = StringIO()
    with pytest.raises(SystemExit):
        call_command("doctor", "--json", stdout=output)
    findings = json.loads(output.getvalue())
    assert {"name", "state", "found", "mend"} == set(findings[0])


@pytest.mark.django_db
def test_a_check_that_breaks_is_a_finding(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken() -> None:
        raise RuntimeError("no driver")

    monkeypatch.setattr(doctor, "get_backend", lambda name: broken())
    findings = {finding.name: finding for finding in doctor.examine()}
    assert findings["Device"].state == "failed"
    assert "no driver" in findings["Device"].found


@pytest.mark.django_db
def test_an_engine_that_runs_and_is_silent_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(presence, "pid", lambda name: 1)
    monkeypatch.setattr(doctor, "running_engine_stats", lambda: None)
    *_, last = doctor._processes()
    assert (last.name, last.state) == ("Engine", "failed")
    monkeypatch.setattr(doctor, "running_engine_stats", dict)
    assert [finding.name for finding in doctor._processes()] == ["Processes"]
