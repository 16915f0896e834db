"""What macOS does with a folder by itself: it indexes, backs up and uploads."""

from __future__ import annotations

import contextlib
import ctypes
import os
import plistlib
import sys
from collections.abc import Iterable
from pathlib import Path

from backends.mac.programs import library

_LEFT_OUT = b"com.apple.metadata:com_apple_backup_excludeItem"
_BY = plistlib.dumps("com.apple.backupd", fmt=plistlib.FMT_BINARY)
_SYNCED = b"com.apple.file-provider-domain-id"


def leave_alone(folder: Path, made_again: Iterable[Path]) -> None:
    """Keep Spotlight's index away from `folder`, and Time Machine from the folders below it whose
    files can be made again. Does nothing on other systems, and nothing that a drive refuses."""
    if sys.platform != "darwin":
        return
    with contextlib.suppress(OSError):
        (folder / ".metadata_never_index").touch()
    for path in made_again:
        _set_attribute(path, _LEFT_OUT, _BY)


def syncing(folder: Path) -> str:
    """Which service uploads `folder` and may take its files from the disk: "iCloud Drive", another's
    name, or empty for none."""
    if sys.platform != "darwin":
        return ""
    folder = folder.resolve()
    if any(part.endswith(".nosync") for part in folder.parts):
        return ""
    if "Mobile Documents" in folder.parts:
        return "iCloud Drive"
    if "CloudStorage" in folder.parts[:-1]:  # GoogleDrive-NAME@HOST, Dropbox, …
        return folder.parts[folder.parts.index("CloudStorage") + 1].partition("-")[0]
    for path in (folder, *folder.parents):
        if domain := _attribute(path, _SYNCED):  # on Desktop and Documents, where they are synced
            ours = domain.startswith("com.apple.CloudDocs")
            return "iCloud Drive" if ours else domain.partition("/")[0]
    return ""


# macOS's functions take two more arguments than Linux's: where to begin in the value, and options.


def _set_attribute(path: Path, name: bytes, value: bytes) -> None:
    with contextlib.suppress(OSError, AttributeError):
        call = library().setxattr
        call(os.fsencode(path), name, value, ctypes.c_size_t(len(value)), ctypes.c_uint32(0), 0)


def _attribute(path: Path, name: bytes) -> str:
    with contextlib.suppress(OSError, AttributeError):
        call = library().getxattr
        call.restype = ctypes.c_ssize_t
        value = ctypes.create_string_buffer(1024)
        size = call(
            os.fsencode(path), name, value, ctypes.c_size_t(len(value)), ctypes.c_uint32(0), 0
        )
        return value.raw[: max(0, size)].decode("utf-8", "replace")
    return ""
