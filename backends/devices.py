"""Which device MLX will compute on, as far as that can be known without loading it.

The web process plans for the device, but never loads MLX.
"""

from __future__ import annotations

import importlib.metadata
import os
import subprocess
import sys
from functools import cache
from typing import Literal

Kind = Literal["cpu", "metal", "cuda"]

_NAMES: tuple[Kind, ...] = ("cpu", "metal", "cuda")
_CUDA_BUILDS = ("mlx-cuda-12", "mlx-cuda-13")


def assumed() -> Kind | None:
    """The device that HUB_ASSUMED_DEVICE names, for tests: what is decided by the device is then
    decided as there, and computed on the one that is here. Raises ValueError."""
    name = os.environ.get("HUB_ASSUMED_DEVICE", "")
    if not name:
        return None
    for kind in _NAMES:
        if kind == name:
            return kind
    raise ValueError(f"HUB_ASSUMED_DEVICE is {name!r}; set it to {', '.join(_NAMES)} or nothing.")


def expected() -> Kind:
    """The default device of MLX here. Raises ValueError."""
    if kind := assumed():
        return kind
    if sys.platform == "darwin":
        return "metal"
    return "cuda" if _has_cuda_build() and _first_gpu() is not None else "cpu"


MOST_LANES = 4


def threads() -> int:
    """How many the CPU computes with: OMP_NUM_THREADS, or one for each core."""
    cores = len(os.sched_getaffinity(0)) if sys.platform == "linux" else (os.cpu_count() or 1)
    return max(1, int(os.environ.get("OMP_NUM_THREADS", "") or cores))


def lanes() -> int:
    """In how many parts the CPU computes a batch side by side (see `backends.mlx.training.loss`)."""
    return min(threads(), MOST_LANES)


def video_memory() -> int | None:
    """Bytes of the CUDA device that MLX uses, None where there is none, or it shares the machine's
    memory."""
    answer = _first_gpu() if expected() == "cuda" else None
    return int(answer) << 20 if answer and answer.isdigit() else None


def _has_cuda_build() -> bool:
    found = (list(importlib.metadata.distributions(name=name)) for name in _CUDA_BUILDS)
    return any(found)


@cache
def _first_gpu() -> str | None:
    """What NVIDIA's driver says of the memory of the first visible GPU, in MiB ("[N/A]" where it is
    the machine's); None without a driver or a GPU."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    first = visible.split(",")[0].strip() if visible is not None else "0"
    if first in ("", "-1"):
        return None
    command = ["nvidia-smi", "--query-gpu=memory.total", "--format=csv,noheader,nounits"]
    try:
        answer = subprocess.run(
            [*command, f"--id={first}"], capture_output=True, text=True, timeout=20, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return answer.stdout.strip() or None
