"""Run as a process: migrate the hub's own database and put two versions of a model into it."""

import os

import django


def main() -> None:
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "hub.settings")
    django.setup()
    from django.core.management import call_command

    from registry.storage import paths
    from tests.inference.builders import make_base, make_version

    paths.make_folders()
    call_command("migrate", verbosity=0)
    base = make_base()
    make_version(base, version="0.1.0", weights=b"one")
    make_version(base, version="0.2.0", weights=b"two")


if __name__ == "__main__":
    main()
