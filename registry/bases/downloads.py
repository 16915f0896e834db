"""Files from a model hub: of a model only what an MLX folder needs, resumable, pinned to a commit.

A file is written to `NAME.part`, with the hub's ETag beside it, and renamed when it is whole, so
that a killed download continues where it stopped, and one whose file changed starts over.
`HF_ENDPOINT` names another hub than huggingface.co; `HF_TOKEN` opens gated models.
"""

from __future__ import annotations

import fcntl
import fnmatch
import hashlib
import json
import os
import re
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from registry.errors import DiskFull, Invalid, NotFound, TooManyRequests, Unavailable
from registry.late import Late
from registry.storage.sizes import human

if TYPE_CHECKING:
    import httpx
else:
    httpx = Late("httpx")

_WANTED = ("*.json", "model*.safetensors", "*.jinja", "*.txt", "*.model", "LICENSE*")
POOLING = "[0-9]_Pooling/config.json"
"""How an embedding model makes its vectors; see `backends.base.Embedder`."""
_INDEX = "model.safetensors.index.json"
_PICKLES = (".bin", ".pt", ".pth", ".pkl", ".ckpt")
_PART = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,199}")
_COMMIT = re.compile(r"[0-9a-f]{40}")
_ATTEMPTS = 5
_MOST_WAIT_S = 60.0  # before a hub that limits requests is asked again
_LOCKED_EVERY_S = 0.5
SPARE = 500 * 10**6
"""Bytes that stay free on the disk for everything else."""


@dataclass(frozen=True)
class HubFile:
    """One file of a repository. `sha256` is empty where the hub does not say it (small files)."""

    name: str
    size: int
    sha256: str = ""


@dataclass(frozen=True)
class HubRepo:
    """A repository at one commit and the files of it that are wanted, small ones first."""

    repo: str
    commit: str
    files: tuple[HubFile, ...]
    kind: str = "model"  # or "dataset"
    licence: str = ""

    @property
    def total_bytes(self) -> int:
        return sum(file.size for file in self.files)


def endpoint() -> str:
    return os.environ.get("HF_ENDPOINT", "").rstrip("/") or "https://huggingface.co"


def find(repo: str, revision: str = "") -> HubRepo:
    """Ask the hub for the files of the model `repo` at `revision` (a branch, tag or commit; its
    default).

    Raises NotFound, Invalid (no safetensors, hostile answers) and Unavailable when offline.
    """
    info = _info(repo, revision)
    files = wanted_files(repo, info.siblings or ())
    return HubRepo(repo, str(info.sha), files, licence=licence_of(info))


def ask(repo: str, revision: str = "", kind: str = "model") -> tuple[str, Sequence[Any]]:
    """The commit of `repo` at `revision`, and all of its files as huggingface_hub describes them.

    Raises NotFound, Invalid and Unavailable.
    """
    info = _info(repo, revision, kind)
    return str(info.sha), info.siblings or ()


