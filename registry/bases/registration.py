"""Base models: imported once into `storage/base`, whatever form they came in."""

from __future__ import annotations

import importlib.metadata
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.exceptions import ValidationError
from django.db import IntegrityError, transaction

from backends import get_backend
from backends.base import BackendError, ImportedModel, has_wide_scales
from backends.litter import tidy
from registry.bases.bundled import STARTER_PACKAGE, starter_gguf
from registry.bases.child import ask_backend
from registry.bases.downloads import POOLING, check_room
from registry.commands import typed
from registry.errors import Conflict, Invalid, NotFound
from registry.models import BaseModel
from registry.names import validate_name
from registry.storage import artifacts, paths

STARTER = "SmolLM2-135M-Instruct"
_PIECE = 8 << 20  # bytes copied at a time
WANTED = ("*.json", "*.safetensors", "*.jinja", "*.txt", "*.model", "LICENSE*", POOLING)
"""Files of a model folder that are taken."""


def register_base(
    name: str,
    source: BaseModel.Source,
    origin: str,
    *,
    origin_shown: str = "",
    purpose: str = "base",
    copied: Callable[[int], None] = lambda _: None,
    beat: Callable[[], None] = lambda: None,
) -> BaseModel:
    """Import a GGUF file or an MLX folder at the path `origin` as the base model `name`.

    The row says `origin_shown`, or else the path. `copied` gets the bytes copied so far, `beat` is
    called while nothing is; `purpose` names the folder in staging.

    Raises Invalid for a bad name or an unusable model, NotFound when nothing is at `origin`,
    Conflict when the name is taken.
    """
    source = BaseModel.Source(source)
    if source == BaseModel.Source.STARTER:
        return register_starter()
    if source not in (BaseModel.Source.FOLDER, BaseModel.Source.GGUF):
        raise Invalid(
            f"Only a folder or a GGUF file can be registered from a path; `{typed('import_base')}` takes "
            "the id of a model on a hub, too."
        )
    check_name(name)
    path = Path(origin).expanduser()
    if not path.exists():
        raise NotFound(f"There is nothing at {origin}.")
    shown = origin_shown or str(path.absolute())
    row = BaseModel(name=name, source=source, origin=shown)
    return _register(row, path, purpose, copied, beat)


def register_starter() -> BaseModel:
    """The bundled SmolLM2-135M-Instruct; imported on the first call, the same row ever after.

    Raises NotFound when the package that carries it is not installed.
    """
    existing = BaseModel.objects.filter(name__iexact=STARTER).first()
    if existing:
        return existing
    source = BaseModel.Source.STARTER
    revision = importlib.metadata.version(STARTER_PACKAGE)
    origin = f"Python package {STARTER_PACKAGE.replace('_', '-')}"
    row = BaseModel(
        name=STARTER, source=source, origin=origin, revision=revision, licence="apache-2.0"
    )
    try:
        return _register(row, starter_gguf())
    except Conflict:  # another process was faster
        return BaseModel.objects.get(name__iexact=STARTER)


def find_base(name: str | None) -> BaseModel:
    """The base model `name`, or the only one. Raises NotFound and Invalid, naming what exists."""
    known = list(BaseModel.objects.all())
    names = ", ".join(base.name for base in known) or "none yet; register the starter first"
    if name is None and len(known) != 1:
        raise Invalid(f"Name the base model to adapt. Available: {names}.")
    for base in known:
        if name is None or base.name.lower() == name.lower():
            return base
    raise NotFound(f"There is no base model {name!r}. Available: {names}.")


def base_path(base: BaseModel) -> Path:
    """The MLX folder of a base model."""
    return paths.absolute(base.path)


def config_of(base: BaseModel) -> dict[str, Any]:
    """Its config.json. Raises OSError and ValueError."""
    found = json.loads((base_path(base) / "config.json").read_text())
    if not isinstance(found, dict):
        raise ValueError("config.json is not an object.")
    return found


def precision_of(base: BaseModel) -> str:
    """How its weights are stored, with the type of the scales of quantized ones, which decides what it
    computes in. Rows of earlier versions name float32 scales as those of 16 bits."""
    said = base.quantization
    if not base.is_quantized or "float32" in said or not has_wide_scales(base_path(base)):
        return said
    return f"{said.removesuffix(')')}, float32)"


def free_name(name: str) -> str:
    """`name`, or the first of name-2, name-3, … that no base model has."""
    taken = {
        known.lower()
        for known in BaseModel.objects.filter(name__istartswith=name).values_list("name", flat=True)
    }
    found, number = name, 1
    while found.lower() in taken:
        number += 1
        found = f"{name[:90]}-{number}"
    return found


def check_name(name: str) -> None:
    """Raises Invalid for what is no name, Conflict when another base has it."""
    try:
        validate_name(name)
    except ValidationError as error:
        raise Invalid(" ".join(error.messages)) from None
    if BaseModel.objects.filter(name__iexact=name).exists():
        raise Conflict(f"There is already a base model named {name}; choose another name.")


