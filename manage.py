#!/usr/bin/env python
"""Django's command line for the hub: `uv run manage.py demo`, `up`, `doctor`, …"""

import os
import sys


def main() -> None:
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "hub.settings")
    from django.core.management import execute_from_command_line

    from hub.processes.descriptors import raise_limit

    raise_limit()

    # Command files cannot have dashes in their names: `export-bundle` runs export_bundle.py.
    name = [argument.replace("-", "_") for argument in sys.argv[1:2] if argument[:1] != "-"]
    try:
        execute_from_command_line([sys.argv[0], *(name or sys.argv[1:2]), *sys.argv[2:]])
    except Exception as error:
        from hub.management.failures import in_words

        said = in_words(error)
        if said is None or "--traceback" in sys.argv:
            raise
        sys.exit(said)


if __name__ == "__main__":
    main()
