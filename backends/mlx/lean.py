"""A cheaper import of transformers, which mlx-lm's tokenizers need.

transformers learns the names of its models by reading the sources of all of them, twice in each process:
0.8 s of processor time, a third of what an engine takes until it can load a model. The sources are
the same as last time, so the names are kept in a file in the user's folder of caches.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import os
import sys
import tempfile
from collections.abc import Callable, Sequence
from contextlib import suppress
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from pathlib import Path
from types import ModuleType
from typing import Any

_SCANNING = "transformers.utils.import_utils"
type _Names = dict[frozenset[str], dict[str, set[str]]]
"""By what they need: the modules, and the names in each."""
type _Scan = Callable[..., _Names]


def keep_names() -> None:
    """From now on transformers, once it is imported, keeps the names of its models."""
    if _SCANNING not in sys.modules and _finder not in sys.meta_path:
        sys.meta_path.insert(0, _finder)


class _Finder(MetaPathFinder):
    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if name != _SCANNING:
            return None
        sys.meta_path.remove(self)
        spec = PathFinder.find_spec(name, path, target)
        if spec is not None and type(spec.loader) is SourceFileLoader:
            spec.loader = _Loader(spec.loader.name, spec.loader.path)
        return spec


class _Loader(SourceFileLoader):
    def exec_module(self, module: ModuleType) -> None:
        super().exec_module(module)
        import platformdirs

        models = Path(self.path).parent.parent / "models"
        caches = platformdirs.user_cache_path("mlx-model-hub")
        scan = module.define_import_structure
        module.__dict__["define_import_structure"] = kept(scan, models, caches)


_finder = _Finder()


def kept(scan: _Scan, models: Path, caches: Path) -> _Scan:
    """`scan` of transformers, which for the folder `models` answers from a file in `caches` once it has been
    there."""

    def names(module_path: str | Path, prefix: str | None = None) -> _Names:
        folder = Path(module_path)
        if folder not in (models, models / "__init__.py"):
            return scan(module_path, prefix)
        file = caches / _name(models, prefix)
        with suppress(
            OSError, ValueError, TypeError
        ):  # whatever is there in place of a file of ours
            return _decoded(json.loads(file.read_bytes()))
        found = scan(module_path, prefix)
        with suppress(OSError):
            _write(file, json.dumps(_encoded(found)))
        return found

    return names


def _name(models: Path, prefix: str | None) -> str:
    """One for each release and place."""
    version = importlib.metadata.version("transformers")
    made = models.stat().st_mtime_ns
    what = f"{version} {models} {made} {prefix}"
    return f"transformers-{hashlib.sha256(what.encode()).hexdigest()[:16]}.json"


def _encoded(names: _Names) -> Any:
    return [
        [sorted(needed), {module: sorted(found) for module, found in modules.items()}]
        for needed, modules in names.items()
    ]


def _decoded(value: Any) -> _Names:
    return {
        frozenset(needed): {module: set(found) for module, found in modules.items()}
        for needed, modules in value
    }


def _write(file: Path, text: str) -> None:
    """Whole or not at all: several processes may do so at once."""
    file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=file.parent)
    with os.fdopen(handle, "w") as part:
        part.write(text)
    Path(name).replace(file)
