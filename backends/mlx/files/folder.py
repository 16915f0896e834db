"""Describe an MLX model folder from its JSON files and safetensors headers alone."""

from __future__ import annotations

from collections.abc import Mapping
from math import prod
from pathlib import Path
from typing import Any

from backends.base import (
    ENCODERS,
    RERANKS,
    Embedder,
    ImportedModel,
    Prospect,
    UnsupportedModel,
    first_line,
    packed,
)
from backends.base.embedding import scores
from backends.litter import tidy
from backends.mlx.files.config import (
    check_sizes,
    find_architecture,
    find_context_length,
    find_quantization,
    read_json,
    whole,
)
from backends.mlx.files.weight_files import check_index, read_header, refuse_strangers

_PICKLES = (".bin", ".pt", ".pth", ".pkl", ".pickle", ".ckpt")
_DTYPES = {"F32": "float32", "F16": "float16", "BF16": "bfloat16"}


def inspect(folder: Path) -> ImportedModel:
    """Describe the model in `folder` without loading its weights. Raises UnsupportedModel, also for
    a tokenizer that cannot be read."""
    described = describe(folder)
    _check_tokenizer(folder / "tokenizer.json")
    return described


def describe(folder: Path) -> ImportedModel:
    """As `inspect`, for a folder whose tokenizer is about to be loaded anyway."""
    config = _read_config(folder)
    refuse_strangers(folder)
    refuse_code(folder, config)
    architecture = find_architecture(config)
    tensors = _tensors(folder)
    check_sizes(config, [shape for _, shape in tensors.values()])
    quantization = find_quantization(config)
    if not (folder / "tokenizer.json").is_file():
        raise UnsupportedModel(f"{folder.name} has no tokenizer.json.")
    how = Embedder.of(folder, architecture)
    if how and how.pooling != RERANKS:
        _refuse_other_heads(folder, config, encodes=architecture in ENCODERS)
    context_length = find_context_length(config)
    if architecture in ENCODERS - {"bert"}:
        # Positions are counted from after the padding's.
        padding = whole(config.get("pad_token_id", 1), "pad_token_id in config.json", least=0)
        context_length = max(1, context_length - 1 - padding)
    return ImportedModel(
        path=folder,
        architecture=architecture,
        quantization=_precision(quantization, tensors),
        parameters=_parameters(quantization, tensors),
        context_length=min(context_length, (how and how.most_tokens) or context_length),
        pooling=how.pooling if how else "",
    )


def foresee(config: Mapping[str, Any]) -> Prospect:
    """See `backends.base.Backend.foresee`."""
    given = dict(config)
    for key in ("model_file", "auto_map"):
        if key in given:
            raise UnsupportedModel("It asks to run its own code, which is refused.")
    architecture = find_architecture(given)
    other = given.get("quantization_config")
    method = str(other.get("quant_method", "")) if isinstance(other, dict) else ""
    if method in _UNREAD and "quantization" not in given:
        raise UnsupportedModel(
            f"Its weights are quantized with {method}, which mlx-lm does not read; choose a version "
            "for MLX, or one that is not quantized."
        )
    find_quantization(given)
    for head in given.get("architectures") or []:
        if "Classification" in str(head) and not (architecture in ENCODERS and scores(given)):
            raise UnsupportedModel(f"It is a {head}, which does not write texts.")
    return Prospect(
        given,
        architecture,
        Prospect.precision(given),
        find_context_length(given),
        embeds_only=architecture in ENCODERS,
    )


_UNREAD = frozenset(
    {"aqlm", "bitsandbytes", "eetq", "fp8", "fbgemm_fp8", "hqq", "quanto", "quark", "torchao"}
)
"""Methods of quantization whose weights mlx-lm does not read."""


