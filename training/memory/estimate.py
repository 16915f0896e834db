"""Memory and disk that a run will need, from the model's dimensions and the configuration.

These are estimates for planning, not limits; `training.memory.measured` corrects them by what
earlier runs measured. They assume a transformer like llama: four attention and three MLP
projections per layer, with adapters on all of them.

The estimate and the measurement cover the whole process, but for CUDA, where they cover what MLX holds
on the device.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from backends import devices
from backends.base import TrainingConfig
from backends.schedule import compiled_length, heaviest_batch
from registry.late import Late
from training.memory import compiled

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
else:
    np = Late("numpy")

FORMULA = 9
"""Increase it when the formula or the measurement changes: runs estimated by an earlier formula say
nothing about the error of this one, and must not correct it."""

type Lengths = NDArray[np.integer[Any]]

_PROGRAM = 210 * 10**6  # Python and the libraries of a training process
_FLOAT = 4  # bytes; adapters, masters, their gradients and optimizer states are float32
_STATES = {"adam": 2.0, "adamw": 2.0, "sgd": 1.0, "muon": 1.0, "adafactor": 0.1}
"""Values that an optimizer keeps per trained weight. MLX's SGD keeps momentum even when it is zero;
Adafactor keeps one row and one column per matrix."""


@dataclass(frozen=True)
class Dimensions:
    """The sizes in a model folder's `config.json`; missing ones get llama's defaults."""

    layers: int
    hidden: int
    intermediate: int
    heads: int
    kv: int
    vocabulary: int

    @classmethod
    def read(cls, folder: Path) -> Dimensions:
        return cls.of(json.loads((folder / "config.json").read_text()))

    @classmethod
    def of(cls, config: Mapping[str, Any]) -> Dimensions:
        """Those of a config.json. Raises TypeError and ValueError for what are no numbers."""
        config = {**config, **(config.get("text_config") or {})}
        hidden = int(config.get("hidden_size") or 1024)
        heads = int(config.get("num_attention_heads") or 1)
        kv_heads = int(config.get("num_key_value_heads") or heads)
        head = int(config.get("head_dim") or hidden // heads)
        return cls(
            layers=int(config.get("num_hidden_layers") or 24),
            hidden=hidden,
            intermediate=int(config.get("intermediate_size") or 4 * hidden),
            heads=heads,
            kv=kv_heads * head,
            vocabulary=int(config.get("vocab_size") or 32_000),
        )

    def trained_layers(self, config: TrainingConfig) -> int:
        return self.layers if config.num_layers < 0 else min(config.num_layers, self.layers)

    @property
    def weights(self) -> int:
        """About how many weights a model of these sizes has."""
        block = sum(inputs * outputs for inputs, outputs in self.projections.values())
        return self.layers * block + 2 * self.vocabulary * self.hidden

    def context_bytes(self, tokens: int) -> int:
        """What the keys and values of so many tokens take in 16 bits."""
        return 4 * self.layers * self.kv * tokens

    @property
    def projections(self) -> dict[str, tuple[int, int]]:
        """(inputs, outputs) of each linear layer of a block, by its path within it."""
        return {
            "self_attn.q_proj": (self.hidden, self.hidden),
            "self_attn.k_proj": (self.hidden, self.kv),
            "self_attn.v_proj": (self.hidden, self.kv),
            "self_attn.o_proj": (self.hidden, self.hidden),
            "mlp.gate_proj": (self.hidden, self.intermediate),
            "mlp.up_proj": (self.hidden, self.intermediate),
            "mlp.down_proj": (self.intermediate, self.hidden),
        }


_IN_PIECES = ("llama", "mistral", "qwen2", "qwen3")
"""Architectures whose head the CPU computes in pieces (see `backends.mlx.training.loss`)."""
_SPARING = ("llama", "mistral", "qwen2")
"""Those whose blocks the CPU computes by parts of its own (see `backends.mlx.training.remat`)."""


@dataclass(frozen=True)
class Base:
    """A base model's stored weights, and how this machine computes with them."""

    size: Dimensions
    nbytes: int
    quantized: bool = False
    activation_bytes: int = 4  # per value: 2 where it computes in 16 bits
    on_cpu: bool = False
    head_in_pieces: bool = False  # only the logits of a few tokens exist at a time
    sparing: bool = False  # blocks keep what products gave, and compute the rest again
    lanes: int = 2  # that the CPU computes side by side
    on_cuda: bool = False  # what counts is the card's memory

    @classmethod
    def of(cls, size: Dimensions, nbytes: int, quantization: str, architecture: str = "") -> Base:
        """`quantization` as the registry writes it: "float32", "bfloat16", "4-bit (group 64)"; see
        `registry.bases.registration.precision_of`."""
        quantized = "-bit" in quantization
        kind = devices.expected()
        on_cpu = kind == "cpu"
        # Quantized weights compute in the type of their scales; the CPU makes those float32.
        wide = "float32" in quantization or (quantized and on_cpu)
        plain = on_cpu and quantization == "float32"
        return cls(
            size,
            nbytes,
            quantized,
            activation_bytes=4 if wide else 2,
            on_cpu=on_cpu,
            head_in_pieces=plain and architecture in _IN_PIECES,
            sparing=plain and architecture in _SPARING,
            lanes=devices.lanes(),
            on_cuda=kind == "cuda",
        )


