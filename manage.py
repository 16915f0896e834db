#!/usr/bin/env python
"""Django's command line for the hub: `uv run manage.py demo`, `up`, `doctor`, …"""

import gc
import os
import sys
from pathlib import Path


def keep_bytecode() -> None:
    """Let Python keep what it compiles also where PYTHONDONTWRITEBYTECODE is set, as images and build
    machines have it: in the user's folder of caches, so that no source folder gets a file. Otherwise
    each of the hub's processes compiles a thousand modules at every start, which takes twice as long
    as everything else that it does until it is ready."""
    if not sys.dont_write_bytecode or sys.pycache_prefix:
        return
    home = Path.home()
    caches = home / "Library/Caches" if sys.platform == "darwin" else home / ".cache"
    folder = Path(os.environ.get("XDG_CACHE_HOME") or caches) / "mlx-model-hub" / "bytecode"
    sys.pycache_prefix, sys.dont_write_bytecode = str(folder), False
    os.environ["PYTHONPYCACHEPREFIX"] = str(folder)  # for what this process starts
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)


def main() -> None:
    keep_bytecode()
    gc.disable()  # nothing of what is imported is garbage; `hub.apps` turns it on again
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "hub.settings")
    # Else each process looks for plug-ins in the metadata of every installed package.
    os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")
    asked = sys.argv[1:]
    if asked in ([], ["help"], ["-h"], ["--help"]) and "DJANGO_AUTO_COMPLETE" not in os.environ:
        from hub.management.overview import overview

        print(overview(Path(sys.argv[0]).name))
        return
    if asked == ["--version"]:
        from hub.management.overview import version

        print(version())
        return
    from hub.processes.descriptors import raise_limit

    raise_limit()

    # Command files cannot have dashes in their names: `export-bundle` runs export_bundle.py.
    name = [argument.replace("-", "_") for argument in sys.argv[1:2] if argument[:1] != "-"]
    try:
        run(name or sys.argv[1:2])
    except Exception as error:
        from hub.management.failures import in_words

        said = in_words(error, *name)
        if said is None or "--traceback" in sys.argv:
            raise
        sys.exit(said)


def run(name: list[str]) -> None:
    if name == ["up"]:  # without Django's apps, which its processes load and it does not need
        from django.conf import settings

        from hub.config import config
        from hub.management.commands.up import Command

        settings.configure(STORAGE=config.storage)
        gc.enable()
        Command().run_from_argv(sys.argv)
        return
    if name == ["run_engine"]:  # it imports Django's tables when a job is trained beside it
        from logging.config import dictConfig

        from django.conf import settings

        dictConfig(settings.LOGGING)
        from hub.apps import begin
        from inference.management.commands.run_engine import Command as RunEngine

        begin()
        RunEngine().run_from_argv([sys.argv[0], *name, *sys.argv[2:]])
        return
    from django.core.management import execute_from_command_line

    execute_from_command_line([sys.argv[0], *name, *sys.argv[2:]])


if __name__ == "__main__":
    main()
