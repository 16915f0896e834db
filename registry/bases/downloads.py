"""Files from a model hub: of a model only what an MLX folder needs, resumable, pinned to a commit.

A file is written to `NAME.part`, with the hub's ETag beside it, and renamed when it is whole, so
that a killed download continues where it stopped, and one whose file changed starts over.
`HF_ENDPOINT` names another hub than huggingface.co; `HF_TOKEN` opens gated models.
"""

from __future__ import annotations

import fnmatch
import hashlib
import json
import os
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from registry.errors import Invalid, NotFound, Unavailable
from registry.late import Late

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
    commit, siblings = ask(repo, revision)
    return HubRepo(repo, commit, _wanted(repo, siblings))


def ask(repo: str, revision: str = "", kind: str = "model") -> tuple[str, Sequence[Any]]:
    """The commit of `repo` at `revision`, and all of its files as huggingface_hub describes them.

    Raises NotFound, Invalid and Unavailable.
    """
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
        info: Any = HfApi(endpoint=endpoint()).repo_info(
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
    except (HfHubHTTPError, httpx2.HTTPError, OSError) as error:
        raise _offline(error) from error
    if not _COMMIT.fullmatch(info.sha or ""):
        raise Invalid(f"The hub reports no commit for {repo}, so the download cannot be pinned.")
    return str(info.sha), info.siblings or ()


def described(sibling: Any) -> HubFile:
    """One file of an answer of `ask`."""
    digest = str(sibling.lfs.sha256) if sibling.lfs else ""
    return HubFile(str(sibling.rfilename), int(sibling.size or 0), digest)


def _wanted(repo: str, siblings: Sequence[Any]) -> tuple[HubFile, ...]:
    """Plain names of the patterns alone: what lies in folders (`original/`, `onnx/`) is another
    copy of the same weights, but for how an embedding model pools."""
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


def fetch(model: HubRepo, folder: Path, progress: Callable[[int], None]) -> None:
    """Download every file of `model` into `folder`; `progress` gets the total bytes there so far.

    Raises Invalid as soon as the config asks for code or the index names weights that do not
    come, and when a file is not what the hub said it is; Unavailable when the connection stays
    away. What has arrived is kept for the next call.
    """
    done = 0
    with _client() as client:
        for file in model.files:

            def report(size: int, before: int = done) -> None:
                progress(before + size)

            _fetch(client, model, file, folder, report)
            if file.name in ("config.json", "tokenizer_config.json"):
                _refuse_code(model.repo, folder / file.name)
            elif file.name == _INDEX:
                _refuse_gaps(model, folder / file.name)
            done += file.size
            progress(done)


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
) -> None:
    target = folder / file.name
    target.parent.mkdir(parents=True, exist_ok=True)
    if target.is_file():  # renamed into place by an earlier run: whole
        return
    for attempt in range(_ATTEMPTS):
        try:
            _append(client, model, file, folder, progress)
            break
        except httpx.TransportError as error:
            if attempt == _ATTEMPTS - 1:
                raise _offline(error) from error
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
    if response.status_code >= 500 or response.status_code == 429:
        return httpx.ReadError(f"The hub answered {response.status_code}.")
    if response.status_code in (401, 403):
        return Invalid(f"The hub refuses {file.name}: set HF_TOKEN to a token that may read it.")
    return NotFound(f"The hub answered {response.status_code} for {file.name}.")


def _offline(error: Exception) -> Unavailable:
    reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
    return Unavailable(
        f"The model hub at {endpoint()} cannot be reached ({reason}). Check the network and try "
        "again: what has arrived is kept."
    )
