"""What a machine's bandwidth and FLOPs allow a model at most: pure arithmetic, as `docs/first-token.md`
explains it."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path

from training.memory.estimate import Dimensions

WEIGHT_BITS = 4.5  # MLX: 4 bits, and a scale and a bias of 16 bits each for 64 weights
CHUNK = 512  # tokens that the hub reads at once on Metal while others stream
COPIES = 2  # of a restored prefix: its segments are joined, then merged into the batch
LOOKUP_S = 0.6e-3 / 32_000  # per token, measured
OVERHEAD_S = 9e-3  # the hub's own: a streamed answer of one token over HTTP, median
LIMIT_S = 0.1  # of a first token


@dataclass(frozen=True)
class Model:
    """A transformer of Llama's shape. `tied`: the head is the embeddings. A weight takes
    `weight_bits`, a value of the context `kv_bits`."""

    name: str
    layers: int
    hidden: int
    intermediate: int
    heads: int
    kv_heads: int
    vocabulary: int
    head_width: int = 128
    tied: bool = False
    weight_bits: float = WEIGHT_BITS
    kv_bits: float = 16.0

    @property
    def blocks(self) -> int:
        """Weights of all layers: attention's four matrices and the three of SwiGLU."""
        attention = 2 * self.hidden * self.head_width * (self.heads + self.kv_heads)
        return self.layers * (attention + 3 * self.hidden * self.intermediate)

    @property
    def head(self) -> int:
        return self.vocabulary * self.hidden

    @property
    def weight_bytes(self) -> float:
        return (self.blocks + (1 if self.tied else 2) * self.head) * self.weight_bits / 8

    @property
    def step_bytes(self) -> float:
        """What a step of decoding reads: all weights but the embeddings, of which it needs a row."""
        return (self.blocks + self.head) * self.weight_bits / 8

    def kv_bytes(self, bits: float | None = None) -> float:
        """Keys and values of one token, at `bits` a value instead of the model's own."""
        values = 2 * self.layers * self.kv_heads * self.head_width
        return values * (self.kv_bits if bits is None else bits) / 8

    def flops(self, tokens: int, before: int = 0) -> float:
        """Of reading `tokens` after `before` others: two for each weight, and attention to what
        comes before each token (on average half of the new ones)."""
        attention = 4 * self.layers * self.heads * self.head_width * (before + tokens / 2)
        return tokens * (2 * self.blocks + attention)


@dataclass(frozen=True)
class Rates:
    """What the machine does in a second."""

    bandwidth: float
    flops: float


def step_s(model: Model, rates: Rates, rows: int = 1, context: int = 0) -> float:
    """One step of decoding `rows` sequences of `context` tokens: the slower of reading the weights
    once and every row's keys and values, and of computing."""
    nbytes = model.step_bytes + rows * context * model.kv_bytes()
    flops = rows * (model.flops(1, context) + 2 * model.head)
    return max(nbytes / rates.bandwidth, flops / rates.flops)


def read_s(model: Model, rates: Rates, tokens: int, before: int = 0) -> float:
    """Reading a prompt in chunks, each of which reads the weights once."""
    seconds = 0.0
    for start in range(0, tokens, CHUNK):
        flops = model.flops(min(CHUNK, tokens - start), before + start)
        nbytes = model.step_bytes + (before + start) * model.kv_bytes()
        seconds += max(flops / rates.flops, nbytes / rates.bandwidth)
    return seconds


def restore_s(model: Model, rates: Rates, cached: int) -> float:
    """Finding a prefix and copying it into the batch; each copy reads and writes it."""
    return 2 * COPIES * cached * model.kv_bytes() / rates.bandwidth + cached * LOOKUP_S


def first_token_s(
    model: Model, rates: Rates, tokens: int, cached: int = 0, overhead: float = 0.0
) -> float:
    """From the request to the first token: a prompt of `cached` tokens that are in the prefix cache
    and `tokens` that are not. The last of them is a step of decoding."""
    prompt = read_s(model, rates, tokens - 1, cached)
    step = step_s(model, rates, 1, cached + tokens)
    return overhead + restore_s(model, rates, cached) + prompt + step


def of_folder(folder: Path) -> Model:
    """A llama-like model folder, as the arithmetic of the bound sees it."""
    size, config = Dimensions.read(folder), json.loads((folder / "config.json").read_text())
    tied = bool(config.get("tie_word_embeddings", False))
    heads = int(config["num_attention_heads"])
    width = int(config.get("head_dim") or size.hidden // heads)
    exact = "quantization" not in config and config.get("torch_dtype", "float32") == "float32"
    made = Model(
        name="",
        layers=size.layers,
        hidden=size.hidden,
        intermediate=size.intermediate,
        heads=heads,
        kv_heads=size.kv // width,
        vocabulary=size.vocabulary,
        head_width=width,
        tied=tied,
        weight_bits=8,  # a byte each, so that weight_bytes counts them
        kv_bits=32 if exact else 16,
    )
    held = sum(path.stat().st_size for path in folder.glob("*.safetensors"))
    return replace(made, weight_bits=8 * held / made.weight_bytes)
