"""Run as a process: kill a child that completes, archives and restores versions, many times.

Each child is a fork that works in a loop until SIGKILL reaches it at a random moment. After each,
what was interrupted is finished as the hub finishes it, and what is left is looked at. Prints as
JSON how many children died, what they had got done, and every problem that was found.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import time
from datetime import timedelta
from typing import Any

import django


def work(seed: int) -> None:
    """Until killed: complete versions that were begun, archive and restore ready ones."""
    from registry import archive
    from registry.models import ModelVersion
    from registry.versions import complete_version
    from tests.registry.build import make_staging

    draw = random.Random(seed)
    while True:
        versions = ModelVersion.objects.select_related("model")
        choice = draw.choice(("create", "archive", "restore", "archive", "restore"))
        if choice == "create" and (begun := list(versions.filter(status="training"))):
            version = draw.choice(begun)
            complete_version(version, make_staging(str(version).encode()), {"val_loss": 0.5})
        elif choice == "archive" and (ready := list(versions.filter(status="ready", moving_to=""))):
            archive.archive_version(draw.choice(ready))
        elif choice == "restore" and (
            away := list(versions.filter(status="archived", moving_to=""))
        ):
            archive.restore_version(draw.choice(away))


def kill_one(draw: random.Random) -> bool:
    """Fork a worker and kill it after 0 to 80 ms of work; whether the kill is what ended it."""
    seed, delay = draw.randrange(2**32), draw.uniform(0, 0.08)
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.write(writing, b"ready")
            work(seed)
        except BaseException as error:
            print(repr(error), file=sys.stderr)
        os._exit(1)
    os.close(writing)
    os.read(reading, 5)
    os.close(reading)
    time.sleep(delay)
    os.kill(child, signal.SIGKILL)
    return os.WIFSIGNALED(os.waitpid(child, 0)[1])


def recover() -> int:
    """What the hub does after a crash; returns how many moves had been interrupted."""
    from registry import archive, paths
    from registry.models import ModelVersion
    from registry.versions import complete_version
    from tests.registry.build import begin

    finished = archive.finish_moves()
    for version in ModelVersion.objects.filter(status="training").select_related("model"):
        # As the job's next attempt does: what was published is taken up.
        if paths.version_dir(version.model.name, version.version).exists():
            complete_version(version, paths.root() / "staging" / "gone", {"val_loss": 0.5})
    if not ModelVersion.objects.filter(status="training").exists():
        begin(model_for_all())  # here: git is asked for the lineage, longer than a child lives
    return len(finished)


def problems() -> list[str]:
    """Rows without sound files, and files that neither a row names nor gc lists."""
    from registry import gc, paths
    from registry.models import BaseModel, Dataset, ModelVersion
    from registry.verification import verify_all

    found = [f"{one.name}: {text}" for one in verify_all() for text in one.problems]
    rows = ModelVersion.objects.exclude(artifact_path="")
    known = set(rows.values_list("artifact_path", flat=True))
    for version in rows:
        wanted = "archive" if version.status == "archived" else "active"
        if version.moving_to or not version.artifact_path.startswith(f"{wanted}/"):
            found.append(f"{version} is {version.status} and lies in {version.artifact_path}")
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


def model_for_all() -> Any:
    from registry.models import Model
    from tests.registry.build import make_model, make_version

    model = Model.objects.filter(name="killed").first()
    if model is None:
        model = make_model("killed")
        for number in range(6):
            make_version(model, iters=number)
    return model


def main(kills: int, seed: int) -> None:
    django.setup()
    from django.db import connection

    from registry import gc, paths
    from registry.models import ModelVersion

    paths.make_folders()
    model_for_all()
    draw = random.Random(seed)
    killed = interrupted = 0
    found: list[str] = []
    for number in range(kills):
        connection.close()  # a fork must not share it
        killed += kill_one(draw)
        interrupted += recover()
        if number % 10 == 9 or number == kills - 1:
            found += problems()
    leftovers = len(gc.sweep(timedelta(0)))
    found += problems() + [f"left after gc: {one}" for one in gc.leftovers(timedelta(0))]
    statuses = [*ModelVersion.objects.order_by().values_list("status", flat=True)]
    report = {
        "killed": killed,
        "interrupted": interrupted,
        "leftovers": leftovers,
        "versions": {status: statuses.count(status) for status in sorted(set(statuses))},
        "problems": found,
    }
    print(json.dumps(report))


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
