"""Data files from a model hub: JSONL, Parquet and CSV alone, and never any code."""

from __future__ import annotations

import os
import re
from pathlib import Path, PurePosixPath

from registry.errors import Invalid, NotFound, Unavailable

PREFIX = "hub:"
_ID = re.compile(
    r"hub:(?P<name>[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95})(@(?P<revision>[\w./-]{1,100}))?"
)
_WANTED = (".jsonl", ".parquet", ".csv")


def download(hub_id: str, target: Path) -> str:
    """Bring the data files of `hub:OWNER/NAME[@REVISION]` into the empty folder `target`.

    The hub is HF_ENDPOINT, or huggingface.co. Returns `hub:OWNER/NAME@COMMIT`, what was brought.
    Raises Invalid, NotFound and Unavailable.
    """
    match = _ID.fullmatch(hub_id)
    if match is None:
        raise Invalid(f"{hub_id!r} is no hub id; write hub:OWNER/NAME or hub:OWNER/NAME@REVISION.")
    from huggingface_hub import HfApi, errors, snapshot_download  # slow, and needed here alone

    name, revision = match["name"], match["revision"]
    endpoint = os.environ.get("HF_ENDPOINT")
    try:
        info = HfApi(endpoint=endpoint).dataset_info(name, revision=revision)
        names = [file.rfilename for file in info.siblings or ()]
        wanted = _data_files(name, names)
        snapshot_download(
            name,
            repo_type="dataset",
            revision=info.sha,
            local_dir=target,
            allow_patterns=wanted,
            endpoint=endpoint,
            max_workers=2,
        )
    except errors.RevisionNotFoundError:
        raise NotFound(f"{name} has no revision {revision}.") from None
    except errors.GatedRepoError:
        raise Invalid(
            f"{name} asks for its terms to be accepted: do so on its page and set HF_TOKEN."
        ) from None
    except errors.RepositoryNotFoundError:
        raise NotFound(f"There is no data set {name} on the hub, or it is private.") from None
    except (errors.HTTPError, OSError) as e:  # type: ignore[attr-defined]  # httpx's, of either name
        raise Unavailable(
            f"The hub cannot be reached for {name} ({type(e).__name__}): check the connection, or "
            "download its files and register them."
        ) from None
    return f"{PREFIX}{name}@{info.sha}"


def _data_files(name: str, files: list[str]) -> list[str]:
    """The files to bring. Raises Invalid for none, and for one that would leave the folder."""
    wanted = [file for file in files if file.lower().endswith(_WANTED)]
    for file in wanted:
        if ".." in PurePosixPath(file).parts or file.startswith("/") or "\\" in file:
            raise Invalid(f"{name} names a file {file!r}, which is refused.")
    if not wanted:
        raise Invalid(f"{name} has no JSONL, Parquet or CSV file; code that makes one is not run.")
    return wanted
