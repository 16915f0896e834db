"""BERT and RoBERTa as mlx-lm has its models: an encoder whose every token sees every other one, and the
head of a reranker.

Arithmetic: https://arxiv.org/abs/1810.04805; the names of modules are those of the weights. Packages
that have it bring vision and audio along (see docs/decisions.md).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, cast

import mlx.core as mx
import mlx.nn
from mlx_lm.models.base import BaseModelArgs

from backends.base import UnsupportedModel

nn: Any = mlx.nn  # MLX types its core only
_ACTIVATIONS = {"gelu": nn.gelu, "gelu_new": nn.gelu_approx, "relu": nn.relu}
_OTHER_PARTS = ("pooler.", "cls.", "lm_head.", "classifier.")


@dataclass
class ModelArgs(BaseModelArgs):
    model_type: str
    hidden_size: int
    num_hidden_layers: int
    num_attention_heads: int
    intermediate_size: int
    vocab_size: int
    max_position_embeddings: int
    type_vocab_size: int = 2
    layer_norm_eps: float = 1e-12
    hidden_act: str = "gelu"
    position_embedding_type: str = "absolute"
    pad_token_id: int | None = None
    scores: bool = False  # not of the config: whether it is a reranker

    def __post_init__(self) -> None:
        if self.position_embedding_type != "absolute" or self.hidden_act not in _ACTIVATIONS:
            raise UnsupportedModel(
                f"Encoders with {self.position_embedding_type} positions and {self.hidden_act} are not "
                f"supported; choose one with absolute positions and {', '.join(_ACTIVATIONS)}."
            )

    @property
    def first_position(self) -> int:
        """RoBERTa counts positions from after its padding token's number on."""
        if self.model_type == "bert":
            return 0
        return 1 + (1 if self.pad_token_id is None else self.pad_token_id)


class _Embeddings(nn.Module):  # type: ignore[misc]
    def __init__(self, args: ModelArgs) -> None:
        super().__init__()
        width = args.hidden_size
        self.word_embeddings = nn.Embedding(args.vocab_size, width)
        self.position_embeddings = nn.Embedding(args.max_position_embeddings, width)
        self.token_type_embeddings = nn.Embedding(args.type_vocab_size, width)
        self.LayerNorm = nn.LayerNorm(width, eps=args.layer_norm_eps)
        self._first = args.first_position

    def __call__(self, tokens: mx.array, kinds: mx.array) -> mx.array:
        positions = mx.arange(self._first, self._first + tokens.shape[1])
        kind = self.token_type_embeddings(kinds)
        words: mx.array = self.word_embeddings(tokens)
        return cast(mx.array, self.LayerNorm(words + self.position_embeddings(positions) + kind))


class _Attention(nn.Module):  # type: ignore[misc]
    def __init__(self, args: ModelArgs) -> None:
        super().__init__()
        width = args.hidden_size
        self.query = nn.Linear(width, width)
        self.key = nn.Linear(width, width)
        self.value = nn.Linear(width, width)
        self._heads = args.num_attention_heads

    def __call__(self, x: mx.array, mask: mx.array) -> mx.array:
        rows, length, width = x.shape
        size = width // self._heads
        q, k, v = (
            part(x).reshape(rows, length, self._heads, size).transpose(0, 2, 1, 3)
            for part in (self.query, self.key, self.value)
        )
        seen = mx.fast.scaled_dot_product_attention(q, k, v, scale=size**-0.5, mask=mask)
        return seen.transpose(0, 2, 1, 3).reshape(rows, length, width)


class _Output(nn.Module):  # type: ignore[misc]
    """What a part of a layer adds to its input."""

    def __init__(self, args: ModelArgs, width: int) -> None:
        super().__init__()
        self.dense = nn.Linear(width, args.hidden_size)
        self.LayerNorm = nn.LayerNorm(args.hidden_size, eps=args.layer_norm_eps)

    def __call__(self, x: mx.array, before: mx.array) -> mx.array:
        return cast(mx.array, self.LayerNorm(self.dense(x) + before))


class _Layer(nn.Module):  # type: ignore[misc]
    def __init__(self, args: ModelArgs) -> None:
        super().__init__()
        self.attention: dict[str, Any] = {
            "self": _Attention(args),
            "output": _Output(args, args.hidden_size),
        }
        self.intermediate = {"dense": nn.Linear(args.hidden_size, args.intermediate_size)}
        self.output = _Output(args, args.intermediate_size)
        self._activation = _ACTIVATIONS[args.hidden_act]

    def __call__(self, x: mx.array, mask: mx.array) -> mx.array:
        x = self.attention["output"](self.attention["self"](x, mask), x)
        return self.output(self._activation(self.intermediate["dense"](x)), x)


class Model(nn.Module):  # type: ignore[misc]
    """Last hidden states [rows, tokens, width] of `tokens` [rows, tokens]; `mask` [rows, 1, 1, tokens] is
    true for those that are no padding, `kinds` [rows, tokens] is 1 for those of a second text."""

    def __init__(self, args: ModelArgs) -> None:
        super().__init__()
        self.embeddings = _Embeddings(args)
        self.encoder = {"layer": [_Layer(args) for _ in range(args.num_hidden_layers)]}
        head = _head(args) if args.scores else {}
        for name, part in head.items():
            setattr(self, name, part)
        self._kept = tuple(f"{name}." for name in head)
        self._kinds = args.type_vocab_size

    def __call__(self, tokens: mx.array, mask: mx.array, kinds: mx.array | None = None) -> mx.array:
        if kinds is None or self._kinds == 1:
            kinds = mx.array([0])
        x = self.embeddings(tokens, kinds)
        for layer in self.encoder["layer"]:
            x = layer(x, mask)
        return x

    def score(self, states: mx.array) -> mx.array:
        """What the head says [rows] of last hidden states [rows, tokens, width], of any size."""
        first = states[:, 0]
        if "pooler." in self._kept:
            first = mx.tanh(self.pooler["dense"](first))
            return cast(mx.array, self.classifier(first)[:, 0])
        head = self.classifier
        return cast(mx.array, head["out_proj"](mx.tanh(head["dense"](first)))[:, 0])

    def sanitize(self, weights: dict[str, Any]) -> dict[str, Any]:
        """Without the name of a whole around the encoder, and without what comes after it."""
        bare = {
            name.removeprefix("bert.").removeprefix("roberta."): w for name, w in weights.items()
        }
        return {
            name: weight
            for name, weight in bare.items()
            if (not name.startswith(_OTHER_PARTS) or name.startswith(self._kept))
            and not name.endswith("position_ids")
        }


def _head(args: ModelArgs) -> dict[str, Any]:
    """That of `BertForSequenceClassification`, and RoBERTa's, which has its own pooling, with one label."""
    width = args.hidden_size
    if args.model_type == "bert":
        return {"pooler": {"dense": nn.Linear(width, width)}, "classifier": nn.Linear(width, 1)}
    return {"classifier": {"dense": nn.Linear(width, width), "out_proj": nn.Linear(width, 1)}}
