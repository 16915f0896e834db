"""Run as a process: kill a child that makes, archives, restores and imports versions, many times.

Each child is a fork that works in a loop until SIGKILL reaches it at a random moment, and says in
a pipe what it is at. After each, what was interrupted is finished as the hub finishes it, and what
is left is looked at. Prints as JSON how many children died amid what, and every problem found.
"""

from __future__ import annotations

import datetime
import json
import os
import random
import signal
import sys
import time
from collections import Counter
from datetime import timedelta
from pathlib import Path
from typing import Any

from tests.registry.killing import fork, killed, model_for_all, set_up

WORK = ("begin", "complete", "archive", "restore", "import")


def work(number: int, seed: int, tell: int) -> None:
    """Until killed: first the thing of that number in WORK, then whatever comes. The number is
    written to `tell` before each, and "." after it."""
    draw = random.Random(seed)
    while True:
        os.write(tell, str(number).encode())
        do(WORK[number], draw)
        os.write(tell, b".")
        number = draw.randrange(len(WORK))


def do(what: str, draw: random.Random) -> None:
    from registry.bundles import tasks as bundle_tasks
    from registry.maintenance import archive
    from registry.models import ModelVersion
    from registry.versions.lifecycle import complete_version
    from tests.registry.build import begin, make_staging

    versions = ModelVersion.objects.select_related("model").filter(moving_to="")
    if what == "begin":
        begin(model_for_all(), iters=draw.randrange(10**6))
    elif what == "complete" and (begun := list(versions.filter(status="training"))):
        version = draw.choice(begun)
        complete_version(version, make_staging(str(version).encode()), {"val_loss": 0.5})
    elif what == "archive" and (ready := list(versions.filter(status="ready"))):
        archive.archive_version(draw.choice(ready))
    elif what == "restore" and (away := list(versions.filter(status="archived"))):
        archive.restore_version(draw.choice(away))
    elif what == "import":
        bundle_tasks.run(make_import(draw.choice(bundles()), f"taken-{draw.randrange(10)}"))


def make_import(bundle: Path, model: str) -> Any:
    """The task of an uploaded bundle, as the web process makes it."""
    from django.core.files.uploadedfile import SimpleUploadedFile

    from registry.bundles import uploads
    from registry.models import BundleImport

    folder = uploads.save_bundle(SimpleUploadedFile("b.tar", bundle.read_bytes()))
    options = {"upload": folder.name, "model": model, "base": "", "number": ""}
    return BundleImport.objects.create(name=folder.name, source="b.tar", options=options)


def bundles() -> list[Path]:
    from registry.storage import paths

    return sorted(paths.root().parent.glob("*.bundle"))


def make_bundles() -> None:
    """Two bundles whose examples are here under no name, so that an import makes a data set too."""
    from registry.bundles.writer import export
    from registry.storage import paths
    from registry.versions.lifecycle import begin_version, complete_version
    from tests.registry.build import make_dataset, make_model, make_staging

    for number in range(2):
        dataset = make_dataset(f"bundled-{number}", first=number + 1)
        model = make_model(f"bundled-{number}", base=model_for_all().base_model)
        version = begin_version(model, dataset, {"iters": 1}, seed=number)
        complete_version(version, make_staging(b"bundled %d" % number), {})
        file = paths.root().parent / f"{number}.bundle"
        file.write_bytes(b"".join(export(version, with_data=True)))
        for row in (version, model, dataset):
            row.delete()


def seconds(what: str) -> float:
    """How long one thing takes in a child that nobody kills: on a busy machine ten times as long."""
    began = time.monotonic()
    assert not killed(fork(lambda: do(what, random.Random(0))))
    return time.monotonic() - began


def kill_one(number: int, draw: random.Random, lasting: dict[str, float]) -> str:
    """Fork a worker that begins with the work of that number, and kill it at a random moment; what it
    was at, or "" when something else ended it. What is done sooner than it was measured is struck
    sooner the next time."""
    seed = draw.randrange(2**32)
    delay = draw.uniform(0, 1.5 * lasting[WORK[number]])
    reading, writing = os.pipe()
    child = fork(lambda: work(number, seed, writing))
    os.close(writing)
    told = os.read(reading, 1)  # it has begun
    time.sleep(delay)
    os.kill(child, signal.SIGKILL)
    died = killed(child)
    while piece := os.read(reading, 4096):
        told += piece
    os.close(reading)
    if not died:
        return ""
    if len(told) > 1:  # past the work that was meant
        lasting[WORK[number]] *= 0.7
    return "between" if told.endswith(b".") else WORK[int(told[-1:])]