def _register(
    row: BaseModel,
    path: Path,
    purpose: str = "base",
    copied: Callable[[int], None] = lambda _: None,
    beat: Callable[[], None] = lambda: None,
) -> BaseModel:
    staging = paths.staging_dir(purpose)
    try:
        check_room(staging, size_of(path))
        folder = row.source == BaseModel.Source.FOLDER
        imported = _import(path, staging, copied, beat, folder=folder)
        return publish(row, imported, staging)
    finally:
        artifacts.discard(staging)


def publish(row: BaseModel, imported: ImportedModel, staging: Path) -> BaseModel:
    """Seal the model in `staging`, move it to its place and save `row`, completed from it.

    Raises Conflict when the name is taken.
    """
    _take_template(staging)
    manifest = artifacts.seal(staging)
    target = paths.base_dir(row.name)
    row.path = paths.relative(target)
    row.manifest_sha256, row.size_bytes = manifest.sha256, manifest.size_bytes
    row.quantization, row.architecture = imported.quantization, imported.architecture
    row.parameters, row.context_length = imported.parameters, imported.context_length
    row.pooling = imported.pooling
    # The row is inserted before the rename and seen by others after it: of two that import the
    # same name at once, the second fails before it touches the folder.
    try:
        with transaction.atomic():
            row.save()
            artifacts.put(staging, manifest, target)
    except IntegrityError as error:
        raise Conflict(f"There is already a base model named {row.name}.") from error
    return row


def _import(
    path: Path,
    staging: Path,
    copied: Callable[[int], None],
    beat: Callable[[], None],
    *,
    folder: bool,
) -> ImportedModel:
    if not folder:
        return ask_backend(ImportedModel, "import_gguf", path, staging, beat=beat)
    if not path.is_dir():
        raise Invalid(f"{path} is not a folder.")
    cache = snapshot(path)
    if cache is None:
        inspect(path, beat)  # refuses code and pickles before anything is copied
    done = 0
    for file, place in _wanted(cache or path):
        (staging / place).parent.mkdir(exist_ok=True)
        with file.open("rb") as source, (staging / place).open("wb") as target:
            while piece := source.read(_PIECE):
                done += target.write(piece)
                copied(done)
    return inspect(staging, beat)


def _wanted(folder: Path) -> Iterator[tuple[Path, Path]]:
    """The files of a model folder that are copied, each with its place in the folder."""
    for pattern in WANTED:
        for file in tidy(folder.glob(pattern)):
            if file.name != artifacts.MANIFEST:
                yield file, file.relative_to(folder)


def size_of(path: Path) -> int:
    """Bytes that an import of this folder or file reads; 0 of what is neither."""
    if path.is_file():
        return path.stat().st_size
    if not path.is_dir():
        return 0
    return sum(file.stat().st_size for file, _ in _wanted(snapshot(path) or path))


def unpacked_bytes(path: Path) -> int:
    """What importing a GGUF file writes. Raises Invalid for one that cannot be imported."""
    try:
        return get_backend(settings.BACKEND).foresee_gguf(path).nbytes
    except BackendError as error:
        raise Invalid(str(error)) from error


def default_name(path: Path) -> str:
    """The name of a base model from `path`, if nobody chooses one."""
    for part in (path.resolve(), *path.resolve().parents[:2]):
        if part.name.startswith("models--"):
            return part.name.rpartition("--")[2]
    return path.stem if path.is_file() else path.resolve().name


def snapshot(path: Path) -> Path | None:
    """The newest snapshot in a folder that a model hub's client keeps (`models--OWNER--NAME`, or
    one of its `snapshots`); None for any other folder. Its files are links into the same folder.

    Raises Invalid when it holds no snapshot, or a file leads out of it.
    """
    root = next((p for p in (path, *path.parents[:2]) if p.name.startswith("models--")), None)
    if root is None or not (root / "snapshots").is_dir():
        return None
    newest = path
    if path in (root, root / "snapshots"):
        main = root / "refs" / "main"
        named = root / "snapshots" / main.read_text().strip() if main.is_file() else None
        found = sorted(tidy((root / "snapshots").iterdir()), key=lambda p: p.stat().st_mtime)
        if named is None or not named.is_dir():
            named = found[-1] if found else None
        if named is None:
            raise Invalid(f"{root.name} holds no downloaded model; download it again.")
        newest = named
    for file in newest.iterdir():
        if not Path(os.path.realpath(file)).is_relative_to(root.resolve()):
            raise Invalid(f"{file.name} in {root.name} leads out of that folder; copy the files.")
    return newest


def _take_template(folder: Path) -> None:
    """Some models keep their chat template in a file of its own as JSON, which only the loaders of
    multimodal models read: give it the name that tokenizers look for."""
    source, target = folder / "chat_template.json", folder / "chat_template.jinja"
    if not source.is_file() or target.exists():
        return
    template = _entry(source, "chat_template")
    if isinstance(template, str) and not _entry(folder / "tokenizer_config.json", "chat_template"):
        target.write_text(template)


def _entry(path: Path, key: str) -> object:
    try:
        found = json.loads(path.read_text())
    except (OSError, ValueError, RecursionError):
        return None
    return found.get(key) if isinstance(found, dict) else None


def inspect(folder: Path, beat: Callable[[], None] = lambda: None) -> ImportedModel:
    """Describe a model folder; raises Invalid with the reason why the hub does not take it."""
    return ask_backend(ImportedModel, "inspect", folder, beat=beat)
