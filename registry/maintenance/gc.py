"""What storage holds that no row names: listed with its reason and size, and swept on demand.

What is younger than `AGE` is left alone: files being written have no row yet. An interrupted
download is worth hours, so it is kept for `RESUMABLE` for a retry to continue, and listed, too. The
tokens of a data set go with it, or when no run has used them for `UNUSED`.
"""

from __future__ import annotations

import datetime
import os
import re
import shutil
import stat
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from django.db import transaction
from django.db.models import Count, Q, Sum
from django.db.models.functions import Coalesce
from django.utils import timezone

from backends.litter import tidy
from registry.conversion import exports
from registry.datasets import uploads
from registry.maintenance import archive
from registry.models import (
    BaseModel,
    BundleImport,
    Dataset,
    DatasetReport,
    DatasetTask,
    Model,
    ModelVersion,
)
from registry.models.bases import RESUMABLE
from registry.storage import paths

AGE = datetime.timedelta(hours=24)
UNUSED = datetime.timedelta(days=30)

_JOB_STAGING = re.compile(r"job-([0-9]+)-[0-9a-f]{32}")
_DOWNLOAD = re.compile(r"staging/download-[0-9a-f]{32}")
_TOKENS = re.compile(r"tokens/[0-9a-f]{64}/[a-z]+-[0-9a-f]{32}")
_EXPORT = re.compile(rf"([0-9]{{1,18}})-({'|'.join(exports.FORMS)})")
_LIVE_JOBS = ("queued", "running")


@dataclass(frozen=True)
class Leftover:
    """A file or folder that no row names. `path` is relative to storage. `kept_until` is when a
    download that broke off is given up; None is over already."""

    path: str
    size_bytes: int
    reason: str
    kept_until: datetime.datetime | None = None


@dataclass(frozen=True)
class DiskUse:
    """Bytes that one model's versions hold, as their rows record them."""

    model_id: int
    name: str
    versions: int
    active_bytes: int
    archived_bytes: int

    @property
    def total_bytes(self) -> int:
        return self.active_bytes + self.archived_bytes


def leftovers(age: datetime.timedelta = AGE) -> list[Leftover]:
    """Everything that `sweep` would remove: untouched for `age` and named by no row."""
    now, named = timezone.now(), _named()
    return [
        Leftover(_relative(path), _size(path), reason)
        for path, reason in _candidates()
        if _relative(path) not in named and _rests(path, age, now)
    ]


def resumable() -> list[Leftover]:
    """Downloads that broke off, or run, and that `sweep` spares at any age until `kept_until`."""
    now = timezone.now()
    found = []
    for path in _inside("staging"):
        if _DOWNLOAD.fullmatch(_relative(path)) and not _rests(path, RESUMABLE, now):
            touched = datetime.datetime.fromtimestamp(_newest(path), datetime.UTC)
            reason = "a download that a retry can continue"
            found.append(Leftover(_relative(path), _size(path), reason, touched + RESUMABLE))
    return found


def sweep(age: datetime.timedelta = AGE) -> list[Leftover]:
    """Finish interrupted moves, then remove the leftovers; returns those that are gone."""
    archive.finish_moves()
    return [leftover for leftover in leftovers(age) if remove_unnamed(leftover.path, age)]


def remove_unnamed(path: str, age: datetime.timedelta = datetime.timedelta(0)) -> bool:
    """Remove what lies at `path` unless a row names it or it was touched within `age`.

    Asked once more under the database's lock, since a row may have come after the look.
    """
    place = paths.root() / path
    trash = paths.staging_dir("trash")
    try:
        with transaction.atomic():
            if path in _named(lock=True) or not os.path.lexists(place):
                return False
            if not _rests(place, age, timezone.now()):
                return False
            place.rename(trash / place.name)
        return True
    except FileNotFoundError:  # somebody else removed it
        return False
    finally:
        shutil.rmtree(trash, ignore_errors=True)


def tokens_bytes(checksum: str = "") -> int:
    """What the tokens of the data set with that checksum take on the disk; of all without one."""
    return _size(paths.tokens_dir(checksum) if checksum else paths.root() / "tokens")


def disk_use(model: Model | None = None) -> list[DiskUse]:
    """Per model, the largest first."""
    models = Model.objects.filter(pk=model.pk) if model else Model.objects.all()
    rows = (
        models.order_by("name")
        .annotate(
            stored=Count("versions__status"),  # an index holds all that is asked for here
            active=Coalesce(Sum("versions__size_bytes", filter=Q(versions__status="ready")), 0),
            archived=Coalesce(
                Sum("versions__size_bytes", filter=Q(versions__status="archived")), 0
            ),
        )
        .values_list("pk", "name", "stored", "active", "archived")
    )
    used = [DiskUse(*row) for row in rows]
    return sorted(used, key=lambda use: -use.total_bytes)