def recover() -> None:
    """What the hub does after a crash."""
    from registry.maintenance import archive
    from registry.models import BundleImport, ModelVersion
    from registry.storage import paths
    from registry.versions.lifecycle import complete_version

    archive.finish_moves()
    BundleImport.objects.update(heartbeat_at=datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC))
    BundleImport.objects.fail_silent()
    for version in ModelVersion.objects.filter(status="training").select_related("model"):
        # As the job's next attempt does: what was published is taken up.
        if paths.version_dir(version.model.name, version.version).exists():
            complete_version(version, paths.root() / "staging" / "gone", {"val_loss": 0.5})


def problems() -> list[str]:
    """Rows without sound files, and files that neither a row names nor gc lists."""
    from registry.maintenance import gc
    from registry.maintenance.verification import verify_all
    from registry.models import BaseModel, BundleImport, Dataset, Model, ModelVersion
    from registry.storage import paths

    found = [f"{one.name}: {text}" for one in verify_all(everything=True) for text in one.problems]
    rows = ModelVersion.objects.exclude(artifact_path="").select_related("model")
    known = set(rows.values_list("artifact_path", flat=True))
    for version in rows:
        wanted = "archive" if version.status == "archived" else "active"
        if version.moving_to or not version.artifact_path.startswith(f"{wanted}/"):
            found.append(f"{version} is {version.status} and lies in {version.artifact_path}")
    taken = Model.objects.filter(name__startswith="taken-")
    found += [f"{model} has no version" for model in taken.filter(versions=None)]
    imported = set(ModelVersion.objects.filter(model__in=taken).values_list("pk", flat=True))
    tasks = list(BundleImport.objects.values_list("status", "version_id"))
    if sorted(imported) != sorted(pk for status, pk in tasks if status == "completed"):
        found.append(f"{len(imported)} versions came of {len(tasks)} imports: {Counter(tasks)}")
    found += [f"a failed import made {pk}" for status, pk in tasks if status == "failed" and pk]
    for table in (BaseModel, Dataset):
        known |= set(table.objects.values_list("path", flat=True))
    listed = {one.path for one in gc.leftovers(timedelta(0))}
    found += [f"gc lists {path}, which a row names" for path in known & listed]
    for folder in ("active", "archive", "base", "datasets", "staging", "uploads", "exports"):
        for path in (paths.root() / folder).rglob("*"):
            above = {path.relative_to(paths.root()), *path.relative_to(paths.root()).parents}
            if path.is_file() and not {p.as_posix() for p in above} & (known | listed):
                found.append(f"nobody knows {path}")
    return found


def main(kills: int, seed: int) -> None:
    set_up()
    from registry.maintenance import gc
    from registry.models import Dataset, ModelVersion

    model_for_all(versions=6)
    make_bundles()
    gc.sweep(timedelta(0))
    lasting = {what: seconds(what) for what in WORK}
    draw = random.Random(seed)
    amid: Counter[str] = Counter()
    found: list[str] = []
    for number in range(kills):
        amid[kill_one(number % len(WORK), draw, lasting)] += 1
        recover()
        if number % 20 == 19 or number == kills - 1:
            found += problems()
    leftovers = len(gc.sweep(timedelta(0)))
    found += problems() + [f"left after gc: {one}" for one in gc.leftovers(timedelta(0))]
    statuses = [*ModelVersion.objects.order_by().values_list("status", flat=True)]
    imported = ModelVersion.objects.filter(model__name__startswith="taken-")
    report: dict[str, Any] = {
        "amid": amid,
        "leftovers": leftovers,
        "versions": Counter(statuses),
        "imported": imported.count(),
        "datasets": Dataset.objects.count(),
        "problems": found,
    }
    print(json.dumps(report))


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