@dataclass(frozen=True)
class Memory:
    """Bytes of a run's peak, by purpose. `program` is 0 where only the device's own memory counts."""

    weights: int
    trained: int
    gradients: int
    optimizer: int
    activations: int
    program: int = 0

    @property
    def total(self) -> int:
        return sum(asdict(self).values())


def trained_parameters(size: Dimensions, config: TrainingConfig) -> int:
    """Number of weights that the run trains."""
    chosen = size.projections
    if config.fine_tune_type != "full" and config.lora.keys is not None:
        chosen = {name: shape for name, shape in chosen.items() if name in config.lora.keys}
    per_layer = 0
    for inputs, outputs in chosen.values():
        if config.fine_tune_type == "full":
            per_layer += inputs * outputs
        else:
            per_layer += config.lora.rank * (inputs + outputs)
            per_layer += outputs if config.fine_tune_type == "dora" else 0
    return size.trained_layers(config) * per_layer


def trained_bytes(size: Dimensions, config: TrainingConfig) -> int:
    """Size of the trained weights in float32: an adapter's or a full fine-tune's file."""
    return trained_parameters(size, config) * _FLOAT


def memory(
    base: Base,
    config: TrainingConfig,
    longest: int | None,
    lengths: Lengths | None = None,
    learned: Lengths | None = None,
) -> Memory:
    """Peak memory of a run. `longest` is the length of the longest example in tokens, `lengths` those
    of all in ascending order, and `learned` how many tokens of each are learned; None when unknown."""
    trained = trained_parameters(base.size, config)
    full = config.fine_tune_type == "full"
    masters = full and base.activation_bytes < _FLOAT and config.arithmetic == "masters"
    width = base.activation_bytes if full and not masters else _FLOAT
    copies = 1 if config.grad_accumulation_steps == 1 else 2  # the sum and the newest batch's
    return Memory(
        weights=base.nbytes,
        trained=0 if full and not masters else trained * width,
        gradients=trained * width * copies,
        optimizer=int(trained * width * _STATES[config.optimizer]),
        activations=_activations(base, config, longest, lengths, learned),
        program=0 if base.on_cuda else _PROGRAM,
    )


