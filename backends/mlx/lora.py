"""Put LoRA layers into a model, as mlx-lm names and saves them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, cast

import mlx.core as mx
from mlx.utils import tree_flatten
from mlx_lm.tuner.lora import LoRALinear
from mlx_lm.tuner.utils import linear_to_lora_layers
from mlx_lm.utils import get_total_parameters

from backends.base import LoraConfig

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


def adapt(model: Any, num_layers: int, lora: LoraConfig, seed: int) -> None:
    """Freeze `model` and give its top `num_layers` blocks (-1: all) trainable LoRA factors.

    The same seed draws the same factors.
    """
    mx.random.seed(seed)
    model.freeze()
    linear_to_lora_layers(model, num_layers, lora_parameters(lora))
    for _, module in model.named_modules():
        if type(module) is LoRALinear:
            # The factors and the base layer stay; only the arithmetic changes.
            module.__class__ = FusedLoRALinear
    mx.eval(model.trainable_parameters())


def lora_parameters(lora: LoraConfig) -> dict[str, Any]:
    return {"rank": lora.rank, "scale": lora.scale, "dropout": lora.dropout}


def adapter_weights(model: Any) -> dict[str, mx.array]:
    """The trainable arrays by mlx-lm's names, sorted, so that equal weights give equal files."""
    return flat(model.trainable_parameters())


def flat(tree: Any) -> dict[str, mx.array]:
    """The arrays of a nested tree by their dotted paths, sorted."""
    leaves: list[tuple[str, mx.array]] = list(cast(Any, tree_flatten(tree)))
    return dict(sorted(leaves))


def count_parameters(model: Any) -> tuple[int, int]:
    """(trainable, all) parameters."""
    trainable = sum(array.size for array in adapter_weights(model).values())
    count: Any = get_total_parameters
    return trainable, int(count(model))


def write_adapter_config(folder: Path, num_layers: int, lora: LoraConfig) -> None:
    """Write what `mlx_lm.load(adapter_path=…)` needs beside the weights."""
    config = {
        "fine_tune_type": "lora",
        "num_layers": num_layers,
        "lora_parameters": lora_parameters(lora),
    }
    (folder / ADAPTER_CONFIG).write_text(json.dumps(config, indent=2) + "\n")