def _named(*, lock: bool = False) -> set[str]:
    """Every path that a row names or is about to name, relative to storage."""
    versions = ModelVersion.objects.all()
    if lock:  # a version that is being moved or completed is waited for
        list(ModelVersion.objects.select_for_update().exclude(moving_to="").values_list("pk"))
    named = {path for pair in versions.values_list("artifact_path", "moving_to") for path in pair}
    training = versions.filter(status=ModelVersion.Status.TRAINING)
    for name, number in training.values_list("model__name", "version"):
        named.add(_relative(paths.version_dir(name, number)))
    named |= set(BaseModel.objects.values_list("path", flat=True))
    for path, checksum in Dataset.objects.values_list("path", "checksum"):
        named |= {path, f"tokens/{checksum}"}
    for work in (DatasetTask, BundleImport):
        running = work.objects.filter(status=work.Status.RUNNING)
        keys = (options.get("upload") for options in running.values_list("options", flat=True))
        named |= {_relative(paths.upload_dir(key)) for key in keys if key}
    jobs = Model.objects.exclude(jobs=None).values_list("jobs__pk", flat=True)
    named |= {_relative(paths.job_dir(pk)) for pk in jobs if pk is not None}
    reports = DatasetReport.objects.values_list("pk", flat=True)
    named |= {_relative(paths.findings_dir(pk)) for pk in reports}
    return named | {_relative(file.parent) for file in _finished_exports()}


def _finished_exports() -> list[Path]:
    """The files that the pages of versions offer for download."""
    asked = [match for path in _inside("exports") if (match := _EXPORT.fullmatch(path.name))]
    versions = ModelVersion.objects.select_related("model").in_bulk({int(m[1]) for m in asked})
    files = [
        exports.file_path(version, match[2])
        for match in asked
        if (version := versions.get(int(match[1])))
    ]
    return [file for file in files if file.is_file()]


def _candidates() -> Iterator[tuple[Path, str]]:
    live = Model.objects.filter(jobs__status__in=_LIVE_JOBS)
    live_jobs = {str(pk) for pk in live.values_list("jobs__pk", flat=True)}
    for path in _inside("staging"):
        job = _JOB_STAGING.fullmatch(path.name)
        if _DOWNLOAD.fullmatch(_relative(path)):
            yield path, f"a download that was not retried for {RESUMABLE.days} days"
        elif job is None or job[1] not in live_jobs:
            yield path, "left over in staging"
    for folder in ("active", "archive"):
        for path in _inside(folder):
            if path.is_symlink() or not path.is_dir():
                yield path, "no version names it"
            else:
                yield from ((version, "no version names it") for version in _entries(path))
    registered = set(Dataset.objects.values_list("checksum", flat=True))
    for path in _inside("tokens"):
        if path.name not in registered:
            yield path, "no data set names it"
            continue
        for entry in _entries(path):
            if _TOKENS.fullmatch(_relative(entry)):
                yield entry, f"tokens that no run has used for {UNUSED.days} days"
            else:
                yield entry, "left over beside tokens"
    for folder, row in (("base", "base model"), ("datasets", "data set"), ("jobs", "job")):
        yield from ((path, f"no {row} names it") for path in _inside(folder))
    finished = {file.parent: file for file in _finished_exports()}
    for path in _inside("exports"):
        if path not in finished:
            yield path, "an export that is over"
        else:
            beside = (other for other in _entries(path) if other != finished[path])
            yield from ((other, "left over beside an export") for other in beside)
    for path in _inside("uploads"):
        waits = uploads.is_staged(path.name)
        yield path, "an upload that was not registered" if waits else "an upload that is over"
    yield from ((path, "no examination names it") for path in _inside("findings"))


def _inside(folder: str) -> list[Path]:
    return _entries(paths.root() / folder)


def _entries(folder: Path) -> list[Path]:
    with suppress(FileNotFoundError):
        return tidy(folder.iterdir())
    return []


def _relative(path: Path) -> str:
    """Without following links: a link is a leftover itself, never what it points at."""
    return path.relative_to(paths.root()).as_posix()


def _rests(path: Path, age: datetime.timedelta, now: datetime.datetime) -> bool:
    """Whether nothing below `path` was touched within `age`, a download not within `RESUMABLE`, the
    tokens of a data set not within `UNUSED`."""
    if _DOWNLOAD.fullmatch(_relative(path)):
        age = max(age, RESUMABLE)
    if _TOKENS.fullmatch(_relative(path)):
        age = max(age, UNUSED)
    return _newest(path) <= (now - age).timestamp()


def _newest(path: Path) -> float:
    """When anything at or below `path` was last written or renamed."""
    return max((max(s.st_mtime, s.st_ctime) for s in _stats(path)), default=0.0)


def _size(path: Path) -> int:
    return sum(s.st_size for s in _stats(path) if not stat.S_ISDIR(s.st_mode))


def _stats(path: Path) -> Iterator[os.stat_result]:
    with suppress(OSError):
        yield path.lstat()
        if path.is_symlink() or not path.is_dir():
            return
        for below in path.rglob("*"):
            with suppress(OSError):
                yield below.lstat()
