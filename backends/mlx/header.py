"""The header of MLX's fused CPU kernels, compiled once on a machine.

On the first use of a kernel MLX has g++ compile it, which takes 0.9 s of processor time, 0.7 of them
for a header that all kernels include. Beside the kernels, in the temporary folder, g++ looks for a
compiled one first; it reads the header itself while there is none, or when another g++ made it.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import importlib.util
import subprocess
import tempfile
import threading
import time
from pathlib import Path

FLAGS = "-std=c++17 -O3 -Wall -fPIC"
"""Those of MLX: a header that was compiled with others is not used."""
_HEADER = "mlx/backend/cpu/compiled_preamble.h"
_COMMAND = f'g++ {FLAGS} -x c++-header -I "$0" "$0/{_HEADER}" -o "$1" && mv "$1" "$2" || rm -f "$1"'
_GIVEN_UP_S = 300.0


def kernels() -> Path:
    """The folder with the kernels that MLX has compiled here."""
    return Path(tempfile.gettempdir(), "mlx", importlib.metadata.version("mlx"), "cpu")


def compiled() -> Path:
    """Where g++ looks for the compiled header."""
    return kernels() / f"{_HEADER}.gch"


def precompile() -> None:
    """Begin to compile the header, in a process that outlives this one, if nobody has yet."""
    include = Path(importlib.util.find_spec("mlx").submodule_search_locations[0], "include")  # type: ignore[union-attr, index]
    made = compiled()
    part = made.with_suffix(".part")
    if made.exists() or not (include / _HEADER).exists():
        return
    with contextlib.suppress(OSError):  # another process is at it, or the folder is another user's
        made.parent.mkdir(parents=True, exist_ok=True)
        if part.exists() and time.time() - part.stat().st_mtime > _GIVEN_UP_S:
            part.unlink()
        part.touch(exist_ok=False)
        command = ["sh", "-c", _COMMAND, str(include), str(part), str(made)]
        threading.Thread(target=_run, args=(command,), daemon=True).start()


def _run(command: list[str]) -> None:
    silent = subprocess.DEVNULL
    subprocess.run(command, stdin=silent, stdout=silent, stderr=silent, check=False)
