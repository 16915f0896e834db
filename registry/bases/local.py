"""Models that other programs keep on this machine: Hugging Face's cache, LM Studio, Ollama, llama.cpp.

They are only listed, by their settings and headers; an import copies one into storage.
"""

from __future__ import annotations

import json
import os
import re
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from backends.litter import tidy
from registry.bases import registration
from registry.bases.offers import Offer, foreseen, foreseen_gguf, together
from registry.errors import HubError, NotFound
from registry.models import BaseModel

DEADLINE_S = 4.0
MOST = 300
"""Models that are listed at most."""
_LONGEST_JSON = 1 << 20
_OLLAMA_MODEL, _OLLAMA_LICENCE = ".image.model", ".image.license"
_BLOB = re.compile(r"sha256:([0-9a-f]{64})")
_read: dict[tuple[Path, int, int], Offer] = {}
"""GGUF files by path, size and time: their headers take a second to read."""


def hub_cache() -> Path:
    """Where huggingface_hub keeps what it downloads."""
    set_ = os.environ.get
    if named := set_("HF_HUB_CACHE") or set_("HUGGINGFACE_HUB_CACHE"):
        return Path(named).expanduser()
    if home := set_("HF_HOME"):
        return Path(home).expanduser() / "hub"
    return Path(set_("XDG_CACHE_HOME") or "~/.cache").expanduser() / "huggingface" / "hub"


def places() -> list[tuple[str, Path]]:
    """The folders that are looked at, with the program that owns each."""
    home = Path.home()
    ollama = os.environ.get("OLLAMA_MODELS")
    llama = os.environ.get("LLAMA_CACHE")
    found = [
        ("Hugging Face cache", hub_cache()),
        ("LM Studio", home / ".lmstudio" / "models"),
        ("LM Studio", home / ".cache" / "lm-studio" / "models"),
        ("Ollama", Path(ollama).expanduser() if ollama else home / ".ollama" / "models"),
        ("Ollama", Path("/usr/share/ollama/.ollama/models")),
        ("llama.cpp", Path(llama).expanduser() if llama else _llama_cache(home)),
    ]
    return [(program, folder) for program, folder in found if _is_folder(folder)]


def _llama_cache(home: Path) -> Path:
    if sys.platform == "darwin":
        return home / "Library" / "Caches" / "llama.cpp"
    return home / ".cache" / "llama.cpp"


def _is_folder(folder: Path) -> bool:
    try:
        return folder.is_dir() and os.access(folder, os.R_OK | os.X_OK)
    except OSError:
        return False


def scan(deadline_s: float = DEADLINE_S) -> list[Offer]:
    """What is there, by name. Files whose header is not read in time are `reading`."""
    until = time.monotonic() + deadline_s
    offers = []
    for program, folder in places():
        for offer in _in(program, folder):
            offers.append(offer)
            if len(offers) >= MOST:
                break
    unread = [offer for offer in offers if offer.reading]
    if unread:  # what is read is kept, whether in time or not
        together([partial(_look, unread)], until)
    done = [_kept(offer) or offer if offer.reading else offer for offer in offers]
    return sorted(done, key=lambda offer: (offer.place, offer.title.lower()))


def find(key: str) -> Offer:
    """The model with this key. Raises NotFound."""
    for program, folder in places():
        for offer in _in(program, folder):
            if offer.key == key:
                return offer
    raise NotFound("This model is not on this machine any more; reload the list.")


def _look(unread: list[Offer]) -> None:
    """Read headers one after the other, until all are read or nobody can wait any more."""
    for offer in unread:
        if offer.path and _kept(offer) is None and (place := _stamp(offer.path)):
            while len(_read) >= 2 * MOST:
                _read.pop(next(iter(_read)), None)
            _read[place] = foreseen_gguf(replace(offer, why="", reading=False), offer.path)


def _kept(offer: Offer) -> Offer | None:
    place = offer.path and _stamp(offer.path)
    return _read.get(place) if place else None


def _stamp(path: Path) -> tuple[Path, int, int] | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return path, status.st_size, status.st_mtime_ns


def _in(program: str, folder: Path) -> Iterator[Offer]:
    ways = {"Hugging Face cache": _hugging_face, "Ollama": _ollama, "LM Studio": _owners}
    try:
        yield from ways.get(program, _files)(program, folder)
    except OSError:  # a drive that was pulled out, a folder of somebody else's
        return


