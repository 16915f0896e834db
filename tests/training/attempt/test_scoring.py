"""How a finished version is scored on the test split, on the fake backend."""

from __future__ import annotations

import datetime
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from django.test import Client

from backends import lm_eval
from backends.base import OutOfMemory, ScoringConfig
from backends.fake import FakeBackend
from backends.scorers import Question
from registry.datasets.snapshots import register_dataset
from registry.errors import Invalid
from registry.models import MLflowOutbox, ModelVersion
from registry.promotion import rules
from registry.storage import paths
from tests.training.build import SHORT, claim, make_config, make_job, make_model
from training import queue
from training.attempt import runner, scoring
from training.config import scorers
from training.models import TrainingJob

pytestmark = [pytest.mark.django_db, pytest.mark.any_database]

Status = TrainingJob.Status


def attempt(stop_reason: Callable[[], str] = lambda: "") -> TrainingJob:
    job = claim()
    assert job.lease is not None
    runner.run(job.pk, job.lease, stop_reason)
    return TrainingJob.objects.get(pk=job.pk)


def job_on(test: list[dict[str, Any]], **config: Any) -> TrainingJob:
    """A job on a data set whose test split is `test`."""
    folder = paths.root() / "source-own"
    folder.mkdir(parents=True)
    learned = [{"prompt": f"q {n}", "completion": f"a {n}"} for n in range(8)]
    for split, examples in (("train", learned), ("valid", learned[:2]), ("test", test)):
        lines = [json.dumps(example) for example in examples]
        if lines:
            (folder / f"{split}.jsonl").write_text("\n".join(lines) + "\n")
    return queue.enqueue(
        make_model(), register_dataset("own", folder), make_config(**SHORT | config)
    )


def version() -> ModelVersion:
    return ModelVersion.objects.get()


@pytest.mark.both_databases
def test_base_and_tuned_answer_and_are_scored() -> None:
    make_job(**SHORT, scoring={"scorer": "f1", "examples": 3, "max_tokens": 5})
    job = attempt()
    found = version().evaluation
    assert (job.status, found["problem"]) == (Status.COMPLETED, "")
    assert (found["scorer"], found["examples"], found["left_out"]) == (
        "f1",
        2,
        0,
    )  # 4, every second
    assert {"f1", "base_f1", "perplexity"} <= set(version().metrics)
    sample = found["samples"][0]
    assert (sample["line"], sample["prompt"], sample["expected"]) == (1, "test 0", "notes 0")
    assert sample["base"] != sample["tuned"]
    assert len(sample["tuned"].split()) <= 5


def test_the_scores_are_those_of_the_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    """The adapter's answer to one question becomes the expected answer to all."""
    monkeypatch.setenv("HUB_FAKE_REPLY_WORDS", "3")
    make_job(**SHORT, scoring={"examples": 4})
    attempt()
    right = version().evaluation["samples"][2]["tuned"]
    ModelVersion.objects.update(evaluation={}, metrics={})
    row = TrainingJob.objects.get()
    rows, _ = scoring.select_examples(paths.absolute(row.dataset.path) / "test.jsonl", 4)
    monkeypatch.setattr(
        scoring,
        "select_examples",
        lambda *_: ([scoring.Row(r.line, replaced(r, right)) for r in rows], 0),
    )
    scoring.score_version(row, version(), lambda _stage: None, lambda: "")
    assert (version().metrics["exact_match"], version().metrics["base_exact_match"]) == (0.25, 0)


def test_answers_are_compared_without_their_thoughts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HUB_FAKE_REPLY", "<think>mine</think> Yes")
    job_on([{"prompt": "q", "completion": "<think>\nanother\n</think>\n\nYes"}] * 4)
    assert attempt().status == Status.COMPLETED
    assert version().metrics["exact_match"] == 1


