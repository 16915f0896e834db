"""A Mac for tests: the platform patched, and programs on PATH that print what real ones printed.

The outputs are of macOS 14 to 26 on Apple silicon, shortened, where nothing else is said.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from backends.mac import folders, heat, memory, programs

THERM_SILENT = (  # also while it throttles
    "Note: No thermal warning level has been recorded\n"
    "Note: No performance warning level has been recorded\n"
    "Note: No CPU power status has been recorded\n"
)
PMSET = """System-wide power settings:
Currently in use:
 standby              1
 Sleep On Power Button 1
 hibernatefile        /var/vm/sleepimage
 powernap             1
 networkoversleep     0
 disksleep            10
 sleep                1 (sleep prevented by caffeinate, powerd, bluetoothd)
 hibernatemode        3
 ttyskeepawake        1
 displaysleep         10
 tcpkeepalive         1
 lowpowermode         0
 womp                 1
"""
PMSET_LOW = PMSET.replace("lowpowermode         0", "lowpowermode         1")
# Macs that have a high power mode: 0 automatic, 1 low, 2 high.
PMSET_MODES = PMSET.replace("lowpowermode         0", "powermode            2")
PMSET_MODES_LOW = PMSET_MODES.replace("powermode            2", "powermode            1")
NO_TOOLS = (
    "xcode-select: error: unable to get active developer directory, use `sudo xcode-select --switch "
    "path/to/Xcode.app` to set one (or see `man xcode-select`)\n"
)

_LIBRARY = r"""
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/types.h>
uint64_t level;
int registered, refuses;
char kept[4096], synced[1024], domain[256];

uint32_t notify_register_check(const char *name, int *token) {
    if (refuses || strcmp(name, "com.apple.system.thermalpressurelevel")) return 1;
    registered++;
    *token = 7;
    return 0;
}
uint32_t notify_get_state(int token, uint64_t *state) {
    if (token != 7) return 2;
    *state = level;
    return 0;
}
int setxattr(const char *path, const char *name, const void *value, size_t size,
             uint32_t position, int options) {
    size_t used = strlen(kept);
    if (position || options || memcmp(value, "bplist00", 8)) return -1;
    snprintf(kept + used, sizeof kept - used, "%s|%s|%zu\n", path, name, size);
    return 0;
}
ssize_t getxattr(const char *path, const char *name, void *value, size_t size,
                 uint32_t position, int options) {
    size_t length = strlen(domain);
    if (position || options || strcmp(path, synced) || length > size) return -1;
    if (strcmp(name, "com.apple.file-provider-domain-id")) return -1;
    memcpy(value, domain, length);
    return (ssize_t)length;
}
"""


class Mac:
    """What the test puts on this Mac. `asked` has the command lines of its programs."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def put(self, program: str, output: str | bytes = "", code: int = 0, error: str = "") -> None:
        """A program that prints `output`, writes `error` and exits with `code`."""
        content = output.encode() if isinstance(output, str) else output
        (self._folder / f"{program}.out").write_bytes(content)
        (self._folder / f"{program}.err").write_text(error)
        path = self._folder / program
        path.write_text(
            f'#!/bin/sh\necho "{program} $*" >> "{self._folder}/asked"\n'
            f'cat "{path}.out"; cat "{path}.err" >&2\nexit {code}\n'
        )
        path.chmod(0o755)

    def put_pmset(self, settings: str = PMSET, therm: str = THERM_SILENT) -> None:
        """`pmset` answers `-g` and `-g therm`."""
        self.put("pmset")
        (self._folder / "settings").write_text(settings)
        (self._folder / "therm").write_text(therm)
        path = self._folder / "pmset"
        path.write_text(
            '#!/bin/sh\n[ "$1" = -g ] || exit 64\n'
            f'case "$2" in therm) cat "{self._folder}/therm";; "") cat "{self._folder}/settings";; esac\n'
        )

    @property
    def asked(self) -> list[str]:
        path = self._folder / "asked"
        return path.read_text().splitlines() if path.exists() else []


def forget() -> None:
    """What is asked once in a process."""
    programs.has_git.cache_clear()
    heat._token.cache_clear()


@pytest.fixture
def mac(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Mac]:
    """This machine as a Mac with no programs of its own but those that the test puts there."""
    folder = tmp_path / "mac"
    folder.mkdir()
    monkeypatch.setattr(sys, "platform", "darwin")
    monkeypatch.setattr(fcntl, "F_FULLFSYNC", 51, raising=False)
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")
    forget()
    yield Mac(folder)
    forget()


@pytest.fixture
def charged(monkeypatch: pytest.MonkeyPatch) -> int:
    """What macOS charges each process with: buffers of the GPU, too, which no resident set has."""
    nbytes = 7 << 50
    monkeypatch.setattr(memory, "_usage", lambda pid: SimpleNamespace(phys_footprint=nbytes))
    return nbytes


@pytest.fixture(scope="session")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The functions of libSystem that are called through ctypes, with Apple's arguments."""
    compiler = shutil.which("g++") or shutil.which("cc")
    if compiler is None:
        pytest.skip("no compiler here")
    path = tmp_path_factory.mktemp("libsystem") / "library.so"
    subprocess.run(
        [compiler, "-x", "c", "-shared", "-fPIC", "-o", str(path), "-"],
        input=_LIBRARY.encode(),
        check=True,
        timeout=120,
    )
    return path


@pytest.fixture
def libsystem(compiled: Path, mac: Mac, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Those functions in place of this system's."""
    library = ctypes.CDLL(str(compiled))
    for module in (heat, folders):
        monkeypatch.setattr(module, "library", lambda: library)
    ctypes.c_uint64.in_dll(library, "level").value = 0
    for name in ("registered", "refuses"):
        ctypes.c_int.in_dll(library, name).value = 0
    for name in ("kept", "synced", "domain"):
        (ctypes.c_char * 256).in_dll(library, name).value = b""
    return library


def kept_attributes(library: Any) -> list[str]:
    """`path|name|size` of what was set."""
    return os.fsdecode((ctypes.c_char * 4096).in_dll(library, "kept").value).splitlines()
