"""Models of any llama's shape with random weights, made here: nothing is downloaded."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from backends.mlx.device import prepare
from backends.mlx.gguf.reader import GGUFFile
from backends.mlx.gguf.tokenizer import write_tokenizer

if TYPE_CHECKING:
    import mlx.core as mx

GROUP = 64  # weights that share a scale


@dataclass(frozen=True)
class Shape:
    """The sizes of a llama, in config.json's words."""

    hidden_size: int
    num_hidden_layers: int
    intermediate_size: int
    num_attention_heads: int
    num_key_value_heads: int
    vocab_size: int
    tie_word_embeddings: bool = True

    @property
    def head(self) -> int:
        return self.hidden_size // self.num_attention_heads


TINY = Shape(64, 2, 128, 4, 2, 4096)
SCALED_7B = Shape(256, 4, 896, 4, 1, 4096, tie_word_embeddings=False)
"""Mistral's proportions at a sixteenth of its width."""
MISTRAL_7B = Shape(4096, 32, 14336, 32, 8, 32768, tie_word_embeddings=False)


def make_random(source: Path, folder: Path, shape: Shape, *, bits: int | None = None) -> Path:
    """A model folder at `folder` with the tokenizer of the GGUF file `source`, of whose vocabulary it
    has the beginning; in float32, or with `bits` quantized as mlx-lm does. Equal shapes get equal
    weights."""
    prepare()
    import mlx.core as mx

    folder.mkdir(parents=True)
    with GGUFFile(source) as file:
        metadata = dict(file.metadata)
    tokens = metadata["tokenizer.ggml.tokens"][: shape.vocab_size]
    known = set(tokens)
    merges = [m for m in metadata["tokenizer.ggml.merges"] if m.replace(" ", "") in known]
    metadata |= {"tokenizer.ggml.tokens": tokens, "tokenizer.ggml.merges": merges}
    write_tokenizer(metadata, folder)
    config = {
        "model_type": "llama",
        **asdict(shape),
        "head_dim": shape.head,
        "rms_norm_eps": 1e-5,
        "max_position_embeddings": 8192,
        "rope_theta": 10000.0,
        "bos_token_id": 1,
        "eos_token_id": 2,
        "torch_dtype": "bfloat16" if bits else "float32",
    }
    if bits:
        config["quantization"] = {"group_size": GROUP, "bits": bits}
    (folder / "config.json").write_text(json.dumps(config))
    key = mx.random.key(7)
    for number, part in enumerate(_parts(shape)):
        weights: dict[str, mx.array] = {}
        for name, size in part.items():
            key, draw = mx.random.split(key)
            if len(size) == 1:
                weights[f"{name}.weight"] = mx.ones(size, mx.bfloat16 if bits else mx.float32)
            elif bits:
                weights |= _packed(name, size, bits, draw)
            else:
                # Wide enough to say something else than what was asked.
                weights[f"{name}.weight"] = 0.3 * mx.random.normal(size, key=draw)
        path = folder / f"model-{number:05}.safetensors"
        mx.save_safetensors(str(path), weights, metadata={"format": "mlx"})
    return folder


def _parts(shape: Shape) -> list[dict[str, tuple[int, ...]]]:
    """The sizes of the weights by name, a file at a time: no more than that is held at once."""
    hidden, inner = shape.hidden_size, shape.intermediate_size
    keys = shape.num_key_value_heads * shape.head
    block = {
        "self_attn.q_proj": (hidden, hidden),
        "self_attn.k_proj": (keys, hidden),
        "self_attn.v_proj": (keys, hidden),
        "self_attn.o_proj": (hidden, hidden),
        "mlp.gate_proj": (inner, hidden),
        "mlp.up_proj": (inner, hidden),
        "mlp.down_proj": (hidden, inner),
        "input_layernorm": (hidden,),
        "post_attention_layernorm": (hidden,),
    }
    around: dict[str, tuple[int, ...]] = {
        "model.embed_tokens": (shape.vocab_size, hidden),
        "model.norm": (hidden,),
    }
    if not shape.tie_word_embeddings:
        around["lm_head"] = (shape.vocab_size, hidden)
    layers = range(shape.num_hidden_layers)
    return [around, *({f"model.layers.{n}.{k}": v for k, v in block.items()} for n in layers)]


def _packed(name: str, size: tuple[int, ...], bits: int, key: mx.array) -> dict[str, mx.array]:
    """Random codes with a scale and a bias for each group: weights of mean 0 and deviation 0.02."""
    import mlx.core as mx

    rows, columns = size
    low, high = (
        mx.random.randint(0, 2**16, (rows, columns * bits // 32), dtype=mx.uint32, key=k)
        for k in mx.random.split(key)
    )
    groups = (rows, columns // GROUP)
    scale = 0.02 / (2**bits / 12**0.5)
    return {
        f"{name}.weight": (high << 16) | low,
        f"{name}.scales": mx.full(groups, scale, mx.bfloat16),
        f"{name}.biases": mx.full(groups, -scale * (2**bits - 1) / 2, mx.bfloat16),
    }


def make_float32_gguf(source: Path, target: Path) -> Path:
    """A GGUF file whose weights MLX can read, with the same weights in float32, for llama.cpp."""
    prepare()
    import mlx.core as mx

    loaded: Any = mx.load(str(source), return_metadata=True)
    weights, metadata = loaded
    whole = {}
    for name, value in weights.items():
        if not name.endswith(".weight"):
            continue
        if value.dtype == mx.uint32:
            scales, biases = (weights[name[:-6] + part] for part in ("scales", "biases"))
            bits = value.shape[-1] // scales.shape[-1]  # in groups of 32
            value = mx.dequantize(value, scales, biases, group_size=32, bits=bits)
        whole[name] = value.astype(mx.float32)
    metadata["general.file_type"] = mx.array(0, mx.uint32)  # all in float32
    mx.save_gguf(str(target), whole, metadata)
    return target
