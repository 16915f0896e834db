"""Rows by the hundred thousand, to measure the hub's pages and API against. Not for real work.

Every status tells the truth: all ready versions share one real folder in `storage/active`, all
archived ones one in `storage/archive`, and all data sets one real snapshot.
"""

from __future__ import annotations

import datetime
import hashlib
import itertools
import json
import math
import random
import shutil
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from django.core.management.color import no_style
from django.db import connection, models, transaction
from django.db.models import Max
from django.utils import timezone

from backends.base import TrainingConfig
from inference.models import InferenceRequest
from registry import artifacts, paths
from registry.datasets import register_dataset
from registry.models import (
    Alias,
    AliasMove,
    BaseModel,
    Dataset,
    Model,
    ModelVersion,
    PromotionRule,
)
from training.models import TrainingJob, TrainingMetric

BATCH = 2_000
_WORDS = ("amber", "birch", "cedar", "delta", "ember", "fjord", "grove", "haven", "indigo", "lumen")
_TAGS = ("json", "demo", "nightly", "customer", "internal", "baseline")
_PACKAGES = {"mlx": "0.32.4", "mlx-lm": "0.32.2", "python": "3.12.12"}
_HARDWARE = {"system": "macOS-26", "machine": "arm64", "processor": "Apple M4 Pro", "cores": 12}
_TABLES: tuple[type[models.Model], ...] = (
    BaseModel,
    Dataset,
    Model,
    ModelVersion,
    Alias,
    AliasMove,
    PromotionRule,
    TrainingJob,
    TrainingMetric,
    InferenceRequest,
)


@dataclass(frozen=True)
class Scale:
    """How many rows of each kind; one model has a fifth of all versions, the others share."""

    models: int = 1_000
    versions: int = 100_000
    metrics: int = 1_000_000
    datasets: int = 2_000
    requests: int = 100_000
    bases: int = 12


@dataclass
class _Seeding:
    """One run: its random numbers, and the ids and shared files that later rows name."""

    scale: Scale
    noise: random.Random
    start: datetime.datetime
    dataset: Dataset
    base_pks: list[int] = field(default_factory=list)
    dataset_pks: list[int] = field(default_factory=list)
    ready: list[tuple[int, int, str]] = field(default_factory=list)  # (model, version, number)
    job_pks: list[int] = field(default_factory=list)

    def moment(self, share: float) -> datetime.datetime:
        """A time in the two years before now; 1 is now."""
        return self.start + datetime.timedelta(days=730 * share)


def is_empty() -> bool:
    """Whether nothing has been registered in this storage yet."""
    return not any(table._default_manager.exists() for table in _TABLES)


def seed(scale: Scale, number: int, say: Callable[[str], object]) -> None:
    """Write everything in one transaction; the same `number` makes the same rows but for times."""
    start = timezone.now() - datetime.timedelta(days=730)
    run = _Seeding(scale, random.Random(number), start, _real_dataset())  # noqa: S311
    with _own_times(), transaction.atomic():
        for step in (_bases, _datasets, _models, _versions, _aliases, _jobs, _metrics, _requests):
            say(f"{step.__name__.strip('_')}…")
            step(run)
        _reset_sequences()
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE")  # both databases plan with statistics, which are stale by now


@contextmanager
def _own_times() -> Iterator[None]:
    """Let rows keep the creation times they are given: `auto_now_add` would make them all equal."""
    fields: list[Any] = [
        each
        for table in _TABLES
        for each in table._meta.fields
        if isinstance(each, models.DateTimeField) and (each.auto_now_add or each.auto_now)
    ]
    before = [(each, each.auto_now_add, each.auto_now) for each in fields]
    for each in fields:
        each.auto_now_add = each.auto_now = False
    try:
        yield
    finally:
        for each, added, changed in before:
            each.auto_now_add, each.auto_now = added, changed


def _insert[T: models.Model](table: type[T], rows: Iterable[T]) -> None:
    for batch in itertools.batched(rows, BATCH):
        table._default_manager.bulk_create(batch)


def _first_pk(table: type[models.Model]) -> int:
    """Rows get their ids here, so that others can name them before they are written."""
    return (table._default_manager.aggregate(last=Max("pk"))["last"] or 0) + 1


def _reset_sequences() -> None:
    with connection.cursor() as cursor:
        for statement in connection.ops.sequence_reset_sql(no_style(), list(_TABLES)):
            cursor.execute(statement)


def _digest(*parts: object) -> str:
    return hashlib.sha256(repr(parts).encode()).hexdigest()


def _publish(target: Path, files: dict[str, str]) -> artifacts.Manifest:
    """The manifest of a folder with these files, made at its first use."""
    if not target.exists():
        staging = paths.staging_dir("seed")
        for name, text in files.items():
            (staging / name).write_text(text)
        artifacts.publish(staging, target)
    return artifacts.read_manifest(target)


