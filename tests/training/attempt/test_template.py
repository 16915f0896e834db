"""Before training: the template's tokens, and a template that never finishes."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from django.conf import settings

from registry.models import ModelVersion
from tests.training.build import claim, make_job
from tests.training.worker.test_processes import environment
from training.attempt import runner, template
from training.models import TrainingJob

pytestmark = pytest.mark.any_database

Status = TrainingJob.Status


@pytest.mark.django_db
def test_other_tokens_fail_the_job_before_it_trains(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HUB_FAKE_TEMPLATE", "differs")
    make_job()
    job = claim()
    assert job.lease is not None
    runner.run(job.pk, job.lease, lambda: "")
    job.refresh_from_db()
    assert (job.status, job.iteration) == (Status.FAILED, 0)
    assert "train.jsonl, line 1" in job.error_message
    assert not ModelVersion.objects.exists()


@pytest.mark.django_db
def test_a_template_that_finishes_in_time_is_left_alone() -> None:
    ended: list[int] = []
    with template.deadline(0.05, lambda: ended.append(0), ended.append):
        pass
    time.sleep(0.15)
    assert ended == []


def test_an_endless_template_ends_its_process_with_the_reason() -> None:
    done = run_python("while True: pass", limit_s=0.5)
    assert (done.returncode, done.stdout) == (1, "no end\n")


def test_a_template_that_blocks_python_is_stopped_by_the_kernel() -> None:
    """Such a power is one instruction of the interpreter: no other thread can run meanwhile."""
    done = run_python("n = 9; n**n**n", limit_s=0.2, alarm_s=0.3)
    assert done.returncode == -14


def run_python(
    body: str, limit_s: float, alarm_s: float = template._ALARM_S
) -> subprocess.CompletedProcess[str]:
    code = (
        "import django; django.setup()\n"
        "from training.attempt import template\n"
        f"template._ALARM_S = {alarm_s}\n"
        f"with template.deadline({limit_s}, lambda: print('no end', flush=True)):\n"
        f"    {body}\n"
    )
    return subprocess.run(
        [sys.executable, "-c", code],
        cwd=settings.BASE_DIR,
        env=os.environ | {"DJANGO_SETTINGS_MODULE": "tests.settings"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.django_db(transaction=True)
def test_the_job_of_such_a_template_fails_at_once_with_the_reason(storage: Path) -> None:
    make_job()
    job = claim()
    code = (
        "import django; django.setup()\n"
        "from django.core.management import call_command\n"
        "from training.attempt import template\n"
        "template.DEADLINE_S = 1.0\n"
        f"call_command('run_job', '{job.pk}', '--lease', '{job.lease}')\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=settings.BASE_DIR,
        env=environment(storage) | {"HUB_FAKE_TEMPLATE": "loops"},
        capture_output=True,
        timeout=60,
        check=False,
    )
    job.refresh_from_db()
    assert (done.returncode, job.status) == (1, Status.FAILED)
    assert "did not finish within 1 s" in job.error_message
