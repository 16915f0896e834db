"""Where a result comes from: the code, the packages and the machine that made it."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import subprocess
import sys
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import psutil
from django.conf import settings

from backends.mac.programs import has_git, printed

_PACKAGES = (
    "mlx",
    "mlx-metal",
    "mlx-cpu",
    "mlx-lm",
    "mkl",
    "numpy",
    "safetensors",
    "tokenizers",
    "transformers",
    "django",
    "mlflow",
)

DIFF_LIMIT = 1_000_000  # bytes
_UNTRACKED = 1000


@dataclass(frozen=True)
class Lineage:
    """`git_commit` is empty and `git_dirty` None when the hub does not run from a checkout."""

    git_commit: str
    git_dirty: bool | None
    git_diff: str
    packages: dict[str, str]
    hardware: dict[str, str | int]


def collect() -> Lineage:
    """Look at the hub's own checkout, the installed packages and this machine."""
    folder = Path(settings.BASE_DIR)
    commit, dirty = checkout(folder)
    return Lineage(commit, dirty, changes(folder) if dirty else "", packages(), hardware())


def checkout(folder: Path) -> tuple[str, bool | None]:
    """(commit, whether anything differs from it) of `folder`; ("", None) when it is no checkout.

    A folder that only lies somewhere inside another repository is not that repository's code.
    """
    if not (folder / ".git").exists() or not has_git():
        return "", None
    top = _git(folder, "rev-parse", "--show-toplevel")
    commit = _git(folder, "rev-parse", "--verify", "HEAD")
    if not top or not commit or Path(top).resolve() != folder.resolve():
        return "", None
    status = _git(folder, "status", "--porcelain")
    return commit[:40], None if status is None else bool(status)


def changes(folder: Path) -> str:
    """How a dirty checkout differs from its commit, as text that `git apply` takes: the changes of
    tracked files, at most DIFF_LIMIT bytes of them, then the names alone of files git does not
    know. Binary files are named only. A line that begins with `#` is a note, not a change."""
    notes = []
    diff = _git_bytes(
        folder, "-c", "core.quotepath=off", "diff", "HEAD", "--no-ext-diff", "--no-color",
        "--no-textconv",
    )  # fmt: skip
    if diff is None:
        notes.append("# git could not list the differences.")
        diff = b""
    if len(diff) > DIFF_LIMIT:
        notes.append(f"# Truncated: {DIFF_LIMIT} of {len(diff)} bytes are kept.")
        # Up to the last whole line, so that no character is cut in two.
        diff = diff[: diff.rfind(b"\n", 0, DIFF_LIMIT) + 1]
    untracked = _git(folder, "ls-files", "--others", "--exclude-standard", "-z") or ""
    names = [name for name in untracked.split("\0") if name]
    # A name may hold a line end; repr keeps one name on one line.
    notes += [f"# Not tracked: {name!r}" for name in names[:_UNTRACKED]]
    if len(names) > _UNTRACKED:
        notes.append(f"# … and {len(names) - _UNTRACKED} more files that are not tracked.")
    text = diff.decode("utf-8", "replace").replace("\0", "\ufffd")  # PostgreSQL keeps no NUL
    return text + "".join(f"{note}\n" for note in notes)


def packages() -> dict[str, str]:
    """Versions of Python and of what takes part in training; what is not installed is absent."""
    found = {"python": platform.python_version()}
    for name in _PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def hardware() -> dict[str, str | int]:
    """The machine, without the help of a backend: this also runs where MLX may not be loaded."""
    return {
        "system": platform.platform(terse=True),
        "machine": platform.machine(),
        "processor": _processor(),
        "cores": os.cpu_count() or 1,
        "memory_bytes": psutil.virtual_memory().total,
        "backend": settings.BACKEND,
    }


@cache
def _processor() -> str:
    if sys.platform == "darwin":
        return printed("sysctl", "-n", "machdep.cpu.brand_string").strip() or platform.processor()
    try:
        lines = Path("/proc/cpuinfo").read_text(errors="replace").splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()


def _git_bytes(folder: Path, *arguments: str) -> bytes | None:
    """What git printed, unstripped and undecoded: a diff may hold any bytes."""
    command = ["git", "-C", str(folder), *arguments]
    try:
        return subprocess.run(command, capture_output=True, timeout=10, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return None


def _git(folder: Path, *arguments: str) -> str | None:
    return _run(["git", "-C", str(folder), *arguments])


def _run(command: list[str]) -> str | None:
    """What the command printed, or None when it failed, hung or does not exist."""
    try:
        result = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return result.stdout.strip()
