"""Folders of small embedding models with random weights."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

WORDS = (
    "[PAD]",
    "[CLS]",
    "[SEP]",
    "[UNK]",
    "a",
    "fox",
    "crow",
    "runs",
    "far",
    "home",
    "query",
    ":",
)
BERT: dict[str, Any] = {
    "model_type": "bert",
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 32,
    "vocab_size": len(WORDS),
    "max_position_embeddings": 32,
    "type_vocab_size": 2,
    "pad_token_id": 0,
}
Weights = dict[str, NDArray[np.float32]]


def encoder_weights(config: dict[str, Any], prefix: str = "") -> Weights:
    """As transformers saves them, with a part that no vector needs."""
    draw = np.random.default_rng(7)
    width, inner = config["hidden_size"], config["intermediate_size"]

    def matrix(*shape: int) -> NDArray[np.float32]:
        return draw.normal(scale=0.3, size=shape).astype(np.float32)

    def linear(name: str, out: int, into: int) -> Weights:
        return {f"{name}.weight": matrix(out, into), f"{name}.bias": matrix(out)}

    def norm(name: str) -> Weights:
        return {f"{name}.weight": 1 + matrix(width), f"{name}.bias": matrix(width)}

    weights = {
        "embeddings.word_embeddings.weight": matrix(config["vocab_size"], width),
        "embeddings.position_embeddings.weight": matrix(config["max_position_embeddings"], width),
        "embeddings.token_type_embeddings.weight": matrix(config["type_vocab_size"], width),
        **norm("embeddings.LayerNorm"),
        **linear("pooler.dense", width, width),
    }
    for n in range(config["num_hidden_layers"]):
        layer = f"encoder.layer.{n}"
        for part in ("query", "key", "value"):
            weights |= linear(f"{layer}.attention.self.{part}", width, width)
        weights |= linear(f"{layer}.attention.output.dense", width, width)
        weights |= norm(f"{layer}.attention.output.LayerNorm")
        weights |= linear(f"{layer}.intermediate.dense", inner, width)
        weights |= linear(f"{layer}.output.dense", width, inner)
        weights |= norm(f"{layer}.output.LayerNorm")
    return {prefix + name: array for name, array in weights.items()}


def head_weights(config: dict[str, Any], prefix: str = "") -> Weights:
    """Of a reranker; the pooler is among the encoder's."""
    draw = np.random.default_rng(8)
    width = config["hidden_size"]

    def linear(name: str, out: int) -> Weights:
        weight = draw.normal(scale=0.5, size=(out, width)).astype(np.float32)
        return {f"{name}.weight": weight, f"{name}.bias": weight[:, 0].copy()}

    if config["model_type"] == "bert":
        return linear("classifier", 1)
    return linear("classifier.dense", width) | linear("classifier.out_proj", 1)


def write_encoder(folder: Path, weights: Weights, **config: Any) -> Path:
    from safetensors.numpy import save_file

    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(BERT | config))
    save_file(weights, folder / "model.safetensors")
    write_tokenizer(folder)
    return folder


def write_tokenizer(folder: Path) -> None:
    """One token a word, in [CLS] and [SEP], cut and filled up as sentence-transformers leaves it."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors

    tokenizer = Tokenizer(
        models.WordLevel({word: n for n, word in enumerate(WORDS)}, unk_token="[UNK]")
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", 1), ("[SEP]", 2)],
    )
    tokenizer.enable_truncation(4)
    tokenizer.enable_padding(length=8)
    tokenizer.save(str(folder / "tokenizer.json"))


def pool(folder: Path, mode: str = "mean_tokens", *, normalize: bool = True, **more: Any) -> Path:
    """With the files of sentence-transformers."""
    steps = ["Transformer", "Pooling", *(["Normalize"] if normalize else [])]
    modules = [
        {
            "idx": n,
            "path": "" if not n else f"{n}_{step}",
            "type": f"sentence_transformers.models.{step}",
        }
        for n, step in enumerate(steps)
    ]
    (folder / "modules.json").write_text(json.dumps(modules))
    (folder / "1_Pooling").mkdir(exist_ok=True)
    modes = dict.fromkeys(
        ("pooling_mode_cls_token", "pooling_mode_mean_tokens", "pooling_mode_lasttoken"), False
    )
    pooling = {**modes, f"pooling_mode_{mode}": True}
    (folder / "1_Pooling" / "config.json").write_text(json.dumps(pooling))
    if more:
        (folder / "config_sentence_transformers.json").write_text(json.dumps(more))
    return folder
