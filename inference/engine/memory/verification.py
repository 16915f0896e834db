"""Whether the files of a request are intact: checked once, before they are first loaded."""

from __future__ import annotations

import asyncio
from pathlib import Path

from inference.engine.requests.places import Place, place
from inference.protocol import Folder
from registry.errors import Invalid, NotFound
from registry.storage import paths
from registry.storage.checks import require_sound


class Verified:
    """Folders whose checksums matched. Artifacts are immutable, so once is enough per process."""

    def __init__(self) -> None:
        self._whole: dict[Folder, Path] = {}
        self._places: dict[tuple[Folder, Folder | None], Place] = {}
        self._checking = asyncio.Lock()  # one reads the files, the others wait for its result

    async def place(self, base: Folder, adapter: Folder | None) -> Place:
        """Where both are. Raises Invalid, NotFound or Damaged."""
        folders = await self.folder(base), await self.folder(adapter) if adapter else None
        found = self._places.get(both := (base, adapter))
        if found is None:
            found = self._places[both] = place(*folders, base.manifest_sha256)
        return found

    async def folder(self, folder: Folder) -> Path:
        """The absolute path of `folder`, its files hashed off the event loop the first time."""
        path = self._whole.get(folder)
        try:
            path = path or paths.absolute(folder.path)
        except paths.UnsafePath as error:
            raise Invalid(str(error)) from error
        if not path.is_dir():
            raise NotFound(f"The folder {folder.path} is missing from storage; restore it.")
        if folder not in self._whole:
            async with self._checking:
                if folder not in self._whole:
                    await asyncio.to_thread(
                        require_sound,
                        path,
                        folder.manifest_sha256 or None,
                        folder.path,
                        "It is not served; restore it or register it again.",
                    )
                    self._whole[folder] = path
        return path
