"""What the processes that kill share: a hub of their own, and a way to work in a fork.

The parent has loaded everything and holds neither a thread nor a connection, so a fork begins to
work at once, and a kill costs no start of Python.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import django


def set_up() -> None:
    """Storage's folders, and a small dirty checkout for lineage: git answers for it within a few
    milliseconds, so that a kill also reaches what comes after."""
    django.setup()
    from django.conf import settings

    from registry.storage import paths

    paths.make_folders()
    settings.BASE_DIR = _checkout(paths.root().parent / "checkout")


def _checkout(folder: Path) -> Path:
    folder.mkdir()
    for command in (
        ["init", "-q"],
        ["config", "user.email", "test@localhost"],
        ["config", "user.name", "test"],
    ):
        subprocess.run(["git", "-C", str(folder), *command], check=True)
    (folder / "code.py").write_text("answer = 41\n")
    subprocess.run(["git", "-C", str(folder), "add", "."], check=True)
    subprocess.run(["git", "-C", str(folder), "commit", "-qm", "Begin"], check=True)
    (folder / "code.py").write_text("answer = 42\n")
    return folder


def fork(work: Callable[[], object]) -> int:
    """Do `work` in a child; its process id."""
    from django.db import connection

    connection.close()  # a fork must not share it
    child = os.fork()
    if child == 0:
        try:
            work()
            os._exit(0)
        except BaseException as error:
            print(repr(error), file=sys.stderr)
        os._exit(1)
    return child


def killed(child: int) -> bool:
    """Wait for the child's end; whether it was a signal."""
    return os.WIFSIGNALED(os.waitpid(child, 0)[1])


def model_for_all(versions: int = 0) -> Any:
    """The model "killed", made with so many ready versions."""
    from registry.models import Model
    from tests.registry.build import make_model, make_version

    model = Model.objects.filter(name="killed").first()
    if model is None:
        model = make_model("killed")
        for number in range(versions):
            make_version(model, iters=number)
    return model