def _hugging_face(program: str, folder: Path) -> Iterator[Offer]:
    for root in tidy(folder.glob("models--*")):
        title = "/".join(root.name.split("--")[1:])
        try:
            snapshot = registration.snapshot(root)
        except HubError:
            continue  # only started, or not as that cache is
        if snapshot is None:
            continue
        yield from _folder(program, title, root, snapshot)
        yield from _ggufs(program, snapshot, title)


def _owners(program: str, folder: Path) -> Iterator[Offer]:
    """OWNER/NAME/ with the files of a model."""
    for owner in tidy(folder.iterdir()):
        for model in tidy(owner.iterdir()) if owner.is_dir() else ():
            if model.is_dir():
                title = f"{owner.name}/{model.name}"
                yield from _folder(program, title, model, model)
                yield from _ggufs(program, model, title)


def _files(program: str, folder: Path) -> Iterator[Offer]:
    yield from _ggufs(program, folder)


def _ollama(program: str, folder: Path) -> Iterator[Offer]:
    """manifests/HOST/OWNER/NAME/TAG names blobs, one of them the model as GGUF."""
    for manifest in tidy((folder / "manifests").glob("*/*/*/*")):
        found = _json(manifest)
        layers = found.get("layers") if found else None
        kinds = {
            str(layer.get("mediaType")): str(layer.get("digest"))
            for layer in layers or ()
            if isinstance(layer, dict)
        }
        model = next((d for kind, d in kinds.items() if kind.endswith(_OLLAMA_MODEL)), "")
        if digest := _BLOB.fullmatch(model):
            path = folder / "blobs" / f"sha256-{digest[1]}"
            owner = manifest.parent.parent.name
            name = f"{manifest.parent.name}:{manifest.name}"
            title = name if owner == "library" else f"{owner}/{name}"
            if path.is_file():
                yield _gguf(program, title, path)


def _folder(program: str, title: str, named: Path, folder: Path) -> Iterator[Offer]:
    """The model folder `folder`, imported by the path `named`; nothing when it holds no weights."""
    weights = tidy(folder.glob("model*.safetensors"))
    config = _json(folder / "config.json")
    if not weights or config is None:
        return
    try:
        nbytes = sum(file.stat().st_size for file in weights)
    except OSError:
        return
    offer = Offer(
        program,
        title,
        BaseModel.Source.FOLDER,
        size_bytes=nbytes,
        licence=_licence(folder),
        path=named,
    )
    index = _json(folder / "model.safetensors.index.json") or {}
    names = index.get("weight_map")
    wanted = set(map(str, names.values())) if isinstance(names, dict) else set()
    if missing := wanted - {file.name for file in weights}:
        much = f"{len(missing)} of {len(wanted)} files of weights are missing"
        yield replace(offer, why=f"Only partly downloaded: {much}.")
        return
    yield foreseen(offer, config, nbytes)


_SPLIT = re.compile(r"-\d{5}-of-(\d{5})\.gguf$")


def _ggufs(program: str, folder: Path, title: str = "") -> Iterator[Offer]:
    for file in tidy(folder.glob("*.gguf")):
        if "mmproj" in file.name.lower():  # the eyes of a model, no model
            continue
        shown = f"{title}/{file.name}" if title else file.name
        if parts := _SPLIT.search(file.name):
            if file.name.endswith(f"-00001-of-{parts[1]}.gguf"):
                why = "It is split into several GGUF files, which cannot be read; take one in one file."
                yield Offer(program, shown, BaseModel.Source.GGUF, path=file, why=why)
            continue
        yield _gguf(program, shown, file)


def _gguf(program: str, title: str, path: Path) -> Offer:
    try:
        nbytes = path.stat().st_size
    except OSError:
        nbytes = 0
    offer = Offer(program, title, BaseModel.Source.GGUF, size_bytes=nbytes, path=path)
    return _kept(offer) or replace(offer, reading=True, why="Its header is being read.")


_CARD = re.compile(r"^license(?:_name)?:\s*[\"']?([\w.+-]{1,60})", re.MULTILINE)


def _licence(folder: Path) -> str:
    """As the model's card names it."""
    try:
        with (folder / "README.md").open(encoding="utf-8", errors="replace") as file:
            head = file.read(4096)
    except OSError:
        return ""
    found = _CARD.search(head)
    return found[1] if found else ""


def _json(path: Path) -> dict[str, Any] | None:
    try:
        if path.stat().st_size > _LONGEST_JSON and path.name != "model.safetensors.index.json":
            return None
        found = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None
