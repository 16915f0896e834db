"""What `--help` and `--version` say, without loading a command: Django's own list has names alone."""

from __future__ import annotations

import ast
import tomllib
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

from hub.config import ENV_FILES, IS_INSTALLED, ROOT, config

_APPS = {
    "hub": "The hub",
    "registry": "Models, versions, data sets",
    "training": "Training",
    "inference": "Inference",
}


def version() -> str:
    """Of the installed package, or of the checkout."""
    if IS_INSTALLED:
        return metadata.version("mlx-model-hub")
    return str(tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"])


def overview(program: str) -> str:
    """Every command of the hub with what it does, and where settings and files are."""
    lines = [f"MLX Model Hub {version()}. {program} COMMAND --help says more about one.", ""]
    for app, title in _APPS.items():
        lines.append(f"{title}:")
        lines += [f"  {name:<22} {text}" for name, text in _commands(ROOT / app)]
        lines.append("")
    lines += [
        f"Django's own (migrate, createsuperuser, …): {program} help --commands",
        f"Storage:  {config.storage}",
        f"Settings: the environment, {', '.join(map(str, reversed(ENV_FILES)))}",
    ]
    return "\n".join(lines)


def _commands(app: Path) -> Iterator[tuple[str, str]]:
    for file in sorted((app / "management" / "commands").glob("[!_]*.py")):
        if (
            not file.stem.startswith("run_") or file.stem == "run_mcp"
        ):  # `up` and pages start the others
            said = _help(ast.parse(file.read_text()))
            yield file.stem.replace("_", "-"), said.split(". ")[0].rstrip(".")


def _help(module: ast.Module) -> str:
    """The text that the class Command gives as `help`."""
    for node in ast.walk(module):
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "help":
            return str(ast.literal_eval(node.value))
    return ""
