"""Models as Ollama lists and describes them. Reads the database and the models' folders."""

from __future__ import annotations

import datetime
import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from django.utils import timezone

from inference.loaded import Loaded, loaded_models
from inference.v1.ollama.bodies import moment
from inference.v1.ollama.names import hub_name, ollama_name
from registry.models import BaseModel, ModelVersion
from registry.promotion.resolve import Served, resolve, served_names

_FOREVER = datetime.datetime(9999, 12, 31, tzinfo=datetime.UTC)
_MOST_BYTES = 2**24  # of a model's JSON file


@dataclass(frozen=True)
class _Row:
    """What answers: a version on its base, or a base alone."""

    base: BaseModel
    version: ModelVersion | None = None

    def described(self) -> dict[str, Any]:
        own = self.version or self.base
        size = self.base.size_bytes + (self.version.size_bytes if self.version else 0)
        return {"size": size, "digest": own.manifest_sha256, "details": self.details()}

    def details(self) -> dict[str, Any]:
        return {
            "parent_model": f"base:{self.base.name}" if self.version else "",
            "format": "mlx",
            "family": self.base.architecture,
            "families": [self.base.architecture],
            "parameter_size": _short(self.base.parameters),
            "quantization_level": self.base.quantization,
        }


def tags() -> list[dict[str, Any]]:
    """Every name that can be requested, the newest versions of a model first."""
    names = served_names()
    rows = _rows((name.model, name.version) for name in names if name.model)
    bases = {f"base:{base.name}": _Row(base) for base in BaseModel.objects.all()}
    listed = []
    for name in names:
        row = rows.get((name.model, name.version)) if name.model else bases.get(name.label)
        if row is not None:  # else removed since
            shown = ollama_name(name.label)
            made = moment(name.created_at)
            listed.append({"name": shown, "model": shown, "modified_at": made, **row.described()})
    return listed


def _rows(wanted: Iterable[tuple[str, str]]) -> dict[tuple[str, str], _Row]:
    """By model and number."""
    models, numbers = map(set, zip(*wanted, strict=True)) if (wanted := list(wanted)) else ((), ())
    found = ModelVersion.objects.filter(model__name__in=models, version__in=numbers)
    return {
        (row.model.name, row.version): _Row(row.base_model, row)
        for row in found.select_related("model", "base_model")
    }


# --------------------------------------------------------------------------- one model


def show(name: str) -> dict[str, Any]:
    """Raises what `resolve` raises."""
    served = resolve(hub_name(name))
    row = _Row(served.base, served.version)
    template = chat_template(served.base_path)
    made = (served.version or served.base).created_at
    return {
        "modelfile": _modelfile(served, template),
        "parameters": "",
        "template": template,
        "details": row.details(),
        "model_info": _model_info(served),
        "capabilities": _capabilities(served, template),
        "modified_at": moment(made),
    }


_THINKS = ("enable_thinking", "reasoning_effort", "think>", "[THINK]", "think▷", "<|think:start|>")


def _capabilities(served: Served, template: str) -> list[str]:
    if served.base.reranks:
        return []  # Ollama has no word for it
    return ["embedding"] if served.base.embeds_only else capabilities(template)


def capabilities(template: str) -> list[str]:
    """What the chat template knows to write: tools, thoughts."""
    found = ["completion"]
    if "tools" in template:
        found.append("tools")
    if any(mark in template for mark in _THINKS):
        found.append("thinking")
    return found


def chat_template(folder: Path) -> str:
    """The model's own, or an empty text."""
    try:
        return (folder / "chat_template.jinja").read_text()
    except (OSError, ValueError):
        template = _json(folder / "tokenizer_config.json").get("chat_template", "")
    if isinstance(template, list):  # several, by name
        named = {one.get("name"): one.get("template") for one in template if isinstance(one, dict)}
        template = named.get("default") or ""
    return template if isinstance(template, str) else ""


def _modelfile(served: Served, template: str) -> str:
    lines = ["# Described by MLX Model Hub, which makes no models from such files."]
    lines.append(f"FROM base:{served.base.name}")
    if served.version:
        lines.append(f"ADAPTER {served.version}")
    if template:
        lines.append(f'TEMPLATE """{template}"""')
    return "\n".join(lines) + "\n"


_SIZES = {
    "embedding_length": "hidden_size",
    "block_count": "num_hidden_layers",
    "feed_forward_length": "intermediate_size",
    "attention.head_count": "num_attention_heads",
    "attention.head_count_kv": "num_key_value_heads",
}


def _model_info(served: Served) -> dict[str, Any]:
    base, kind = served.base, served.base.architecture
    config = _json(served.base_path / "config.json")
    sizes = {theirs: config[ours] for theirs, ours in _SIZES.items() if ours in config}
    return {
        "general.architecture": kind,
        "general.basename": base.name,
        "general.parameter_count": base.parameters,
        f"{kind}.context_length": base.context_length,
        **{f"{kind}.{name}": value for name, value in sizes.items()},
    }


def _json(path: Path) -> dict[str, Any]:
    try:
        if path.stat().st_size > _MOST_BYTES:
            return {}
        read = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return {}
    return read if isinstance(read, dict) else {}


# --------------------------------------------------------------------------- in memory


def running(stats: dict[str, Any]) -> list[dict[str, Any]]:
    """The models in the engine's memory; an adapter in it counts with its own share."""
    loaded = [one for one in loaded_models(stats) if one.state == "ready"]
    held = [(one, name) for one in loaded for name in (one.name, *one.adapter_names)]
    labels = {name for _, name in held}
    rows = _rows(_parts(name) for name in labels if "@" in name)
    bases = {base.name: _Row(base) for base in BaseModel.objects.all()}
    found = []
    for one, name in held:
        row = rows.get(_parts(name)) or bases.get(name.removeprefix("base:"))
        if row is None:
            continue
        size = one.memory_bytes - one.adapters_bytes
        if name != one.name:
            size = one.adapters_bytes // max(1, len(one.adapter_names))
        shown = ollama_name(name)
        found.append(
            {
                "name": shown,
                "model": shown,
                **row.described(),
                "size": size,
                "size_vram": size,
                "expires_at": moment(_leaves(one)),
                "context_length": row.base.context_length,
            }
        )
    return found


def _parts(name: str) -> tuple[str, str]:
    model, _, version = name.partition("@")
    return model, version


def _leaves(one: Loaded) -> datetime.datetime:
    if one.leaves_in_s is None:
        return _FOREVER
    return timezone.now() + datetime.timedelta(seconds=one.leaves_in_s)


def _short(count: int) -> str:
    """135000000 as 135.0M."""
    for size, unit in ((1e9, "B"), (1e6, "M"), (1e3, "K")):
        if count >= size:
            return f"{count / size:.1f}{unit}"
    return str(count)
