"""Memory: the estimate, its correction, and whether a job may start."""

from __future__ import annotations

import random
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pytest
from django.test import Client
from django.utils import timezone

from backends import get_backend
from registry.datasets import snapshots
from registry.models import Dataset, DatasetReport
from registry.storage import paths
from tests.training.build import claim, make_config, make_dataset, make_job, make_model
from training import queue
from training.machine import neighbours
from training.memory import admission, estimate, measured
from training.memory.estimate import Base, Dimensions
from training.models import TrainingJob
from training.worker import supervisor

pytestmark = [pytest.mark.django_db, pytest.mark.any_database]

Status = TrainingJob.Status
GB = 2**30
# Llama 3.2 1B's dimensions, in 16 bits.
SIZE = Dimensions(layers=16, hidden=2048, intermediate=8192, heads=32, kv=512, vocabulary=128_256)
BASE = Base(SIZE, nbytes=int(2.5 * GB), activation_bytes=2)


def total(longest: int = 2048, base: Base = BASE, **config: Any) -> int:
    return estimate.memory(base, make_config(**config), longest).total


@pytest.mark.parametrize(
    "changes",
    [
        {"batch_size": 2},
        {"max_seq_length": 512},
        {"grad_checkpoint": True},
        {"num_layers": 4},
        {"optimizer": "sgd"},
        {"lora": {"rank": 2}},
        {"lora": {"keys": ["self_attn.q_proj"]}},
    ],
)
def test_settings_that_need_less_memory_get_a_lower_estimate(changes: dict[str, Any]) -> None:
    assert total(**changes) < total()


@pytest.mark.parametrize(
    "changes",
    [
        {"fine_tune_type": "full"},
        {"fine_tune_type": "dora"},
        {"objective": "dpo"},
        {"grad_accumulation_steps": 2},
    ],
)
def test_settings_that_need_more_memory_get_a_higher_estimate(changes: dict[str, Any]) -> None:
    assert total(**changes) > total()


def test_packed_examples_attend_to_no_more_than_a_row() -> None:
    """On a GPU to the whole row, although only a part counts; on the CPU only to themselves."""
    assert total(longest=100) < total(longest=100, packing=True) < total(packing=True) == total()
    cpu = Base(SIZE, nbytes=BASE.nbytes, on_cpu=True)
    assert total(100, cpu, packing=True) == total(100, cpu)


@pytest.mark.parametrize("learn", ["answers", "last_answer", "everything"])
def test_the_estimate_holds_for_whatever_is_learned(learn: str) -> None:
    """It counts the logits of every token."""
    assert total(learn=learn) == total()
    assert total(learn=learn, thoughts="masked") == total()


def test_pairs_need_two_rows_and_labelled_answers_one() -> None:
    assert total(objective="kto") == total()
    assert total() < total(objective="simpo") == total(objective="dpo")


