"""An identifier of the content of a model or adapter folder."""

from __future__ import annotations

import hashlib
from pathlib import Path

from backends.litter import tidy

_LARGE = 2**26  # bytes


def identity(folder: Path) -> bytes:
    """32 bytes that differ for other content: of the manifest where there is one, else of the bytes
    of small files and the size and time of large ones."""
    manifest = folder / "manifest.json"
    if manifest.is_file():
        return hashlib.sha256(manifest.read_bytes()).digest()
    digest = hashlib.sha256()
    for path in tidy(folder.iterdir()):
        if path.suffix in (".json", ".safetensors"):
            status = path.stat()
            digest.update(f"{path.name}:{status.st_size}:{status.st_mtime_ns}:".encode())
            if status.st_size < _LARGE:
                digest.update(path.read_bytes())
    return digest.digest()