def _bases(run: _Seeding) -> None:
    folder = paths.root() / "base" / "seed"
    manifest = _publish(folder, {"config.json": '{"model_type": "llama"}'})
    first = _first_pk(BaseModel)
    run.base_pks = list(range(first, first + run.scale.bases))
    rows = (
        BaseModel(
            pk=pk,
            name=f"seed-base-{pk}",
            source=BaseModel.Source.FOLDER,
            origin="made by the seeding command",
            path=paths.relative(folder),
            manifest_sha256=manifest.sha256,
            size_bytes=manifest.size_bytes,
            architecture="llama",
            parameters=135_000_000,
            context_length=8192,
            created_at=run.moment(0),
        )
        for pk in run.base_pks
    )
    _insert(BaseModel, rows)


def _real_dataset() -> Dataset:
    source = paths.staging_dir("seed")
    for split, count in (("train", 80), ("valid", 10), ("test", 10)):
        lines = (json.dumps({"prompt": f"{split} {n}", "completion": str(n)}) for n in range(count))
        (source / f"{split}.jsonl").write_text("\n".join(lines) + "\n")
    first = _first_pk(Dataset)
    real = register_dataset(f"seed-data-{first}", source)
    shutil.rmtree(source)
    return real


def _datasets(run: _Seeding) -> None:
    real = run.dataset
    run.dataset_pks = [real.pk, *range(real.pk + 1, real.pk + run.scale.datasets)]
    names = ("path", "checksum", "format", "schema", "splits", "token_stats", "size_bytes")
    shared = {name: getattr(real, name) for name in names}
    rows = (
        Dataset(
            pk=pk,
            name=f"{run.noise.choice(_WORDS)}-data-{pk}",
            description=f"Examples about {run.noise.choice(_WORDS)} and {run.noise.choice(_WORDS)}",
            source="made by the seeding command",
            created_at=run.moment(index / run.scale.datasets),
            **shared,
        )
        for index, pk in enumerate(run.dataset_pks[1:])
    )
    _insert(Dataset, rows)


def _models(run: _Seeding) -> None:
    first = _first_pk(Model)
    rows = [
        Model(
            pk=first + index,
            name=f"{run.noise.choice(_WORDS)}-{run.noise.choice(_WORDS)}-{first + index}",
            task_type=run.noise.choice(Model.TaskType.values),
            description=f"Answers about {run.noise.choice(_WORDS)} in {run.noise.choice(_WORDS)}",
            base_model_id=run.noise.choice(run.base_pks),
            tags=run.noise.sample(_TAGS, run.noise.randrange(3)),
            created_at=run.moment(index / run.scale.models),
        )
        for index in range(run.scale.models)
    ]
    _insert(Model, rows)
    rules = (
        PromotionRule(
            model=row, metric="val_loss", comparison="<=", value=1.0, created_at=row.created_at
        )
        for row in rows[::4]
    )
    _insert(PromotionRule, rules)


def _versions(run: _Seeding) -> None:
    folders = {
        status: _publish(
            paths.root() / place / "seed" / "0.1.0",
            {"adapters.safetensors": "", "adapter_config.json": '{"fine_tune_type": "lora"}'},
        )
        for status, place in (("ready", "active"), ("archived", "archive"))
    }
    rows = list(Model.objects.order_by("-pk")[: run.scale.models])[::-1]
    shares = _shares(run.scale.versions, len(rows))
    _insert(ModelVersion, _version_rows(run, zip(rows, shares, strict=True), folders))


def _shares(total: int, holders: int) -> list[int]:
    """A fifth for the first, the rest evenly."""
    large = total if holders == 1 else total // 5
    each, left = divmod(total - large, max(1, holders - 1))
    return [large, *(each + (index < left) for index in range(holders - 1))]