def test_only_good_answers_of_labelled_ones_are_asked_for() -> None:
    asked = [{"role": "user", "content": "q"}]
    said = [{"role": "assistant", "content": "a"}]
    labels = (True, False, False, False)
    folder = paths.root() / "labelled"
    folder.mkdir(parents=True)
    lines = [json.dumps({"prompt": asked, "completion": said, "label": label}) for label in labels]
    for split in ("train", "valid", "test"):
        (folder / f"{split}.jsonl").write_text("\n".join(lines) + "\n")
    config = make_config(**SHORT, objective="kto", batch_size=2)
    queue.enqueue(make_model(), register_dataset("labelled", folder), config)
    assert attempt().status == Status.COMPLETED
    found = version().evaluation
    assert (found["examples"], found["left_out"], found["problem"]) == (1, 3, "")


def replaced(row: scoring.Row, right: str) -> Question:
    return Question(row.question.messages, right)


@pytest.mark.both_databases
def test_promotion_rules_and_mlflow_see_the_score() -> None:
    make_job(**SHORT)
    job = attempt()
    rules.add_rule(job.model, "exact_match", ">=", 0.5)
    (refusal,) = rules.refusals(rules.judge(job.model, "production", version(), None))
    assert "exact_match of 0.1.0 is 0" in refusal
    points = [
        point[0]
        for payload in MLflowOutbox.objects.filter(operation="log_metrics").values_list(
            "payload", flat=True
        )
        for point in payload["points"]
    ]
    assert {"final_exact_match", "final_base_exact_match"} <= set(points)


def test_scorer_none_asks_nothing() -> None:
    make_job(**SHORT, scoring={"scorer": "none"})
    attempt()
    assert (version().evaluation, "exact_match" in version().metrics) == ({}, False)


def test_other_fine_tunes_are_loaded_after_their_base(monkeypatch: pytest.MonkeyPatch) -> None:
    loads: list[Path | None] = []
    load = FakeBackend.load

    def watched(self: FakeBackend, base: Path, adapter: Path | None = None) -> Any:
        loads.append(adapter)
        return load(self, base, adapter)

    monkeypatch.setattr(FakeBackend, "load", watched)
    make_job(**SHORT, fine_tune_type="full")
    attempt()
    assert loads == [None, paths.absolute(version().artifact_path)]
    assert all(s["base"] != s["tuned"] for s in version().evaluation["samples"])


def test_examples_are_spread_over_the_split() -> None:
    job = job_on([{"prompt": f"q {n}", "completion": "a"} for n in range(10)])
    rows, left_out = scoring.select_examples(paths.absolute(job.dataset.path) / "test.jsonl", 4)
    assert ([row.line for row in rows], left_out) == ([1, 4, 7, 10], 0)


@pytest.mark.parametrize(
    ("test", "scorer", "reason"),
    [
        ([], "exact_match", "no test split"),
        ([{"prompt": "q", "completion": "Paris"}], "json", "not JSON"),
    ],
)
def test_why_scoring_failed_is_recorded_with_the_version(
    test: list[dict[str, Any]], scorer: str, reason: str
) -> None:
    job_on(test, scoring={"scorer": scorer})
    assert attempt().status == Status.COMPLETED
    assert version().status == ModelVersion.Status.READY
    assert reason in version().evaluation["problem"]


def test_a_prompt_beyond_the_context_is_left_out() -> None:
    long = {"prompt": "word " * 3000, "completion": "a"}
    job_on([long, {"prompt": "q", "completion": "a"}])
    attempt()
    assert (version().evaluation["examples"], version().evaluation["left_out"]) == (1, 1)


