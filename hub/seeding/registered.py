"""Made-up rows of the registry."""

from __future__ import annotations

import datetime
import itertools
import json
import math
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path

from backends.base import Examination, Piece, RenderedExample, SplitTokens, TrainingConfig
from hub.seeding.bulk import first_pk, insert
from hub.seeding.plan import Seeding, digest
from registry.datasets.examination import findings
from registry.datasets.snapshots import register_dataset
from registry.models import (
    Alias,
    AliasMove,
    BaseModel,
    Dataset,
    DatasetReport,
    Model,
    ModelVersion,
    PromotionRule,
)
from registry.storage import artifacts, paths

_WORDS = ("amber", "birch", "cedar", "delta", "ember", "fjord", "grove", "haven", "indigo", "lumen")
_TAGS = ("json", "demo", "nightly", "customer", "internal", "baseline")
_PACKAGES = {"mlx": "0.32.4", "mlx-lm": "0.32.2", "python": "3.12.12"}
_HARDWARE = {"system": "macOS-26", "machine": "arm64", "processor": "Apple M4 Pro", "cores": 12}


def _publish(target: Path, files: dict[str, str]) -> artifacts.Manifest:
    """The manifest of a folder with these files, created on first use."""
    if not target.exists():
        staging = paths.staging_dir("seed")
        for name, text in files.items():
            (staging / name).write_text(text)
        artifacts.publish(staging, target)
    return artifacts.read_manifest(target)


def bases(run: Seeding) -> None:
    folder = paths.root() / "base" / "seed"
    manifest = _publish(folder, {"config.json": '{"model_type": "llama"}'})
    first = first_pk(BaseModel)
    run.base_pks = list(range(first, first + run.scale.bases))
    rows = (
        BaseModel(
            pk=pk,
            name=f"seed-base-{pk}",
            source=BaseModel.Source.FOLDER,
            origin="created by the seed command",
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
    insert(BaseModel, rows)


def real_dataset() -> Dataset:
    source = paths.staging_dir("seed")
    for split, count in (("train", 80), ("valid", 10), ("test", 10)):
        lines = (json.dumps({"prompt": f"{split} {n}", "completion": str(n)}) for n in range(count))
        (source / f"{split}.jsonl").write_text("\n".join(lines) + "\n")
    first = first_pk(Dataset)
    real = register_dataset(f"seed-data-{first}", source)
    shutil.rmtree(source)
    return real


def datasets(run: Seeding) -> None:
    real = run.dataset
    run.dataset_pks = [real.pk, *range(real.pk + 1, real.pk + run.scale.datasets)]
    names = ("path", "checksum", "format", "schema", "splits", "token_stats", "size_bytes")
    shared = {name: getattr(real, name) for name in names}
    rows = (
        Dataset(
            pk=pk,
            name=f"{run.noise.choice(_WORDS)}-data-{pk}",
            description=f"Examples about {run.noise.choice(_WORDS)} and {run.noise.choice(_WORDS)}",
            source="created by the seed command",
            created_at=run.moment(index / run.scale.datasets),
            **shared,
        )
        for index, pk in enumerate(run.dataset_pks[1:])
    )
    insert(Dataset, rows)


def reports(run: Seeding) -> None:
    """A report for every tenth data set. They share one snapshot, so they share one report; its token
    counts are made up."""
    report = findings(run.dataset, 2048, _examined(run))
    rows = (
        DatasetReport(
            dataset_id=pk,
            base_model_id=run.base_pks[0],
            max_seq_length=2048,
            report=report,
            created_at=run.moment(1),
        )
        for pk in run.dataset_pks[::10]
    )
    insert(DatasetReport, rows)


def _examined(run: Seeding) -> Examination:
    splits = {}
    for split, count in run.dataset.splits.items():
        lengths = [int(run.noise.lognormvariate(5.5, 0.8)) + 1 for _ in range(count)]
        splits[split] = SplitTokens(
            total=count,
            examined=count,
            lengths=lengths,
            trained=sum(lengths) // 2,
            truncated=sum(length > 2048 for length in lengths),
            dropped=0,
            longest_line=lengths.index(max(lengths)) + 1,
            wrong=0,
            bad=[],
        )
    pieces = [Piece(f"{word} " * 12, n >= 5, False, 12) for n, word in enumerate(_WORDS)]
    shown = [RenderedExample(split, 1, 120, 60, pieces) for split in splits]
    return Examination(splits, shown)


def models(run: Seeding) -> None:
    first = first_pk(Model)
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
    insert(Model, rows)
    rules = (
        PromotionRule(
            model=row, metric="val_loss", comparison="<=", value=1.0, created_at=row.created_at
        )
        for row in rows[::4]
    )
    insert(PromotionRule, rules)


def versions(run: Seeding) -> None:
    folders = {
        status: _publish(
            paths.root() / place / "seed" / "0.1.0",
            {"adapters.safetensors": "", "adapter_config.json": '{"fine_tune_type": "lora"}'},
        )
        for status, place in (("ready", "active"), ("archived", "archive"))
    }
    rows = list(Model.objects.order_by("-pk")[: run.scale.models])[::-1]
    shares = _shares(run.scale.versions, len(rows))
    insert(ModelVersion, _version_rows(run, zip(rows, shares, strict=True), folders))


def _shares(total: int, holders: int) -> list[int]:
    """A fifth for the first, the rest split evenly."""
    large = total if holders == 1 else total // 5
    each, left = divmod(total - large, max(1, holders - 1))
    return [large, *(each + (index < left) for index in range(holders - 1))]


def _version_rows(
    run: Seeding,
    shares: Iterable[tuple[Model, int]],
    folders: dict[str, artifacts.Manifest],
) -> Iterator[ModelVersion]:
    pk = first_pk(ModelVersion)
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
                mlflow_run_id=digest("run", pk)[:32],
                created_at=run.moment(run.noise.random()),
                git_commit=digest("commit", index // 10)[:40],
                git_dirty=False,
                dataset_id=run.noise.choice(run.dataset_pks),
                dataset_checksum=digest("data"),
                base_model_id=model.base_model_id,
                base_checksum=digest("base"),
                parent_id=pk - 1 if index else None,
                params=params | {"iters": 100 + index % 7},
                seed=index % 5,
                packages=_PACKAGES,
                hardware=_HARDWARE,
            )
            pk += 1


def aliases(run: Seeding) -> None:
    """Production and staging for each model; the largest model has the longest history."""
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
    insert(Alias, aliases)
    insert(AliasMove, moves)