def _info(repo: str, revision: str, kind: str = "model") -> Any:
    import httpx2  # what huggingface_hub speaks with
    from huggingface_hub import HfApi
    from huggingface_hub.errors import (
        GatedRepoError,
        HfHubHTTPError,
        HFValidationError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    what = {"model": "model", "dataset": "data set"}[kind]
    try:
        info = HfApi(endpoint=endpoint()).repo_info(
            repo, repo_type=kind, revision=revision or None, files_metadata=True, timeout=30
        )
    except GatedRepoError:
        raise Invalid(
            f"{repo} is gated: accept its terms on the hub and set HF_TOKEN to your token."
        ) from None
    except RevisionNotFoundError:
        raise NotFound(f"{repo} has no revision {revision!r}.") from None
    except RepositoryNotFoundError:
        raise NotFound(f"There is no {what} {repo} on {endpoint()}, or it is private.") from None
    except HFValidationError:
        raise Invalid(f"{repo!r} is not a hub id; write it as OWNER/NAME.") from None
    except HfHubHTTPError as error:
        raise refused_by(error) from error
    except (httpx2.HTTPError, OSError) as error:
        raise offline(error) from error
    if not _COMMIT.fullmatch(info.sha or ""):
        raise Invalid(f"The hub reports no commit for {repo}, so the download cannot be pinned.")
    return info


def licence_of(info: Any) -> str:
    """The licence that a model's card names, "" for none."""
    card = getattr(info, "card_data", None)
    named = (card.get("license_name") or card.get("license")) if card else None
    tags = (tag.removeprefix("license:") for tag in info.tags or () if tag.startswith("license:"))
    found = named if isinstance(named, str) else next(tags, "")
    return found[:100]


def described(sibling: Any) -> HubFile:
    """One file of an answer of `ask`."""
    digest = str(sibling.lfs.sha256) if sibling.lfs else ""
    return HubFile(str(sibling.rfilename), int(sibling.size or 0), digest)


def wanted_files(repo: str, siblings: Sequence[Any]) -> tuple[HubFile, ...]:
    """Plain names of the patterns alone: what lies in folders (`original/`, `onnx/`) is another
    copy of the same weights, but for how an embedding model pools. Raises Invalid without weights
    that can be read."""
    files = []
    for sibling in siblings:
        name = str(sibling.rfilename)
        plain = _PART.fullmatch(name) and any(fnmatch.fnmatch(name, p) for p in _WANTED)
        if plain or fnmatch.fnmatch(name, POOLING):
            files.append(described(sibling))
    if not any(file.name.endswith(".safetensors") for file in files):
        raise Invalid(_why_no_weights(repo, [str(s.rfilename) for s in siblings]))
    return tuple(sorted(files, key=lambda f: (f.name != "config.json", f.size, f.name)))


def _why_no_weights(repo: str, names: list[str]) -> str:
    other = sorted(n for n in names if "/" not in n and n.endswith(".safetensors"))
    if other:
        return (
            f"{repo} keeps its weights in {other[0]}, and mlx-lm reads only files named "
            "model*.safetensors; choose a repository with newer files."
        )
    pickled = any(name.endswith(_PICKLES) for name in names)
    reason = "only pickles, which can run code" if pickled else "no model.safetensors"
    return f"{repo} has {reason}; choose a model in safetensors."


def fetch(
    model: HubRepo,
    folder: Path,
    progress: Callable[[int], None],
    arrived: Callable[[int], None] = lambda nbytes: None,
) -> None:
    """Download every file of `model` into `folder`; `progress` gets the total bytes there so far, and
    before it `arrived` how many have come just now.

    Raises Invalid as soon as the config asks for code or the index names weights that do not
    come, and when a file is not what the hub said it is; Unavailable when the connection stays
    away. What has arrived is kept for the next call.
    """
    done = 0
    with _client() as client:
        for file in model.files:

            def report(size: int, before: int = done) -> None:
                progress(before + size)

            _fetch(client, model, file, folder, report, arrived)
            if file.name in ("config.json", "tokenizer_config.json"):
                _refuse_code(model.repo, folder / file.name)
            elif file.name == _INDEX:
                _refuse_gaps(model, folder / file.name)
            done += file.size
            progress(done)


@contextmanager
def alone(folder: Path, beat: Callable[[], None]) -> Iterator[None]:
    """Make `folder` and keep other processes from it meanwhile: one that was paused may still wait for
    bytes when the next one is started. `beat` is called while the other one is waited for."""
    while True:
        folder.mkdir(parents=True, exist_ok=True)
        handle = os.open(folder, os.O_RDONLY)
        try:
            if _lock(handle) and _is(handle, folder):
                yield
                return
        finally:
            os.close(handle)  # with the lock, as does the end of a killed process
        beat()
        time.sleep(_LOCKED_EVERY_S)


def _lock(handle: int) -> bool:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:  # some network drives lock nothing
        return True
    return True


def _is(handle: int, folder: Path) -> bool:
    """Whether the folder is still the one that was opened: a base model that is done takes it along."""
    try:
        return os.path.samestat(os.fstat(handle), folder.stat())
    except FileNotFoundError:
        return False


def check_room(folder: Path, total: int) -> int:
    """How many of `total` bytes are in `folder` already. Raises DiskFull when the rest does not fit on
    its disk."""
    files = (path for path in folder.rglob("*") if path.is_file() and path.suffix != ".etag")
    here = min(total, sum(path.stat().st_size for path in files))
    check_free(folder, total - here)
    return here


def check_free(folder: Path, missing: int) -> None:
    """Raises DiskFull when so many bytes do not fit on the disk of `folder`."""
    free = shutil.disk_usage(folder).free
    if missing + SPARE > free:
        raise DiskFull(
            f"The disk of the storage folder has {human(free)} free, and {human(missing)} and "
            f"{human(SPARE)} to spare are needed. Free some space, then continue."
        )


def _client() -> httpx.Client:
    from huggingface_hub.utils._headers import build_hf_headers

    return httpx.Client(
        headers={**build_hf_headers(), "accept-encoding": "identity"},
        follow_redirects=True,
        timeout=30,
    )


def _fetch(
    client: httpx.Client,
    model: HubRepo,
    file: HubFile,
    folder: Path,
    progress: Callable[[int], None],
    arrived: Callable[[int], None],
) -> None:
    target = folder / file.name
    target.parent.mkdir(parents=True, exist_ok=True)
    if target.is_file():  # renamed into place by an earlier run: whole
        return
    for attempt in range(_ATTEMPTS):
        try:
            _append(client, model, file, folder, progress, arrived)
            break
        except TooManyRequests as error:
            if attempt == _ATTEMPTS - 1:
                raise
            time.sleep(min(error.retry_after, _MOST_WAIT_S))
        except httpx.TransportError as error:
            if attempt == _ATTEMPTS - 1:
                raise offline(error) from error
    part = folder / f"{file.name}.part"
    with part.open("rb") as content:
        digest = hashlib.file_digest(content, "sha256").hexdigest() if file.sha256 else ""
    if part.stat().st_size != file.size or digest != file.sha256:
        part.unlink()  # so that a retry starts it over
        raise Invalid(f"{file.name} does not match the checksum from the hub; try again.")
    part.rename(target)
    _etag_path(part).unlink(missing_ok=True)


def _append(
    client: httpx.Client,
    model: HubRepo,
    file: HubFile,
    folder: Path,
    progress: Callable[[int], None],
    arrived: Callable[[int], None],
) -> None:
    """Read the rest of the file. A dropped connection leaves what came before it in place."""
    from huggingface_hub import hf_hub_url

    part = folder / f"{file.name}.part"
    have = part.stat().st_size if part.exists() else 0
    etag = _etag_path(part).read_text() if have and _etag_path(part).exists() else ""
    if have and have == file.size:
        return
    # If-Range: when the file is another one by now, the server sends it whole instead of the rest.
    asked = {"Range": f"bytes={have}-", "If-Range": etag} if have and etag else {}
    url = hf_hub_url(
        model.repo,
        file.name,
        repo_type=model.kind,
        revision=model.commit,
        endpoint=endpoint(),
    )
    with client.stream("GET", url, headers=asked) as response:
        if response.status_code == 416:
            part.unlink()
            raise httpx.ReadError("The server does not have that range; starting over.")
        if response.status_code >= 400:
            raise _answer(response, file)
        resumed = response.status_code == 206 and bool(asked)
        _etag_path(part).write_text(response.headers.get("etag", ""))
        size = have if resumed else 0
        with part.open("ab" if resumed else "wb") as out:
            # No chunk size: gathered bytes would be lost with the connection.
            for chunk in response.iter_raw():
                size += out.write(chunk)
                arrived(len(chunk))
                if size > file.size:
                    raise Invalid(f"{file.name} is longer than the hub said, so it was discarded.")
                progress(size)
    if size < file.size:
        raise httpx.ReadError("The connection ended before the file did.")


def _refuse_code(repo: str, path: Path) -> None:
    try:
        config = json.loads(path.read_text())
    except ValueError:
        raise Invalid(f"{path.name} of {repo} is not readable JSON.") from None
    for key in ("model_file", "auto_map"):
        if key in config:
            raise Invalid(
                f"{repo} asks to run its own code ({key!r} in {path.name}), which is refused."
            )


def _refuse_gaps(model: HubRepo, path: Path) -> None:
    """Raise Invalid before gigabytes are downloaded when some weights are missing on the hub."""
    try:
        named = {str(name) for name in json.loads(path.read_text())["weight_map"].values()}
    except (ValueError, KeyError, TypeError, AttributeError):
        raise Invalid(f"{path.name} of {model.repo} is not a readable index.") from None
    if missing := sorted(named - {file.name for file in model.files}):
        raise Invalid(
            f"{path.name} of {model.repo} names {missing[0]!r}, which is not there as "
            "model*.safetensors, the only weights that mlx-lm reads; choose another repository."
        )


def _etag_path(part: Path) -> Path:
    return part.with_name(f"{part.name}.etag")


def _answer(response: httpx.Response, file: HubFile) -> Exception:
    if response.status_code == 429:
        return _limited(response.headers.get("retry-after", ""))
    if response.status_code >= 500:
        return httpx.ReadError(f"The hub answered {response.status_code}.")
    if response.status_code in (401, 403):
        return Invalid(f"The hub refuses {file.name}: set HF_TOKEN to a token that may read it.")
    return NotFound(f"The hub answered {response.status_code} for {file.name}.")


def refused_by(error: Any) -> Exception:
    """What a hub's answer of 400 or more means (an HfHubHTTPError)."""
    status = getattr(error.response, "status_code", 0)
    if status == 429:
        return _limited(error.response.headers.get("retry-after", ""))
    if status in (401, 403):
        return Invalid(
            f"The model hub at {endpoint()} refuses this: set HF_TOKEN to a token that may read it."
        )
    return offline(error)


def _limited(after: str) -> TooManyRequests:
    seconds = int(after) if after.isdecimal() else 60
    return TooManyRequests(
        f"The model hub at {endpoint()} limits requests: try again in {seconds} s. With HF_TOKEN set "
        "it allows more.",
        seconds,
    )


def offline(error: Exception) -> Unavailable:
    reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
    return Unavailable(
        f"The model hub at {endpoint()} cannot be reached ({reason}). Check the network and try "
        "again: what has arrived is kept."
    )
