"""Ollama's names, `NAME:TAG`, and the hub's, `NAME@VERSION`."""

from __future__ import annotations

_LATEST = ":latest"
_BASE = "base:"


def hub_name(name: str) -> str:
    """The hub's own name of what an Ollama client names; a name of the hub stays as it is."""
    name = name.removesuffix(_LATEST)
    if name.startswith(_BASE) or "@" in name:
        return name
    return name.replace(":", "@", 1)


def ollama_name(label: str) -> str:
    """The name under which Ollama's lists have what the hub calls `label`."""
    if label.startswith(_BASE):
        return label
    model, _, selector = label.partition("@")
    if selector == "latest":  # an alias of that name is not what Ollama means by it
        return label
    return f"{model}:{selector}" if selector else f"{model}{_LATEST}"
