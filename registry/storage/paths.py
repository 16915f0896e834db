"""The only module that builds paths below storage.

Rows keep paths relative to storage, so that the folder can be moved. Names come from validated
fields, yet every path is resolved and checked here once more: nothing may leave storage, and a
client's text is never used as a path.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import re
import socket
import sys
import tempfile
import uuid
from functools import cache
from pathlib import Path

from django.conf import settings

from backends.mac.folders import leave_alone

_SOCKET_BYTES = 100  # macOS takes 103, Linux 107
# exFAT answers ENOTSUP, FUSE on macOS EINVAL, vfat on Linux EPERM.
_NO_SOCKETS = {errno.ENOTSUP, errno.EOPNOTSUPP, errno.EINVAL, errno.EPERM, errno.ENOSYS}
_PART = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")

FOLDERS = (
    "active",
    "archive",
    "staging",
    "base",
    "datasets",
    "exports",
    "findings",
    "jobs",
    "run",
    "tokens",
    "uploads",
)

MADE_AGAIN = ("staging", "exports", "findings", "tokens", "run/prefixes")
"""Those of them whose files the hub can make again, or does not need after a restore."""


class UnsafePath(ValueError):
    """A path would leave storage, or a part of it is not a plain name."""


def root() -> Path:
    """The storage folder, absolute and without links."""
    return _resolved(settings.STORAGE)


@cache
def _resolved(storage: Path) -> Path:
    return Path(storage).resolve()  # a system call for each folder above it


def make_folders() -> None:
    """Create the folders of storage that do not exist yet, for this user alone."""
    for name in FOLDERS:
        (root() / name).mkdir(parents=True, exist_ok=True)
    leave_alone(root(), [root() / name for name in MADE_AGAIN])
    close_to_others()


def close_to_others() -> None:
    """Take group's and others' rights from storage and the databases in it: they hold prompts."""
    for path in (root(), *root().glob("*.sqlite3*")):
        with contextlib.suppress(FileNotFoundError, PermissionError):
            path.chmod(path.stat().st_mode & ~0o077)


def _below(folder: str, *parts: str) -> Path:
    for part in parts:
        if not _PART.fullmatch(part) or ".." in part:
            raise UnsafePath(f"{part!r} cannot be part of a path in storage.")
    return _inside(root() / folder / Path(*parts))


def _inside(path: Path) -> Path:
    resolved = path.resolve()
    if not resolved.is_relative_to(root()):
        raise UnsafePath(f"{path} lies outside storage.")
    return resolved


def relative(path: Path) -> str:
    """How a row names `path`: relative to storage, with forward slashes."""
    return _inside(path).relative_to(root()).as_posix()


def absolute(stored: str) -> Path:
    """The path that a row names. Raises UnsafePath when it is empty or leads out of storage."""
    if not stored or Path(stored).is_absolute() or "\0" in stored:
        raise UnsafePath(f"{stored!r} is not a path in storage.")
    return _inside(root() / stored)


def base_dir(name: str) -> Path:
    return _below("base", name.lower())


def dataset_dir(checksum: str) -> Path:
    return _below("datasets", checksum)


def tokens_dir(checksum: str) -> Path:
    """Where runs on the data set with that checksum keep its examples as tokens."""
    return _below("tokens", checksum)


def version_dir(model: str, version: str, *, archived: bool = False) -> Path:
    return _below("archive" if archived else "active", model.lower(), version)


def staging_dir(purpose: str) -> Path:
    """A new empty folder on the same file system as where its content will be renamed to."""
    path = _below("staging", f"{purpose}-{uuid.uuid4().hex}")
    path.mkdir(parents=True)
    return path


def download_dir(key: str) -> Path:
    """Where the files of one commit on a model hub gather; kept after a failure, for a retry to continue."""
    return _below("staging", f"download-{key}")


def mlflow_database() -> Path:
    """MLflow's embedded store."""
    return root() / "mlflow.sqlite3"


def mlflow_artifacts() -> Path:
    """Where runs of the embedded store keep their artifacts."""
    return root() / "mlflow-artifacts"


def upload_dir(name: str) -> Path:
    """Where one client's files wait to be registered; `name` is ours, never the client's."""
    return _below("uploads", name)


def staging_dirs(purpose: str) -> list[Path]:
    """The folders that `staging_dir` made for that purpose and that are still there."""
    return sorted(_below("staging").glob(f"{purpose}-{'[0-9a-f]' * 32}"))


def export_dir(name: str) -> Path:
    """Where one export is kept for download; `name` is ours."""
    return _below("exports", name)


def findings_dir(report_id: int) -> Path:
    """What was found in each row of a data set, beside the report of its examination."""
    return _below("findings", str(report_id))


def job_dir(job_id: int) -> Path:
    """A job's checkpoints and log."""
    return _below("jobs", str(job_id))


def run_dir() -> Path:
    return _below("run")


def training_mark() -> Path:
    """A file that is there while a training job may be running; only the jobs' rows say whether one is."""
    return run_dir() / "training"


def engine_socket() -> Path:
    """The engine's Unix socket. Socket paths end at about 100 bytes, and some drives keep none: a
    deep storage and one on such a drive get a socket elsewhere, named by a hash of where storage is."""
    path = run_dir() / "engine.sock"
    if len(os.fsencode(path)) <= _SOCKET_BYTES and keeps_sockets(path.parent):
        return path
    digest = hashlib.sha256(os.fsencode(root())).hexdigest()[:16]
    folder = _sockets_elsewhere()
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if folder.stat().st_uid != os.getuid():
        raise UnsafePath(f"{folder} belongs to another user; set TMPDIR to a folder of your own.")
    return folder / f"{digest}.sock"


def _sockets_elsewhere() -> Path:
    """A folder of this user's on a local drive. macOS removes from its temporary folder what nobody
    has read for three days, which a socket never is."""
    caches = Path.home() / "Library" / "Caches" / "mlx-model-hub"
    if sys.platform == "darwin" and len(os.fsencode(caches)) + 22 <= _SOCKET_BYTES:
        return caches
    return Path(tempfile.gettempdir()) / f"mlx-hub-{os.getuid()}"


def keeps_sockets(folder: Path) -> bool:
    """Whether a Unix socket can be made in `folder`; on exFAT and some network drives none can."""
    return not folder.is_dir() or _binds(folder)


@cache
def _binds(folder: Path) -> bool:
    probe = folder / f".probe-{os.getpid()}"
    with socket.socket(socket.AF_UNIX) as sock:
        try:
            sock.bind(str(probe))
        except OSError as error:
            return error.errno not in _NO_SOCKETS
        finally:
            probe.unlink(missing_ok=True)
    return True
