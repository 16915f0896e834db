"""Import a GGUF file as a normal MLX model folder.

Knows how llama.cpp names and lays out the weights of the `llama` and `qwen2` families and what
mlx-lm's `config.json` calls the same things.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from backends import devices
from backends.base import ImportedModel, Prospect, UnsupportedModel
from backends.mlx.device import device_kind, prepare, settle
from backends.mlx.files.config import whole
from backends.mlx.files.folder import inspect
from backends.mlx.files.weight_files import refuse_holes
from backends.mlx.gguf.quants import EXACT, Packed
from backends.mlx.gguf.reader import GGUFFile
from backends.mlx.gguf.tokenizer import special_ids, write_tokenizer

if TYPE_CHECKING:
    import mlx.core as mx

QUANTIZATION = {"group_size": 64, "bits": 4}
"""Fastest on Metal and CUDA; on the CPU float32 is fastest."""

_SMALL_BYTES = 2_000_000_000  # in 16 bits; up to here no memory is worth an answer's quality
_EMBEDDING_BITS = 8  # the embedding is often the output layer too, where 4 bits cost answers
_GROUP = 32  # of the blocks that are kept as they are

# llama.cpp's names: mlx-lm's, and the sizes of the weight's sides.
_TOP = {
    "token_embd": ("model.embed_tokens", ("tokens", "hidden")),
    "output_norm": ("model.norm", ("hidden",)),
    "output": ("lm_head", ("tokens", "hidden")),
}
_BLOCK = {
    "attn_q": ("self_attn.q_proj", ("queries", "hidden")),
    "attn_k": ("self_attn.k_proj", ("keys", "hidden")),
    "attn_v": ("self_attn.v_proj", ("keys", "hidden")),
    "attn_output": ("self_attn.o_proj", ("hidden", "queries")),
    "ffn_gate": ("mlp.gate_proj", ("inner", "hidden")),
    "ffn_up": ("mlp.up_proj", ("inner", "hidden")),
    "ffn_down": ("mlp.down_proj", ("hidden", "inner")),
    "attn_norm": ("input_layernorm", ("hidden",)),
    "ffn_norm": ("post_attention_layernorm", ("hidden",)),
}
_IGNORED = frozenset({"rope_freqs.weight"})  # recomputed from config.json's rope_scaling


def import_gguf(source: Path, target: Path, *, quantize: bool | None = None) -> ImportedModel:
    """Write the model of the GGUF file `source` into the empty folder `target`.

    `quantize` False writes float32; True 4 bits, where the file's own 4- and 8-bit blocks are kept
    exactly. None chooses what is fast on this device: float32 on the CPU; on a GPU bfloat16 for
    a small model and 4 bits for others. Raises UnsupportedModel.
    """
    prepare()
    import mlx.core as mx

    if not source.is_file():
        raise UnsupportedModel(f"There is no file {source}.")
    refuse_holes(source)
    with GGUFFile(source) as file:
        config = _config(file)
        _check_shapes(file, config)
        target.mkdir(parents=True, exist_ok=True)
        write_tokenizer(file.metadata, target)
        on_gpu = device_kind() != "cpu"
        if quantize is None and on_gpu and not _is_small(file):
            quantize = True
        if quantize:
            weights = _quantized(file, config)
        else:
            dtype = mx.bfloat16 if on_gpu and quantize is None else mx.float32
            config["torch_dtype"] = str(dtype).removeprefix("mlx.core.")
            weights = {
                place.name: mx.array(place.order(file.tensor(place.source))).astype(dtype)
                for place in _places(file, config)
            }
        path = target / "model.safetensors"
        mx.save_safetensors(str(path), weights, metadata={"format": "mlx"})
        settle()
    _write_json(target / "config.json", config)
    generation = {"do_sample": False, **special_ids(file.metadata)}
    _write_json(target / "generation_config.json", generation)
    return inspect(target)


def foresee_gguf(source: Path) -> Prospect:
    """See `backends.base.Backend.foresee_gguf`. Neither reads weights nor loads MLX."""
    with GGUFFile(source) as file:
        config = _config(file)
        count = sum(prod(info.shape) for info in file.tensors.values())
        on_gpu = devices.expected() != "cpu"
        if on_gpu and not _is_small(file):
            quantization = "4-bit (group 64)"
            nbytes = sum(_foreseen_bytes(info.shape, info.kind) for info in file.tensors.values())
        else:
            quantization = "bfloat16" if on_gpu else "float32"
            nbytes = count * (2 if on_gpu else 4)
    length = int(config["max_position_embeddings"])
    return Prospect(config, str(config["model_type"]), quantization, length, count, nbytes)


def _foreseen_bytes(shape: tuple[int, ...], kind: str) -> int:
    """What `_quantized` makes of a tensor; the embedding's 8 bits are left out."""
    if len(shape) != 2:
        return 2 * prod(shape)
    group = _GROUP if kind in EXACT else QUANTIZATION["group_size"]
    bits = 8 if kind == "Q8_0" else QUANTIZATION["bits"]
    return prod(shape) * bits // 8 + 4 * prod(shape) // group


