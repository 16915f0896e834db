"""The arrays of a step that a GPU computes as one compiled graph.

Counted by array, and held against what MLX held for models of several shapes (docs/benchmarks.md).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from backends.base import TrainingConfig
from backends.schedule import batch_tops, compiled_length, compiled_targets, heaviest_places
from registry.late import Late

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
else:
    np = Late("numpy")

type Lengths = NDArray[np.integer[Any]]

_FLOAT = 4  # bytes
_OWN = 32 << 20  # freed arrays that steps of one length do not use again
_HEAD = 2  # the logits in float32, and their gradient


class Sizes(Protocol):
    """What is asked of `training.memory.estimate.Dimensions`."""

    @property
    def hidden(self) -> int: ...
    @property
    def intermediate(self) -> int: ...
    @property
    def heads(self) -> int: ...
    @property
    def kv(self) -> int: ...
    @property
    def vocabulary(self) -> int: ...

    def trained_layers(self, config: TrainingConfig) -> int: ...


def arrays(
    size: Sizes, width: int, config: TrainingConfig, tokens: int, row: int, targets: int
) -> int:
    """Bytes for a batch of so many `tokens`, with their padding, each of which attends to `row` others,
    and of which `targets` have logits; a value that the model computes takes `width`.

    MLX allocates what the last layer's backward pass gives while it still computes the head. Where a layer
    is computed again first, that is as far as it gets: before the attention's probabilities.
    """
    layers = size.trained_layers(config)
    layer = tokens * _layer(size, width, config, row)
    # Of each projection's inputs two gradients, through the weights and through the factors; those of
    # the norms and of both sums; of the MLP's halves; of the attention's scores and probabilities.
    backward = (16 * size.hidden + 4 * size.intermediate + 2 * size.heads * row) * tokens * width
    head = _HEAD * targets * size.vocabulary * _FLOAT
    if config.grad_checkpoint:
        before = tokens * _layer(size, width, config, 0)
        return layers * tokens * size.hidden * width + max(layer + backward, before + head)
    return layers * layer + backward + head


def _layer(size: Sizes, width: int, config: TrainingConfig, row: int) -> int:
    """Bytes that a layer keeps for a token."""
    # Queries, keys and values; the MLP's gate, its sigmoid, their product, and the other half;
    # probabilities.
    values = size.hidden + 2 * size.kv + 4 * size.intermediate + size.heads * row
    # What the norms get, and the inputs of the projections, which the factors of an adapter make float32.
    inputs = 5 * size.hidden + size.intermediate
    mask = row  # a byte each
    if config.fine_tune_type == "full":
        return width * (values + inputs) + mask
    inputs += 7 * config.lora.rank
    if config.lora.dropout:
        inputs += (6 * size.hidden + size.intermediate) * 5 // 4  # after the dropout, and its mask
    if config.fine_tune_type == "dora":
        values += 3 * size.hidden + 2 * size.kv + 2 * size.intermediate  # before the magnitude
    return width * values + _FLOAT * inputs + mask


def targets(
    config: TrainingConfig, tokens: int, lengths: Lengths | None, learned: Lengths | None
) -> int:
    """Of the heaviest batch, with so many `tokens`: those whose logits are computed. All of them where
    nothing is known of its examples."""
    if lengths is None or not len(lengths):
        return tokens
    inputs = np.maximum(lengths, 2) - 1
    share = np.ones(len(lengths)) if learned is None else learned / (rows(config) * inputs)
    if config.packing:
        return compiled_targets(tokens, int(tokens * share.mean()))
    places = heaviest_places(len(lengths), config)
    near = share[places[-1] :]
    # Some batches of long examples have more to learn than others.
    much = min(1.0, near.mean() + near.std() / len(places) ** 0.5)
    real = rows(config) * np.minimum(inputs, config.max_seq_length - 1)[places].sum()
    return compiled_targets(tokens, int(real * much))


def freed(config: TrainingConfig, most: int, lengths: Lengths | None) -> int:
    """Bytes of freed arrays that are kept beside the `most` of the heaviest step, if MLX gives none back.

    Steps of one length use each other's. Otherwise those of the other lengths, and of the evaluations,
    fit no array of this step. With checkpointing each step gives them back, and keeps what the layers
    computed again have left.
    """
    if config.grad_checkpoint:
        return most * 3 // 10
    tops = batch_tops(lengths, config) if lengths is not None and len(lengths) else []
    if len({compiled_length(top - 1) for top in tops}) == 1 and not config.packing:
        return min(most // 12, _OWN)
    return most * 5 // 4


def rows(config: TrainingConfig) -> int:
    """Of an example. Both answers of a pair have gradients. KTO's answers to other requests have none,
    and its peak is sft's (measured: 758 and 767 MB where dpo needs 1260)."""
    return 2 if config.objective in ("dpo", "orpo", "simpo") else 1
