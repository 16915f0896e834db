"""Templates stay readable, and nobody is told a command that is called otherwise here."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

from django.conf import settings

LONGEST = 140
IN_EVERY_HUB = {"hub/monitoring/alerts/table.py"}  # Prometheus' rules, which the dashboard rewords


def test_no_line_of_a_template_is_longer_than_a_screen() -> None:
    """A long tag takes one attribute per line; Django's own tags cannot be broken."""
    folder = settings.BASE_DIR / "templates"
    long = [
        f"{path.relative_to(folder)}:{number} has {len(line)} characters"
        for path in sorted(folder.rglob("*.html"))
        for number, line in enumerate(path.read_text().splitlines(), start=1)
        if len(line) > LONGEST
    ]
    assert long == []


def test_commands_are_told_as_they_are_typed_here() -> None:
    """`mlx-hub up` of an installed hub: by the tag `command` or by `registry.commands`."""
    home = settings.BASE_DIR
    told = [
        str(path)
        for path in (home / "templates").rglob("*.html")
        if "manage.py" in path.read_text()
    ]
    for app in ("backends", "hub", "inference", "registry", "training"):
        for path in (home / app).rglob("*.py"):
            if str(path.relative_to(home)) not in IN_EVERY_HUB:
                told += [f"{path}: {text}" for text in texts(path) if "manage.py " in text]
    assert told == []


def texts(path: Path) -> Iterator[str]:
    """What the code says, without docstrings."""
    source = path.read_text()
    if "manage.py " not in source:
        return
    tree = ast.parse(source)
    silent = {
        id(node.body[0].value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
        and node.body
        and isinstance(node.body[0], ast.Expr)
    }
    for node in ast.walk(tree):
        if (
            isinstance(node, ast.Constant)
            and isinstance(node.value, str)
            and id(node) not in silent
        ):
            yield node.value