def test_no_failure_of_scoring_loses_the_version(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> None:
        raise OutOfMemory("The device is out of memory.")

    monkeypatch.setattr(FakeBackend, "load", full)
    make_job(**SHORT)
    assert attempt().status == Status.COMPLETED
    assert version().status == ModelVersion.Status.READY
    assert version().evaluation["problem"] == "The device is out of memory."


def test_a_process_that_died_while_scoring_does_not_score_again() -> None:
    make_job(**SHORT)
    attempt()
    TrainingJob.objects.update(status=Status.QUEUED, completed_at=None, crashes=1)
    ModelVersion.objects.update(evaluation={})
    assert attempt().status == Status.COMPLETED
    assert "died while it scored" in version().evaluation["problem"]
    assert version().status == ModelVersion.Status.READY


def test_a_stopped_worker_scores_when_it_is_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scoring, "_HEARTBEAT_S", 0.0)
    make_job(**SHORT)

    def stop_amid_scoring() -> str:
        return "Please stop." if version_is_ready() else ""

    job = attempt(stop_amid_scoring)
    assert (job.status, job.wait_reason) == (Status.QUEUED, "Please stop.")
    assert version().evaluation == {}
    assert attempt().status == Status.COMPLETED
    assert version().evaluation["examples"] == 4


def version_is_ready() -> bool:
    return ModelVersion.objects.filter(status=ModelVersion.Status.READY).exists()


@pytest.mark.both_databases
def test_a_cancel_during_scoring_keeps_the_version(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scoring, "_HEARTBEAT_S", 0.0)
    make_job(**SHORT)
    stages: list[str] = []

    def cancel_amid_scoring() -> str:
        if version_is_ready():
            stages.append(TrainingJob.objects.get().stage)
            TrainingJob.objects.update(cancel_requested=True)
        return ""

    job = attempt(cancel_amid_scoring)
    assert (job.status, version().status) == (Status.COMPLETED, ModelVersion.Status.READY)
    assert "cancelled" in version().evaluation["problem"]
    assert stages[0].startswith("scoring 0 of 8")


def test_lm_eval_must_be_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lm_eval, "installed", lambda: False)
    with pytest.raises(Invalid, match="uv pip install lm-eval"):
        make_job(**SHORT, scoring={"lm_eval": ["arc_easy"]})
    scorers.check(ScoringConfig())


def test_lm_evals_figures_are_kept_for_both(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lm_eval, "installed", lambda: True)
    make_job(**SHORT, scoring={"scorer": "none", "lm_eval": ["arc_easy"]})
    attempt()
    assert version().evaluation["lm_eval"] == {"arc_easy": {"acc": {"base": 0.25, "tuned": 0.5}}}
    assert (version().metrics["arc_easy_acc"], version().metrics["base_arc_easy_acc"]) == (
        0.5,
        0.25,
    )


def test_the_page_shows_the_answers(client: Client) -> None:
    make_job(**SHORT)
    attempt()
    page = client.get(f"{version().get_absolute_url()}scores/").content.decode()
    assert "Answers on the test split" in page
    answered = version().evaluation["samples"][0]["tuned"]
    assert answered[:40] in page
    api = f"/api/models/{version().model_id}/versions"
    assert client.get(f"{api}/0.1.0/evaluation").json()["samples"][0]["tuned"] == answered


def test_examples_do_not_leave_with_a_lineage(client: Client) -> None:
    make_job(**SHORT)
    attempt()
    api = f"/api/models/{version().model_id}/versions"
    (listed,) = client.get(api).json()["items"]
    facts = client.get(f"{api}/0.1.0/lineage").json()["facts"]
    for evaluation in (listed["evaluation"], facts["evaluation"]):
        assert (evaluation["examples"], "samples" in evaluation) == (4, False)


def test_lm_eval_sends_heartbeats_and_ends_when_the_job_is_cancelled(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(lm_eval, "installed", lambda: True)
    monkeypatch.setattr(scoring, "_HEARTBEAT_S", 0.0)
    beats: list[datetime.datetime | None] = []

    def cancel_later() -> str:
        row = TrainingJob.objects.get()
        if row.stage.startswith("scoring"):
            beats.append(row.heartbeat_at)
            TrainingJob.objects.update(cancel_requested=len(beats) > 3)
        return ""

    make_job(**SHORT, scoring={"scorer": "none", "lm_eval": ["arc_easy"], "examples": 50})
    attempt(cancel_later)
    assert len(set(beats)) == len(beats) < 50
    assert "cancelled" in version().evaluation["problem"]
    assert version().status == ModelVersion.Status.READY
