"""The trained part of a model: LoRA or DoRA factors, or its own weights, named and saved as mlx-lm
does."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import mlx.core as mx
import mlx.nn
from mlx.utils import tree_flatten, tree_map_with_path
from mlx_lm.models.switch_layers import QuantizedSwitchLinear, SwitchLinear
from mlx_lm.tuner.lora import LoRALinear
from mlx_lm.tuner.utils import linear_to_lora_layers
from mlx_lm.utils import get_total_parameters

from backends.base import LoraConfig, TrainingConfig, UnsupportedModel
from backends.mlx.training.dropout import Keys, key_dropout

nn: Any = mlx.nn  # MLX types its core only

ADAPTER_FILE = "adapters.safetensors"
ADAPTER_CONFIG = "adapter_config.json"


class FusedLoRALinear(LoRALinear):
    """mlx-lm's layer with the scale folded into B and the sum into the product.

    Two passes over the output less, forward and backward.
    """

    def __call__(self, x: mx.array) -> mx.array:
        low = self.dropout(x) @ self.lora_a
        y = self.linear(x)
        return mx.addmm(y, low.astype(y.dtype), (self.scale * self.lora_b).astype(y.dtype))


def adapt(model: Any, config: TrainingConfig) -> Keys:
    """Freeze all of `model` except what the run trains: the LoRA or DoRA factors of its top
    `num_layers` blocks (-1: all), or all weights of these blocks.

    The same seed draws the same factors. Returns the keys of the dropout. Raises UnsupportedModel.
    """
    mx.random.seed(config.seed)
    model.freeze()
    if config.fine_tune_type == "full":
        _unfreeze(model, config.num_layers)
    else:
        _add_factors(model, config)
    keys = Keys()
    key_dropout(model, config.lora.dropout, keys)
    mx.eval(model.trainable_parameters())
    return keys


def _unfreeze(model: Any, num_layers: int) -> None:
    for layer in model.layers[-max(num_layers, 0) :]:
        if any(hasattr(module, "bits") for _, module in layer.named_modules()):
            raise UnsupportedModel(
                "Quantized weights cannot be trained; choose lora or dora, or a base model that is "
                "not quantized."
            )
        layer.unfreeze()


def _add_factors(model: Any, config: TrainingConfig) -> None:
    _check_keys(model, config.lora)
    dora = config.fine_tune_type == "dora"
    try:
        linear_to_lora_layers(model, config.num_layers, lora_parameters(config.lora), use_dora=dora)
    except ValueError as error:
        raise UnsupportedModel(
            f"{config.fine_tune_type} cannot adapt {model.model_type}: {error}; name the layers "
            "to adapt with lora.keys."
        ) from error
    for _, module in model.named_modules():
        if type(module) is LoRALinear:
            # The factors and the base layer stay; only the arithmetic changes.
            module.__class__ = FusedLoRALinear


def _check_keys(model: Any, lora: LoraConfig) -> None:
    """Raises UnsupportedModel for a key that names nothing, which mlx-lm would ignore."""
    if lora.keys is None:
        return
    linear = (nn.Linear, nn.QuantizedLinear, SwitchLinear, QuantizedSwitchLinear)
    known = {
        name
        for layer in model.layers
        for name, module in layer.named_modules()
        if isinstance(module, linear) or hasattr(module, "to_lora")
    }
    if not lora.keys:
        raise UnsupportedModel("lora.keys is empty; leave it out to adapt every linear layer.")
    if unknown := sorted(set(lora.keys) - known):
        raise UnsupportedModel(
            f"lora.keys names {unknown[0]!r}, but the blocks of {model.model_type} have "
            f"{', '.join(sorted(known))}."
        )


def lora_parameters(lora: LoraConfig) -> dict[str, Any]:
    keys = {} if lora.keys is None else {"keys": list(lora.keys)}
    return {"rank": lora.rank, "scale": lora.scale, "dropout": lora.dropout, **keys}


def adapter_weights(model: Any) -> dict[str, mx.array]:
    """The trainable arrays by mlx-lm's names, sorted, so that equal weights give equal files."""
    return flat(model.trainable_parameters())


def flat(tree: Any) -> dict[str, mx.array]:
    """The arrays of a nested tree by their dotted paths, sorted."""
    leaves: list[tuple[str, mx.array]] = list(cast(Any, tree_flatten(tree)))
    return dict(sorted(leaves))


def filled(tree: Any, arrays: Mapping[str, mx.array]) -> Any:
    """A tree like `tree` with the array of each dotted path. Raises ValueError when one is missing."""

    def found(path: str, _: Any) -> mx.array:
        if path not in arrays:
            raise ValueError(f"there is no {path}")
        return arrays[path]

    return tree_map_with_path(found, tree)


def count_parameters(model: Any) -> tuple[int, int]:
    """(trainable, all) parameters."""
    trainable = sum(array.size for array in adapter_weights(model).values())
    count: Any = get_total_parameters
    return trainable, int(count(model))


def write_adapter_config(folder: Path, config: TrainingConfig) -> None:
    """Write what `mlx_lm.load(adapter_path=…)` needs beside the weights."""
    written = {
        "fine_tune_type": config.fine_tune_type,
        "num_layers": config.num_layers,
        "lora_parameters": lora_parameters(config.lora),
    }
    (folder / ADAPTER_CONFIG).write_text(json.dumps(written, indent=2) + "\n")