def _refuse_other_heads(folder: Path, config: dict[str, Any], *, encodes: bool) -> None:
    """Raises UnsupportedModel for what looks like an embedding model and makes no vectors."""
    heads = [str(head) for head in config.get("architectures") or []]
    known = (folder / "modules.json").is_file()
    other = [
        head
        for head in heads
        if "Classification" in head or (encodes and not known and not head.endswith("Model"))
    ]
    if other:
        raise UnsupportedModel(
            f"{folder.name} is a {other[0]}, which makes no vectors of texts; choose an embedding model, "
            "or a reranker with one label."
        )
    if not encodes and (
        config.get("use_bidirectional_attention") or config.get("is_causal") is False
    ):
        raise UnsupportedModel(
            f"{folder.name} reads texts in both directions with an architecture that mlx-lm reads in one; "
            "choose another embedding model."
        )


def refuse_code(folder: Path, config: dict[str, Any]) -> None:
    """Raises UnsupportedModel when loading the folder could run code from it."""
    for key in ("model_file", "auto_map"):
        if key in config:
            raise UnsupportedModel(
                f"{folder.name} wants to run its own code ('{key}' in config.json), which is not allowed."
            )
    tokenizer_config = folder / "tokenizer_config.json"
    if tokenizer_config.is_file() and "auto_map" in read_json(tokenizer_config):
        raise UnsupportedModel(
            f"{folder.name} wants to run its own code ('auto_map' in tokenizer_config.json), "
            "which is not allowed."
        )
    for path in tidy(folder.rglob("*")):
        if path.suffix == ".py":
            raise UnsupportedModel(
                f"{folder.name} contains code ({path.name}), which is not allowed."
            )
        if path.suffix in _PICKLES:
            raise UnsupportedModel(
                f"{folder.name} contains a pickle ({path.name}), which can run code; "
                "use a folder with safetensors only."
            )


def _read_config(folder: Path) -> dict[str, Any]:
    path = folder / "config.json"
    if not path.is_file():
        raise UnsupportedModel(f"{folder.name} is not a model folder: it has no config.json.")
    return read_json(path)


def _check_tokenizer(path: Path) -> None:
    from tokenizers import Tokenizer

    try:
        Tokenizer.from_file(str(path))
    except BaseException as error:  # a panic of its Rust code is not an Exception
        if isinstance(error, KeyboardInterrupt | SystemExit | MemoryError):
            raise
        raise UnsupportedModel(
            f"tokenizer.json cannot be read: {first_line(error):.200}."
        ) from None


def _tensors(folder: Path) -> dict[str, tuple[str, tuple[int, ...]]]:
    """Name → (safetensors dtype, shape) over all weight files."""
    files = sorted(folder.glob("model*.safetensors"))
    if not files:
        other = [path.name for path in tidy(folder.glob("*.safetensors"))]
        found = f"; it has {other[0]}, which mlx-lm does not read" if other else ""
        raise UnsupportedModel(f"{folder.name} has no model*.safetensors{found}.")
    headers = {path.name: read_header(path) for path in files}
    check_index(folder, {name: set(header) for name, header in headers.items()})
    if not any(headers.values()):
        raise UnsupportedModel(f"The weight files of {folder.name} hold no weights.")
    return {
        name: (entry["dtype"], tuple(entry["shape"]))
        for header in headers.values()
        for name, entry in header.items()
    }


def _precision(
    quantization: dict[str, Any], tensors: dict[str, tuple[str, tuple[int, ...]]]
) -> str:
    if quantization:
        types = {dtype for name, (dtype, _) in tensors.items() if name.endswith(".scales")}
        return packed(quantization, wide="F32" in types)
    counts: dict[str, int] = {}
    for dtype, shape in tensors.values():
        counts[dtype] = counts.get(dtype, 0) + prod(shape)
    dtype = max(counts, key=counts.__getitem__)
    return _DTYPES.get(dtype, dtype.lower())


def _parameters(
    quantization: dict[str, Any], tensors: dict[str, tuple[str, tuple[int, ...]]]
) -> int:
    """The number of weights before quantization, without scales and biases."""
    total = 0
    for name, (_, shape) in tensors.items():
        layer, _, leaf = name.rpartition(".")
        if f"{layer}.scales" not in tensors:
            total += prod(shape)
        elif leaf == "weight":
            own = quantization.get(layer)
            bits = (own if isinstance(own, dict) else quantization).get("bits", 4)
            total += prod(shape) * 32 // bits
    return total