def _version_rows(
    run: _Seeding,
    shares: Iterable[tuple[Model, int]],
    folders: dict[str, artifacts.Manifest],
) -> Iterator[ModelVersion]:
    pk = _first_pk(ModelVersion)
    places = {"ready": "active/seed/0.1.0", "archived": "archive/seed/0.1.0"}
    params = TrainingConfig().model_dump(mode="json")
    for model, count in shares:
        for index in range(count):
            major, minor, patch = index // 2000, index // 20 % 100, index % 20
            status = run.noise.choices(("ready", "archived", "failed"), (80, 14, 6))[0]
            number = f"{major}.{minor}.{patch}"
            files = folders.get(status)
            if status == "ready":
                run.ready.append((model.pk, pk, number))
            loss = run.noise.uniform(0.02, 2)
            yield ModelVersion(
                pk=pk,
                model=model,
                version=number,
                major=major,
                minor=minor,
                patch=patch,
                status=status,
                metrics={"train_loss": loss * 0.9, "val_loss": loss, "perplexity": math.exp(loss)}
                if files
                else {},
                artifact_path=places.get(status, ""),
                manifest_sha256=files.sha256 if files else "",
                size_bytes=files.size_bytes if files else 0,
                mlflow_run_id=_digest("run", pk)[:32],
                created_at=run.moment(run.noise.random()),
                git_commit=_digest("commit", index // 10)[:40],
                git_dirty=False,
                dataset_id=run.noise.choice(run.dataset_pks),
                dataset_checksum=_digest("data"),
                base_model_id=model.base_model_id,
                base_checksum=_digest("base"),
                parent_id=pk - 1 if index else None,
                params=params | {"iters": 100 + index % 7},
                seed=index % 5,
                packages=_PACKAGES,
                hardware=_HARDWARE,
            )
            pk += 1


def _aliases(run: _Seeding) -> None:
    """Production and staging of each model, and a history that is longest for the largest."""
    aliases, moves = [], []
    by_model = itertools.groupby(run.ready, key=lambda item: item[0])
    for place, (model_pk, group) in enumerate(by_model):
        versions = [pk for _, pk, _ in group]
        for name in ("production", "staging"):
            chosen = run.noise.choice(versions)
            moment = run.moment(run.noise.random())
            aliases.append(
                Alias(model_id=model_pk, name=name, version_id=chosen, updated_at=moment)
            )
            before = None
            for step in range(3 if place else 500):
                target = run.noise.choice(versions)
                moves.append(
                    AliasMove(
                        model_id=model_pk,
                        name=name,
                        from_version_id=before,
                        to_version_id=target,
                        reason="Lower validation loss",
                        moved_at=moment - datetime.timedelta(hours=500 - step),
                    )
                )
                before = target
            moves[-1].to_version_id = chosen
    _insert(Alias, aliases)
    _insert(AliasMove, moves)


def _jobs(run: _Seeding) -> None:
    """One job for each version, and a few that wait."""
    first = _first_pk(TrainingJob)
    versions = (
        ModelVersion.objects.filter(job=None, dataset__isnull=False)
        .exclude(status=ModelVersion.Status.TRAINING)
        .order_by("pk")
        .values_list("pk", "model_id", "dataset_id", "status", "created_at", "params")
    )
    made: list[tuple[Any, ...]] = list(versions)
    run.job_pks = list(range(first, first + len(made)))
    _insert(TrainingJob, map(_ended_job, run.job_pks, made))
    config = TrainingConfig().model_dump(mode="json")
    waiting = (
        TrainingJob(
            pk=first + len(made) + index,
            model_id=row[1],
            dataset_id=row[2],
            config=config,
            created_at=run.moment(1),
        )
        for index, row in enumerate(made[:20])
    )
    _insert(TrainingJob, waiting)


def _ended_job(pk: int, version: tuple[Any, ...]) -> TrainingJob:
    version_pk, model_pk, dataset_pk, status, ended, params = version
    failed = status == "failed"
    return TrainingJob(
        pk=pk,
        model_id=model_pk,
        dataset_id=dataset_pk,
        status="failed" if failed else "completed",
        config=params,
        created_at=ended - datetime.timedelta(minutes=9),
        started_at=ended - datetime.timedelta(minutes=8),
        completed_at=ended,
        error_message="The loss became NaN; lower the learning rate and retry." if failed else "",
        attempt=1,
        iteration=params["iters"],
        tokens_per_second=512.0,
        result_version_id=version_pk,
    )


def _metrics(run: _Seeding) -> None:
    """A fifth of them in one job of a thousand, the rest evenly."""
    if not run.job_pks:
        return
    long = run.job_pks[::1000]
    many = run.scale.metrics // 5
    counts = dict.fromkeys(run.job_pks, 0)
    for pks, total in ((long, many), (run.job_pks, run.scale.metrics - many)):
        each, left = divmod(total, len(pks))
        for index, pk in enumerate(pks):
            counts[pk] += each + (index < left)
    rows = (
        TrainingMetric(
            job_id=pk,
            iteration=step,
            train_loss=2.4 * math.exp(-step / 18) + 0.02,
            val_loss=2.5 * math.exp(-step / 18) + 0.03 if step % 5 == 1 else None,
            tokens_per_second=512.0,
            created_at=run.start,
        )
        for pk, count in counts.items()
        for step in range(1, count + 1)
    )
    _insert(TrainingMetric, rows)


def _requests(run: _Seeding) -> None:
    if not run.ready:
        return
    names = dict(Model.objects.values_list("pk", "name"))
    first = _first_pk(InferenceRequest)
    rows = (
        InferenceRequest(
            pk=first + index,
            request_id=_digest("request", first + index)[:32],
            api=run.noise.choice(InferenceRequest.Api.values),
            status=run.noise.choices(("completed", "cancelled", "failed"), (95, 3, 2))[0],
            requested_model=f"{names[model_pk]}@{number}",
            version_id=version_pk,
            prompt_tokens=run.noise.randrange(20, 400),
            completion_tokens=run.noise.randrange(5, 200),
            queue_ms=0.4,
            first_token_ms=run.noise.uniform(50, 300),
            total_ms=run.noise.uniform(400, 2000),
            tokens_per_second=run.noise.uniform(20, 40),
            finish_reason="stop",
            created_at=run.moment(index / run.scale.requests),
        )
        for index in range(run.scale.requests)
        for model_pk, version_pk, number in (run.noise.choice(run.ready),)
    )
    _insert(InferenceRequest, rows)
