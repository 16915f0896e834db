"""An environment of its own for each rival, outside the project, kept from run to run."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

KEPT = Path.home() / ".cache" / "mlx-model-hub" / "rivals"
_LIMIT_S = 900.0
# What they need for pictures, sound and pages, some 5 GB on Linux; mlx-openai-server does not start
# without torch there. All compute with the hub's version of MLX.
_LEFT_OUT = ("torch", "torchvision", "opencv-python", "gradio", "mflux", "mlx-whisper", "librosa")
_ON_A_MAC = "sys_platform == 'darwin'"
_MLX = "mlx[cpu]==0.32.4" if sys.platform == "linux" else "mlx==0.32.4"


class NotInstalled(Exception):
    """Why a rival is not measured."""


def interpreter(package: str) -> Path:
    """The Python of an environment with `package`, such as `rapid-mlx==0.16.10`; installed at the
    first call. Raises NotInstalled."""
    folder = KEPT / package.replace("==", "-")
    python = folder / "bin" / "python"
    if (folder / "complete").exists():
        return python
    uv = shutil.which("uv")
    if uv is None:
        raise NotInstalled("uv is not on the PATH")
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    overrides = folder / "overrides.txt"
    print(f"Installing {package} into {folder} …", flush=True)
    _run([uv, "venv", "--quiet", "--allow-existing", "--python", sys.executable, str(folder)])
    overrides.write_text("\n".join((*(f"{name}; {_ON_A_MAC}" for name in _LEFT_OUT), _MLX)))
    wanted = [package, "mkl"] if sys.platform == "linux" else [package]
    options = ["--quiet", "--python", str(python), "--override", str(overrides)]
    _run([uv, "pip", "install", *options, *wanted])
    (folder / "complete").touch()
    return python


def _run(command: list[str]) -> None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_LIMIT_S)
    except subprocess.TimeoutExpired:
        raise NotInstalled(f"it was not installed within {_LIMIT_S:.0f} s") from None
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
        raise NotInstalled(f"it could not be installed: {last.strip()}")
