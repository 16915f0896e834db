"""config.json, checked before a model is built from it: mlx-lm believes every number there."""

from __future__ import annotations

import ast
import importlib.util
import json
import re
from functools import cache
from pathlib import Path
from typing import Any

from backends.base import ENCODERS, UnsupportedModel

MOST = 2**31 - 1
"""The largest size or context length that a model can have here."""

_LONGEST_JSON = 16 << 20  # bytes; the longest real file, a tokenizer's settings, has under 2 MB
_SIZES = (
    "hidden_size",
    "num_hidden_layers",
    "num_attention_heads",
    "num_key_value_heads",
    "head_dim",
    "intermediate_size",
    "vocab_size",
)
_BY_LAYER = frozenset({"num_attention_heads", "num_key_value_heads", "intermediate_size"})
_CONTEXT = ("max_position_embeddings", "n_positions", "n_ctx", "max_sequence_length", "seq_length")
_PACKED = 32  # no weight takes less than one bit, so a packed row has a 32nd of its columns
_BITS, _GROUPS = (2, 3, 4, 5, 6, 8), (16, 32, 64, 128)


def read_json(path: Path) -> dict[str, Any]:
    """The object in a JSON file. Raises UnsupportedModel."""
    name = f"{path.parent.name}/{path.name}"
    try:
        if path.stat().st_size > _LONGEST_JSON:
            raise UnsupportedModel(f"{name} is over {_LONGEST_JSON >> 20} MB long.")
        value = json.loads(path.read_text())
    except (ValueError, OSError, RecursionError):
        raise UnsupportedModel(f"{name} is not readable JSON.") from None
    if not isinstance(value, dict):
        raise UnsupportedModel(f"{name} is not a JSON object.")
    return value


def find_architecture(config: dict[str, Any]) -> str:
    """The model type. Raises UnsupportedModel when mlx-lm has no code for it."""
    kind = config.get("model_type")
    if not isinstance(kind, str) or not re.fullmatch(r"[A-Za-z0-9][\w.-]*", kind, re.ASCII):
        raise UnsupportedModel("config.json has no model_type.")
    if kind in ENCODERS:  # `backends.mlx.embedding.bert` has them
        return kind
    # Found, not imported: importing takes a second, and each module is code of its own.
    folder, other_names = _mlx_lm()
    module = folder / "models" / f"{other_names.get(kind, kind)}.py"
    if not module.is_file() or not re.search(r"^class Model\b", module.read_text(), re.MULTILINE):
        raise UnsupportedModel(f"mlx-lm does not support the architecture {kind!r}.")
    return kind


@cache
def _mlx_lm() -> tuple[Path, dict[str, str]]:
    """Where mlx-lm lies, and which model types it reads with another one's module."""
    spec = importlib.util.find_spec("mlx_lm")
    if spec is None or not spec.submodule_search_locations:
        raise UnsupportedModel("mlx-lm is not installed: run `uv sync` in the hub's folder.")
    folder = Path(spec.submodule_search_locations[0])
    for node in ast.parse((folder / "utils.py").read_text()).body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "MODEL_REMAPPING":
            return folder, ast.literal_eval(node.value)
    return folder, {}


def find_context_length(config: dict[str, Any]) -> int:
    """Tokens that the model reads at most; 2,048 where its config does not say."""
    for part in _parts(config):
        for key in _CONTEXT:
            if part.get(key) is not None:
                return whole(part[key], f"{key} in config.json")
    return 2048


def find_quantization(config: dict[str, Any]) -> dict[str, Any]:
    """The checked entry of that name; empty for a model that is not quantized."""
    found = config.get("quantization")
    if found is None:
        return {}
    if not isinstance(found, dict):
        raise UnsupportedModel(f"quantization in config.json is {_shown(found)}, not an object.")
    for layer in ({"its layers": found} | found).values():
        if isinstance(layer, dict):
            _check_quantization(layer)
    return found


def _check_quantization(entry: dict[str, Any]) -> None:
    for key, known in (("bits", _BITS), ("group_size", _GROUPS)):
        value = entry.get(key)
        if type(value) is not int or value not in known:
            numbers = ", ".join(map(str, known))
            raise UnsupportedModel(
                f"quantization in config.json has {key} {_shown(value)}; MLX knows {numbers}."
            )


def check_sizes(config: dict[str, Any], shapes: list[tuple[int, ...]]) -> None:
    """Raises UnsupportedModel for sizes that are no numbers, or beyond what weights of these
    `shapes` can fill: mlx-lm would reserve memory for all of it before it looks at the weights."""
    most = _PACKED * max(max(shape, default=1) for shape in shapes)
    for part in _parts(config):
        for key in _SIZES:
            value, name = part.get(key), f"{key} in config.json"
            if value is None:
                continue
            values = value if isinstance(value, list) and key in _BY_LAYER else [value]
            for one in values:
                whole(one, name, least=int(key != "intermediate_size"))
            limit = len(shapes) if key == "num_hidden_layers" else most
            if values and max(values) > limit:
                raise UnsupportedModel(
                    f"{name} is {_shown(max(values))}, but the weights have fewer; "
                    "copy config.json and the weights from the same place."
                )


def whole(value: Any, name: str, *, least: int = 1, most: int = MOST) -> int:
    """A whole number from `least` to `most`. Raises UnsupportedModel with `name`."""
    if type(value) is not int or not least <= value <= most:
        raise UnsupportedModel(
            f"{name} is {_shown(value)}; it must be a whole number from {least} to {most}."
        )
    return value


def _parts(config: dict[str, Any]) -> list[dict[str, Any]]:
    """The config, and that of the language model within a multimodal one."""
    nested = config.get("text_config")
    return [config, nested] if isinstance(nested, dict) else [config]


def _shown(value: Any) -> str:
    text = "missing" if value is None else json.dumps(value, default=str)
    return text if len(text) <= 40 else f"{text[:40]}…"