def _config(file: GGUFFile) -> dict[str, Any]:
    """mlx-lm's config.json. Raises UnsupportedModel for other architectures or missing keys."""
    meta = file.metadata
    architecture = meta.get("general.architecture")
    if architecture not in ("llama", "qwen2"):
        raise UnsupportedModel(
            f"The architecture {architecture!r} cannot be imported from GGUF; llama and qwen2 can."
        )
    if meta.get(f"{architecture}.expert_count"):
        raise UnsupportedModel("Mixture-of-experts models cannot be imported from GGUF.")

    def get(key: str) -> Any:
        try:
            return meta[f"{architecture}.{key}"]
        except KeyError:
            raise UnsupportedModel(f"The file has no {architecture}.{key}.") from None

    if "token_embd.weight" not in file.tensors:
        raise UnsupportedModel("The file has no token embedding.")
    rows, tokens = file.tensors["token_embd.weight"].shape[0], meta.get("tokenizer.ggml.tokens")
    if isinstance(tokens, list) and len(tokens) > rows:
        raise UnsupportedModel(f"The file has {len(tokens)} tokens, but weights for {rows}.")

    def size(key: str, default: Any = None) -> int:
        found = get(key) if default is None else meta.get(f"{architecture}.{key}", default)
        return whole(found, f"The file's {architecture}.{key}")

    heads, hidden = size("attention.head_count"), size("embedding_length")
    config = {
        "model_type": architecture,
        "architectures": ["LlamaForCausalLM" if architecture == "llama" else "Qwen2ForCausalLM"],
        "hidden_size": hidden,
        "num_hidden_layers": size("block_count"),
        "intermediate_size": size("feed_forward_length"),
        "num_attention_heads": heads,
        "num_key_value_heads": size("attention.head_count_kv", heads),
        "rms_norm_eps": _short(get("attention.layer_norm_rms_epsilon")),
        "vocab_size": rows,
        "max_position_embeddings": size("context_length"),
        "rope_theta": _short(meta.get(f"{architecture}.rope.freq_base", 10000.0)),
        "tie_word_embeddings": "output.weight" not in file.tensors,
        "hidden_act": "silu",
        "torch_dtype": "float32",
        **special_ids(meta),
    }
    if architecture == "llama":
        config["head_dim"] = size("attention.key_length", max(1, hidden // heads))
        config["attention_bias"] = "blk.0.attn_q.bias" in file.tensors
    config.update(_rope_scaling(file, architecture))
    return config


def _rope_scaling(file: GGUFFile, architecture: str) -> dict[str, Any]:
    meta = file.metadata
    if "rope_freqs.weight" in file.tensors:
        # llama.cpp bakes Llama 3.1's frequency factors into a tensor; these are the values that
        # every published Llama 3.x uses, and the tensor's largest entry is the factor itself.
        return {
            "rope_scaling": {
                "rope_type": "llama3",
                "factor": _short(float(file.tensor("rope_freqs.weight").max())),
                "low_freq_factor": 1.0,
                "high_freq_factor": 4.0,
                "original_max_position_embeddings": 8192,
            }
        }
    kind = meta.get(f"{architecture}.rope.scaling.type", "none")
    if kind == "none":
        return {}
    if kind == "linear":
        factor = _short(meta.get(f"{architecture}.rope.scaling.factor", 1.0))
        return {"rope_scaling": {"rope_type": "linear", "factor": factor}}
    raise UnsupportedModel(f"The position scaling {kind!r} cannot be imported from GGUF.")


def _short(value: Any) -> float:
    """A float32's shortest decimal: 9.999999747378752e-06 is meant as 1e-05."""
    if not isinstance(value, float | int) or not 0 < value < 1e12:
        raise UnsupportedModel(f"The file has {value!r:.40} where a number above 0 belongs.")
    return float(str(np.float32(value)))


def _check_shapes(file: GGUFFile, config: dict[str, Any]) -> None:
    """Raises UnsupportedModel unless the file's tensors are those that `config` describes."""
    layers, hidden = config["num_hidden_layers"], config["hidden_size"]
    heads, groups = config["num_attention_heads"], config["num_key_value_heads"]
    width = config.get("head_dim", hidden // heads)
    if heads % groups or width < 2 or width % 2:
        raise UnsupportedModel(
            f"The file's {heads} attention heads in {groups} groups do not fit its width {hidden}."
        )
    if layers > len(file.tensors):
        raise UnsupportedModel(f"The file lacks tensors: its header counts {layers} blocks.")
    sizes = {
        "tokens": config["vocab_size"],
        "hidden": hidden,
        "inner": config["intermediate_size"],
        "queries": heads * width,
        "keys": groups * width,
    }
    shapes = {name: [sizes[side] for side in sides] for name, (_, sides) in _TOP.items()} | {
        f"blk.{n}.{name}": [sizes[side] for side in sides]
        for n in range(layers)
        for name, (_, sides) in _BLOCK.items()
    }
    for name in shapes:
        if f"{name}.weight" not in file.tensors and name != "output":
            raise UnsupportedModel(f"The file lacks the tensor {name}.weight.")
    for name, tensor in file.tensors.items():
        if name in _IGNORED:
            continue
        layer, _, leaf = name.rpartition(".")
        if layer not in shapes or leaf not in ("weight", "bias"):
            raise UnsupportedModel(
                f"The file has the tensor {name}, which no llama or qwen2 model of {layers} blocks has."
            )
        wanted = shapes[layer] if leaf == "weight" else shapes[layer][:1]
        if list(tensor.shape) != wanted:
            raise UnsupportedModel(
                f"The file's tensor {name} has the shape {list(tensor.shape)}, but its header says {wanted}."
            )


@dataclass(frozen=True)
class _Place:
    """Where a tensor of the file belongs: mlx-lm's `name`, and the order of its rows there."""

    source: str
    name: str
    heads: int  # whose rotary halves llama.cpp interleaves; 0: none

    def order[T: np.generic](self, value: NDArray[T]) -> NDArray[T]:
        """`value` `[rows, …]` with its rows as mlx-lm has them."""
        return _unpermute(value, self.heads) if self.heads else value


def _places(file: GGUFFile, config: dict[str, Any]) -> Iterator[_Place]:
    for source in file.tensors:
        if source in _IGNORED:
            continue
        heads = 0
        if config["model_type"] == "llama" and ".attn_q." in source:
            heads = config["num_attention_heads"]
        elif config["model_type"] == "llama" and ".attn_k." in source:
            heads = config["num_key_value_heads"]
        layer, _, leaf = source.rpartition(".")
        block, _, part = layer.rpartition(".")
        if block:
            name = f"model.layers.{block.removeprefix('blk.')}.{_BLOCK[part][0]}.{leaf}"
        else:
            name = f"{_TOP[part][0]}.{leaf}"
        yield _Place(source, name, heads)


def _is_small(file: GGUFFile) -> bool:
    return 2 * sum(prod(info.shape) for info in file.tensors.values()) < _SMALL_BYTES


def _unpermute[T: np.generic](value: NDArray[T], heads: int) -> NDArray[T]:
    """Undo llama.cpp's interleaving of each head's rotary halves; rows are the first axis."""
    rows = value.shape[0]
    split = value.reshape(heads, rows // heads // 2, 2, -1)
    return split.swapaxes(1, 2).reshape(value.shape)


def _quantized(file: GGUFFile, config: dict[str, Any]) -> dict[str, mx.array]:
    """Matrices in 4 bits (the embedding in 8), the file's own blocks as they are, everything else
    in 16 bits; completes `config`."""
    import mlx.core as mx

    kinds = {info.kind for info in file.tensors.values() if len(info.shape) == 2}
    exact = not kinds.isdisjoint(EXACT)
    dtype = mx.float16 if exact else mx.bfloat16  # that of the file's scales
    chosen = {"group_size": _GROUP, "bits": 4} if exact else QUANTIZATION
    quantization: dict[str, Any] = dict(chosen)
    result: dict[str, mx.array] = {}
    for place in _places(file, config):
        layer = place.name.removesuffix(".weight")
        shape = file.tensors[place.source].shape
        if len(shape) != 2 or shape[-1] % QUANTIZATION["group_size"]:
            result[place.name] = mx.array(place.order(file.tensor(place.source))).astype(dtype)
            continue
        if packed := file.packed(place.source):
            parts = _packed(place, packed, shape[0])
            own = {"group_size": _GROUP, "bits": packed.bits}
        else:
            bits = _EMBEDDING_BITS if layer == "model.embed_tokens" else QUANTIZATION["bits"]
            own = QUANTIZATION | {"bits": bits}
            whole = mx.array(place.order(file.tensor(place.source))).astype(dtype)
            parts = mx.quantize(whole, group_size=own["group_size"], bits=bits)
        mx.eval(*parts)
        if own != chosen:
            quantization[layer] = own
        result |= dict(zip((place.name, f"{layer}.scales", f"{layer}.biases"), parts, strict=True))
    config["quantization"] = quantization
    config["torch_dtype"] = str(dtype).removeprefix("mlx.core.")
    return result


def _packed(place: _Place, packed: Packed, rows: int) -> tuple[mx.array, mx.array, mx.array]:
    """Weight, scales and biases as mx.quantize gives them: the first value in the lowest bits."""
    import mlx.core as mx

    wholes = place.order(packed.wholes.reshape(rows, -1))
    if packed.bits == 4:
        wholes = wholes[:, ::2] | (wholes[:, 1::2] * np.uint8(16))
    words = np.ascontiguousarray(wholes).view(np.uint32)
    scales, biases = (
        mx.array(place.order(part.reshape(rows, -1))) for part in (packed.scales, packed.biases)
    )
    return mx.array(words), scales, biases


def _write_json(path: Path, value: dict[str, Any]) -> None:
    path.write_text(json.dumps(value, indent=2) + "\n")