@pytest.mark.both_databases
def test_the_lengths_of_an_earlier_run_make_a_closer_estimate(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Few examples are as long as the longest."""
    estimator, _ = estimator_and_family()
    before = estimator(make_config(batch_size=8)).nbytes
    asked: list[Any] = []

    def token_lengths(_: object, *about: Any) -> Any:
        asked.append(about)
        return np.array([10] * 90 + [100] * 9 + [900])

    monkeypatch.setattr(type(get_backend("fake")), "token_lengths", token_lengths)
    found = estimator(make_config(batch_size=8)).parts
    dataset, base = Dataset.objects.get(), estimator.base
    tokens = paths.root() / "tokens" / dataset.checksum
    assert asked == [(*asked[0][:2], make_config(batch_size=8), tokens)]
    assert asked[0][1] == snapshots.dataset_path(dataset)
    whole = estimate.memory(base, make_config(batch_size=8), 900)
    assert found.activations < 0.95 * whole.activations
    assert found.weights == whole.weights
    assert before != estimator(make_config(batch_size=8)).nbytes


def test_the_doctors_lengths_do_before_the_first_run() -> None:
    make_job()
    bars = [{"from": 0, "to": 99, "count": 95}, {"from": 800, "to": 899, "count": 1}]
    report = {"tokens": {"train": {"longest": 880, "histogram": bars}}}
    job = TrainingJob.objects.first()
    assert job is not None
    DatasetReport.objects.create(
        dataset=job.dataset,
        base_model=job.model.base_model,
        max_seq_length=2048,
        report=report,
    )
    told = measured.Estimator(job.model.base_model, job.dataset)
    found = told(make_config(batch_size=8)).parts
    whole = estimate.memory(told.base, make_config(batch_size=8), 880)
    assert found.activations < 0.8 * whole.activations
    shorter = told(make_config(batch_size=8, max_seq_length=64)).parts
    assert shorter.activations < found.activations


def test_the_share_that_the_doctor_found_learned_counts_on_a_gpu(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("HUB_ASSUMED_DEVICE", "metal")
    job = make_job()
    bars = [{"from": 80, "to": 99, "count": 96}]
    kept = DatasetReport(
        dataset=job.dataset, base_model=job.model.base_model, max_seq_length=2048, report={}
    )
    found = []
    for trained in (2000, 8900):
        split = {"longest": 95, "histogram": bars, "tokens": 9000, "trained": trained}
        kept.report = {"tokens": {"train": split}}
        kept.save()
        told = measured.Estimator(job.model.base_model, job.dataset)
        found += [
            told(make_config(learn=learn)).parts.activations for learn in ("answers", "everything")
        ]
    assert found[0] < found[1] == found[2] == found[3]


SMOL = Base(
    Dimensions(layers=30, hidden=576, intermediate=1536, heads=9, kv=192, vocabulary=49152),
    nbytes=538_060_032,
    on_cpu=True,
    head_in_pieces=True,
    sparing=True,
)


def test_the_estimate_knows_what_training_holds_at_a_time() -> None:
    from backends.mlx.device import TRAINING_CACHE, TRAINING_CACHE_ON_METAL
    from backends.mlx.kernels import head, quick
    from backends.mlx.training import loss

    assert estimate._FREED == TRAINING_CACHE
    assert (estimate.STEP_TOKENS, estimate.AT_ONCE) == (loss.STEP_TOKENS, quick._AT_ONCE)
    assert estimate._PIECE == head.TOKENS * head.ENTRIES
    assert estimate._FREED_ON_METAL == TRAINING_CACHE_ON_METAL
    cpu = Base(SIZE, nbytes=BASE.nbytes, activation_bytes=2, on_cpu=True)
    arrays = estimate.step_arrays(cpu, make_config(), 2048, None)
    assert estimate.memory(cpu, make_config(), 2048).activations == arrays + TRAINING_CACHE
    few = estimate.memory(SMOL, make_config(num_layers=4), 64)
    arrays = estimate.step_arrays(SMOL, make_config(num_layers=4), 64, None)
    assert few.activations == arrays + arrays // 5
    metal = replace(cpu, on_cpu=False)
    arrays = estimate.step_arrays(metal, make_config(), 2048, None)
    found = estimate.memory(metal, make_config(), 2048)
    assert found.activations == arrays + TRAINING_CACHE_ON_METAL
    on_card = estimate.memory(replace(metal, on_cuda=True), make_config(), 2048)
    assert (on_card.activations, on_card.program) == (arrays, 0)


# SmolLM2-135M in float32 with LoRA of rank 8 on the CPU: the most that the training process held, in
# MB, by batch, tokens, layers and gradient checkpointing (see docs/benchmarks.md).
MEASURED = {
    (4, 92, 12, False): 989,
    (8, 128, -1, False): 1356,
    (8, 128, -1, True): 992,
    (8, 300, -1, False): 1467,
    (2, 512, -1, False): 1827,
    (2, 512, -1, True): 1142,
    (1, 1024, -1, False): 1856,
    (1, 1024, -1, True): 1149,
    (1, 2048, -1, False): 2762,
    (1, 2048, -1, True): 1387,
}


@pytest.mark.parametrize(("setting", "megabytes"), MEASURED.items())
def test_the_estimate_is_near_what_was_measured(
    setting: tuple[int, int, int, bool], megabytes: int
) -> None:
    batch, length, layers, checkpoint = setting
    settings = {"batch_size": batch, "grad_checkpoint": checkpoint, "num_layers": layers}
    assert total(length, SMOL, **settings) / 1e6 == pytest.approx(megabytes, rel=0.1)


def test_the_estimate_is_near_for_lengths_that_differ() -> None:
    """96 texts of log-normal lengths, the longest of them 300 tokens, in batches of 8."""
    draw = random.Random(5)
    lengths = sorted(int(min(max(draw.lognormvariate(3.8, 0.9), 10), 300)) for _ in range(96))
    config = make_config(batch_size=8, num_layers=-1)
    found = estimate.memory(SMOL, config, 300, np.array(lengths)).total / 1e6
    assert found == pytest.approx(1430, rel=0.1)


def test_on_the_cpu_a_larger_batch_needs_no_more_memory() -> None:
    """It is computed in pieces, but for a full fine-tune and kto."""
    cpu = replace(SMOL, lanes=2)
    assert total(100, cpu, batch_size=8) == total(100, cpu, batch_size=64)
    assert total(100, cpu, batch_size=2) < total(100, cpu, batch_size=8)
    for whole in ({"fine_tune_type": "full"}, {"objective": "kto"}):
        assert total(100, cpu, batch_size=8, **whole) < total(100, cpu, batch_size=64, **whole)
    assert total(300, cpu, batch_size=8, objective="dpo") > total(300, cpu, batch_size=8)


def test_dora_and_dropout_keep_more() -> None:
    plain = estimate.memory(SMOL, make_config(), 512).activations
    for more in ({"fine_tune_type": "dora"}, {"lora": {"dropout": 0.1}}):
        assert estimate.memory(SMOL, make_config(**more), 512).activations > 1.3 * plain


def test_an_adapter_has_as_many_weights_as_its_shape_says() -> None:
    config = make_config(lora={"rank": 8, "keys": ["self_attn.q_proj", "mlp.down_proj"]})
    per_layer = 8 * (2048 + 2048) + 8 * (8192 + 2048)
    assert estimate.trained_parameters(SIZE, config) == 16 * per_layer


def finished(peak: int, parts: dict[str, float], family: str = "llama/lora/fake") -> None:
    """A completed job with this estimate and measurement."""
    earlier = TrainingJob.objects.first()
    job = make_job(earlier.model if earlier else None)
    TrainingJob.objects.filter(pk=job.pk).update(
        status=Status.COMPLETED,
        completed_at=timezone.now(),
        peak_memory_bytes=peak,
        memory_parts=parts,
        memory_family=family,
        memory_estimate_bytes=sum(parts.values()),
    )


PARTS: dict[str, float] = {"weights": 600, "activations": 400}


def estimator_and_family() -> tuple[measured.Estimator, str]:
    earlier = TrainingJob.objects.first()
    job = make_job(earlier.model if earlier else None)
    estimator = measured.Estimator(job.model.base_model, job.dataset)
    return estimator, estimator(job.training_config).family


def test_an_estimate_without_earlier_runs_is_uncorrected() -> None:
    estimator, family = estimator_and_family()
    found = estimator(make_config())
    assert (found.correction, found.runs, found.error) == (1.0, 0, None)
    assert found.nbytes == found.parts.total
    assert family.endswith(f"/lora/fake/{estimate.FORMULA}")


@pytest.mark.both_databases
def test_measured_runs_of_the_family_correct_the_next_estimate() -> None:
    _, family = estimator_and_family()
    for peak in (1200, 1500, 1400):
        finished(peak, PARTS, family)
    finished(4000, PARTS, "other/lora/fake")
    finished(99_000, PARTS, family)  # no estimate is that wrong: a bad measurement
    found = estimator_and_family()[0](make_config())
    assert (found.correction, found.runs) == (1.4, 3)
    assert found.nbytes == int(found.parts.total * 1.4)
    assert found.error == pytest.approx(1.5 / 1.4 - 1)
    assert found.columns["memory_parts"]["correction"] == 1.4


def test_what_an_earlier_formula_got_wrong_corrects_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    finished(1400, PARTS, estimator_and_family()[1])
    assert estimator_and_family()[0](make_config()).correction == 1.4
    monkeypatch.setattr(estimate, "FORMULA", estimate.FORMULA + 1)
    assert estimator_and_family()[0](make_config()).correction == 1.0


@pytest.mark.both_databases
def test_the_correction_does_not_feed_on_itself() -> None:
    _, family = estimator_and_family()
    finished(1400, {**PARTS, "correction": 1.4, "runs": 7}, family)
    assert estimator_and_family()[0](make_config()).correction == 1.4


def test_the_error_of_an_estimate_is_shown_when_the_job_has_finished() -> None:
    finished(1250, PARTS)
    assert TrainingJob.objects.get().memory_error == 0.25


# ------------------------------------------------------------------------ admission


@dataclass
class Engine:
    """Holds one model, which cannot be evicted while `busy`."""

    held: int = 0
    busy: bool = False
    asked: list[int] = field(default_factory=list)

    def held_bytes(self) -> int:
        return self.held

    def busy_bytes(self) -> int:
        return self.held if self.busy else 0

    def someone_waits(self) -> bool:
        return self.busy

    def make_room(self, nbytes: int) -> list[str]:
        self.asked.append(nbytes)
        if self.busy:
            return []
        self.held = 0
        return ["a-model"]


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch) -> Engine:
    engine = Engine()
    monkeypatch.setattr(neighbours, "_present", engine)
    return engine


def needed(job: TrainingJob) -> int:
    return measured.Estimator(job.model.base_model, job.dataset)(job.training_config).nbytes


@pytest.mark.both_databases
def test_a_job_that_fits_starts_with_its_estimate_on_the_row(engine: Engine) -> None:
    make_job()
    job = queue.claim(admission.admit)
    assert job.status == Status.RUNNING
    assert job.memory_estimate_bytes == needed(job)
    assert set(job.memory_parts) > {"weights", "activations", "optimizer", "correction", "runs"}
    assert engine.asked == []


def test_idle_models_make_room(engine: Engine, settings: Any) -> None:
    job = make_job()
    settings.MEMORY_BUDGET_BYTES = needed(job) + 100
    engine.held = 300
    assert queue.claim(admission.admit) == job
    assert engine.asked == [200]


def test_a_job_waits_for_busy_models_and_says_so(engine: Engine, settings: Any) -> None:
    job = make_job(batch_size=8)
    settings.MEMORY_BUDGET_BYTES = needed(job) + 100
    engine.held, engine.busy = 300, True
    assert queue.claim(admission.admit) is None
    job.refresh_from_db()
    assert (job.status, job.attempt) == (Status.QUEUED, 0)
    assert job.wait_reason.startswith("Waiting for memory: needs about")
    assert "batch_size 4" in job.wait_reason
    assert job.not_before > timezone.now()
    engine.busy = False
    TrainingJob.objects.update(not_before=None)
    assert queue.claim(admission.admit) == job


@pytest.mark.both_databases
def test_a_smaller_job_goes_ahead_of_one_that_waits_for_memory(
    engine: Engine, settings: Any
) -> None:
    large = make_job(batch_size=8)
    small = make_job(large.model, batch_size=1)
    settings.MEMORY_BUDGET_BYTES = needed(large)
    engine.held, engine.busy = needed(large) - needed(small), True
    assert queue.claim(admission.admit) == small


def test_a_job_that_can_never_fit_fails_with_what_would(engine: Engine, settings: Any) -> None:
    job = make_job(batch_size=8)
    fits = make_job(job.model, batch_size=4, grad_accumulation_steps=2)
    settings.MEMORY_BUDGET_BYTES = needed(fits)
    assert queue.claim(admission.admit) != job
    job.refresh_from_db()
    assert job.status == Status.FAILED
    assert "the whole memory budget is" in job.error_message
    assert "batch_size 4 (" in job.error_message
    assert job.error_message.endswith("would fit.")


def test_no_change_is_suggested_when_nothing_would_fit(engine: Engine, settings: Any) -> None:
    job = make_job()
    settings.MEMORY_BUDGET_BYTES = 1
    queue.claim(admission.admit)
    job.refresh_from_db()
    assert job.error_message.endswith("use a smaller or quantized base model.")


def test_for_a_job_that_ran_out_of_memory_all_idle_models_are_evicted(engine: Engine) -> None:
    make_job()
    TrainingJob.objects.update(out_of_memory=True)
    engine.held = 300
    assert queue.claim(admission.admit) is not None
    assert engine.asked == [300]


def test_nothing_is_evicted_for_a_job_while_another_runs(engine: Engine) -> None:
    model = make_model()
    make_job(model)
    make_job(model)
    claim()
    engine.held = 10**15
    assert queue.claim(admission.admit) is None
    assert engine.asked == []


@pytest.mark.both_databases
def test_the_worker_admits_before_it_starts(engine: Engine, settings: Any) -> None:
    job = make_job()
    settings.MEMORY_BUDGET_BYTES = 1
    assert supervisor.drain() == 0
    job.refresh_from_db()
    assert job.status == Status.FAILED


def test_an_estimate_over_json(client: Client, engine: Engine, settings: Any) -> None:
    body = {"model_id": make_model().pk, "dataset_id": make_dataset().pk, "config": {}}
    path = "/api/training/estimate"
    found = client.post(path, body, content_type="application/json").json()
    assert found["verdict"] == "now"
    assert found["nbytes"] > found["weights"] > 0
    settings.MEMORY_BUDGET_BYTES = found["nbytes"]
    engine.held, engine.busy = 1000, True
    found = client.post(path, body, content_type="application/json").json()
    assert found["verdict"] == "waits"
    settings.MEMORY_BUDGET_BYTES = 10
    found = client.post(path, body, content_type="application/json").json()
    assert found["verdict"] == "never"
    assert "whole memory budget" in found["sentence"]
    assert not TrainingJob.objects.exists()