def _activations(
    base: Base,
    config: TrainingConfig,
    longest: int | None,
    lengths: Lengths | None,
    learned: Lengths | None,
) -> int:
    """The arrays of a step, and those that were freed and are kept."""
    arrays = step_arrays(base, config, longest, lengths, learned)
    if base.on_cuda:
        return arrays
    if base.on_cpu:
        return arrays + min(_FREED, arrays // 5)
    return arrays + min(_FREED_ON_METAL, compiled.freed(config, arrays, lengths))


def step_arrays(
    base: Base,
    config: TrainingConfig,
    longest: int | None,
    lengths: Lengths | None = None,
    learned: Lengths | None = None,
) -> int:
    """What the forward pass keeps for the backward pass, the arrays of one layer's backward pass,
    and the logits. With checkpointing each layer keeps only its input, and one layer at a time keeps
    the rest."""
    padded: Callable[[int], int] = int if base.on_cpu else _padded
    length = padded(min(config.max_seq_length, longest or config.max_seq_length))
    tokens = _tokens(base, config, length, lengths, padded)
    if base.on_cpu:
        arrays = _arrays_on_cpu(base, config, tokens, length)
    else:
        row = min(_padded(config.max_seq_length), tokens) if config.packing else length
        targets = compiled.targets(config, tokens, lengths, learned)
        arrays = compiled.arrays(base.size, base.activation_bytes, config, tokens, row, targets)
    # DoRA normalizes each adapted matrix, so an unquantized copy of it exists as well.
    matrix = 2 * base.size.hidden * base.size.intermediate * base.activation_bytes
    return arrays + (matrix if config.fine_tune_type == "dora" else 0)


def _arrays_on_cpu(base: Base, config: TrainingConfig, tokens: int, row: int) -> int:
    """`row` is how many tokens a token attends to: each packed example attends separately."""
    size, width = base.size, base.activation_bytes
    layers = size.trained_layers(config)
    again = base.sparing and config.fine_tune_type != "dora" and not config.lora.dropout
    in_blocks = base.sparing and row > AT_ONCE
    whole = _kept(size, config, 0 if in_blocks else row)
    kept: float = (_products(size, config, row) if again else whole) * layers
    passing: float = 4 * size.hidden + (4 if again else 2) * size.intermediate
    passing += 2 * size.heads * (AT_ONCE if in_blocks else row)
    if config.grad_checkpoint:
        kept, passing = size.hidden * layers, passing + whole
    ahead = 0
    if base.sparing:
        kept, passing = kept * _ROUNDED, passing * _WORKING
        ahead = _AHEAD * tokens // base.lanes * size.intermediate * width
    logits = _logits(base, tokens)
    # The pieces of the head are done before the blocks' backward pass begins.
    last = max(ahead, logits) if base.head_in_pieces else ahead + logits
    return int(tokens * (kept + passing) * width) + last


STEP_TOKENS = 512
"""The CPU computes so many tokens of a batch at a time (`backends.mlx.training.loss.STEP_TOKENS`)."""
AT_ONCE = 256
"""It keeps the attention's probabilities of rows up to so many tokens (`backends.mlx.kernels.quick`)."""


def _tokens(
    base: Base,
    config: TrainingConfig,
    length: int,
    lengths: Lengths | None,
    padded: Callable[[int], int],
) -> int:
    """That are computed at a time, with their padding; `length` is that of the longest row."""
    tokens = config.batch_size * length
    if lengths is not None and len(lengths) and not config.packing:
        tokens = heaviest_batch(lengths, config, base.lanes if base.on_cpu else 1, padded)
    rows = compiled.rows(config)
    tokens *= rows
    if base.on_cpu and config.fine_tune_type != "full" and config.objective != "kto":
        tokens = min(tokens, max(STEP_TOKENS, base.lanes * rows * length))
    return tokens


def _padded(length: int) -> int:
    """The length of rows on a GPU: the last token of an example is no input."""
    return compiled_length(length - 1)


_FREED, _FREED_ON_METAL = 64 << 20, 512 << 20
"""MLX keeps so many bytes of freed arrays for later ones (`backends.mlx.device.TRAINING_CACHE`), at its
peak on the CPU no more than a fifth of the arrays that a step works with (measured)."""


def _kept(size: Dimensions, config: TrainingConfig, row: int) -> int:
    """Values that one layer keeps per token: the inputs and outputs of its projections, norms and
    rotation, and the attention probabilities. No device fuses these away in training."""
    values = 7 * size.hidden + 2 * size.kv + 3 * size.intermediate + size.heads * row
    if config.fine_tune_type != "full":
        values += 7 * config.lora.rank
        inputs = 6 * size.hidden + size.intermediate
        values += inputs * 5 // 4 if config.lora.dropout else 0  # the dropped inputs and their mask
    if config.fine_tune_type == "dora":
        values += 3 * size.hidden + 2 * size.kv + 2 * size.intermediate  # before the magnitude
    return values


def _products(size: Dimensions, config: TrainingConfig, row: int) -> int:
    """Values that one layer keeps per token where the CPU computes again what is cheap: the inputs of
    both halves, and what the products before the attention, the attention and the MLP's activation
    gave."""
    values = 4 * size.hidden + 2 * size.kv + 2 * size.intermediate + size.heads
    values += size.heads * row if row <= AT_ONCE else 0
    return values + (0 if config.fine_tune_type == "full" else config.lora.rank)


_PIECE = 128 * 2048  # logits that the CPU computes at a time
_PIECES = 6  # that exist in a lane

# Fitted to what processes held (docs/benchmarks.md): the least that leaves no case off by more than 5 %.
_ROUNDED = 1.15  # a kept array in the allocator's blocks, and holes between them
_WORKING = 1.85  # arrays of a layer's backward pass that wait for one another
_AHEAD = 12  # arrays of an MLP in a lane that MLX has allocated before it works on them


def _logits(base: Base, tokens: int) -> int:
    """Bytes of the logits and of the loss's float32 arrays: exponentials and gradient."""
    if base.head_in_pieces:
        return base.lanes * _PIECE * _PIECES * _FLOAT
    return tokens * base.size.vocabulary * (base.activation_bytes + 2 * _FLOAT)


def disk_bytes(size: Dimensions, config: TrainingConfig) -> int:
    """Checkpoints (weights and optimizer), including the best and one being written, and the result."""
    kept = config.keep_checkpoints + 2
    states = 1 + _STATES[config.optimizer]
    return int((kept * states + 1) * trained_bytes(size, config))
