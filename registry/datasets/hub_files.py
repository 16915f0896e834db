"""Data files from a model hub: JSONL, JSON, Parquet and CSV alone, and never any code."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path, PurePosixPath

from backends.litter import is_litter
from registry.bases import downloads
from registry.datasets.files.rows import kind
from registry.errors import Invalid

PREFIX = "hub:"
_ID = re.compile(
    r"hub:(?P<name>[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95})(@(?P<revision>[\w./-]{1,100}))?"
)
_SURELY = (".jsonl", ".parquet", ".csv", ".tsv")
_DESCRIBING = re.compile(
    r"(^|/)(\.[^/]*|dataset_infos?|state|package|[^/]*config|README)\.json", re.I
)


def check_id(hub_id: str) -> tuple[str, str]:
    """(OWNER/NAME, revision or "") of `hub:OWNER/NAME[@REVISION]`. Raises Invalid."""
    match = _ID.fullmatch(hub_id)
    if match is None:
        raise Invalid(
            f"{hub_id!r} is not a hub id; write hub:OWNER/NAME or hub:OWNER/NAME@REVISION."
        )
    return match["name"], match["revision"] or ""


def download(
    hub_id: str, target: Path, progress: Callable[[float], None] = lambda _: None
) -> tuple[str, Path]:
    """Download the data files of `hub:OWNER/NAME[@REVISION]` into a folder below `target`.

    Returns `hub:OWNER/NAME@COMMIT`, what was downloaded, and that folder; a later call continues
    there. `progress` gets the share of the bytes. Raises Invalid, NotFound and
    Unavailable.
    """
    name, revision = check_id(hub_id)
    commit, siblings = downloads.ask(name, revision, "dataset")
    files = _data_files(name, [downloads.described(sibling) for sibling in siblings])
    repo = downloads.HubRepo(name, commit, files, "dataset")
    folder = target / commit  # files of two commits are never mixed
    total = repo.total_bytes or 1
    downloads.fetch(repo, folder, lambda done: progress(min(1.0, done / total)))
    return f"{PREFIX}{name}@{commit}", folder


def _data_files(name: str, files: list[downloads.HubFile]) -> tuple[downloads.HubFile, ...]:
    """The files to download. Raises Invalid for none, and for one that would leave the folder."""
    files = [file for file in files if not is_litter(file.name)]
    wanted = [file for file in files if kind(file.name) in _SURELY]
    if not wanted:  # a repository's JSON may also describe it
        wanted = [
            file
            for file in files
            if kind(file.name) == ".json" and not _DESCRIBING.search(file.name)
        ]
    for file in wanted:
        parts = PurePosixPath(file.name).parts
        if ".." in parts or file.name.startswith("/") or "\\" in file.name or "\0" in file.name:
            raise Invalid(f"{name} has a file named {file.name!r}, which is refused.")
    if not wanted:
        raise Invalid(
            f"{name} has no JSONL, JSON, Parquet or CSV file, and loading scripts are not run."
        )
    return tuple(wanted)
