"""The optimizers by the names of the configuration, and one step with any of them."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Sequence
from typing import Any

import mlx.core as mx
from mlx.optimizers.optimizers import (
    SGD,
    Adafactor,
    Adam,
    AdamW,
    MultiOptimizer,
    Muon,
    Optimizer,
    clip_grad_norm,
)
from mlx.utils import tree_map

from backends.base import TrainingConfig
from backends.mlx.data.batching import Batch
from backends.mlx.device import device_kind
from backends.mlx.training import lora
from backends.mlx.training.dropout import Keys
from backends.mlx.training.loss import Lanes
from backends.mlx.training.masters import Trained
from backends.mlx.training.objectives import Objective

async_eval: Any = mx.async_eval  # untyped
_BETAS = [0.9, 0.99]


def make_optimizer(config: TrainingConfig) -> Any:
    """Adam as published, unlike mlx-lm's default, which leaves the bias correction out.

    Without it the first steps are three to five times as long as `learning_rate` says. The short
    memory of 0.99 suits runs of hundreds of steps: the first, large gradients are soon forgotten.
    Muon steps matrices only (LoRA's factors, weights); what is no matrix, such as DoRA's
    magnitudes and the norms of a full fine-tune, goes to AdamW at the same rate. SGD has a
    momentum of 0.9. Adafactor takes the configured rate, not one of its own.
    """
    rate, decay = config.learning_rate, config.weight_decay
    match config.optimizer:
        case "adamw":
            return _adamw(rate, decay)
        case "adam":
            return Adam(rate, betas=_BETAS, bias_correction=True)
        case "sgd":
            return SGD(rate, momentum=0.9, weight_decay=decay)
        case "adafactor":
            return Adafactor(rate, weight_decay=decay, scale_parameter=False, relative_step=False)
        case "muon":
            both: list[Optimizer] = [Muon(rate, weight_decay=decay), _adamw(rate, decay)]
            return MultiOptimizer(both, [lambda _, weight: weight.ndim == 2])


def _adamw(rate: float, decay: float) -> Optimizer:
    return AdamW(rate, betas=_BETAS, weight_decay=decay, bias_correction=True)


def restore(optimizer: Any, saved: dict[str, mx.array]) -> None:
    """Put `saved` (by dotted path) into an optimizer that is set up for the model."""
    optimizer.state = lora.filled(optimizer.state, saved)


class Update:
    """Optimizer steps on a model: gradients of one or more batches, clipped, then applied."""

    def __init__(
        self,
        model: Any,
        weights: Trained,
        optimizer: Any,
        objective: Objective,
        lanes: Lanes,
        keys: Keys,
        config: TrainingConfig,
    ) -> None:
        self._model, self._weights, self._optimizer = model, weights, optimizer
        self._objective, self._lanes, self._keys = objective, lanes, keys
        self._limit = config.grad_clip or math.inf
        self._frugal = config.grad_checkpoint
        self._gradient, self._apply = self._functions()

    def step(self, parts: Sequence[Sequence[Batch]], seed: str) -> tuple[float, float]:
        """(mean loss, norm of the gradient before clipping) of one optimizer step on all batches;
        a part is one batch, divided over the lanes. `seed` decides the dropout.

        Every token, pair or answer weighs the same, however the examples are divided into batches.
        """
        count = sum(self._objective.counted(batches) for batches in parts)
        total, gradients = mx.array(0.0), None
        for number, batches in enumerate(parts):
            arrays = self._objective.fresh(
                self._model, self._objective.arrays(self._model, batches)
            )
            digest = hashlib.sha256(f"{seed}/{number}".encode()).digest()
            key = mx.random.key(int.from_bytes(digest[:8]))
            loss, found = self._gradient(arrays, mx.array(1.0 / count), key, batches)
            if number:
                mx.eval(total, gradients)  # else the activations of two batches live at once
            total = total + loss
            if gradients is None:
                gradients = found
            else:
                gradients = tree_map(lambda a, b: a + b, gradients, found)
            if len(parts) > 1:
                async_eval(total, gradients)  # while the graph of the next batch is made
        self._give_back(total, gradients)
        norm = self._apply(gradients)
        mx.eval(total, norm, self._model.trainable_parameters(), *self._state())
        self._give_back()
        return float(total.item()), float(norm.item())  # type: ignore[arg-type]

    def _give_back(self, *results: Any) -> None:
        """With gradient checkpointing: compute `results`, and free what the next part cannot reuse."""
        if self._frugal:
            mx.eval(*results)
            mx.clear_cache()

    def _state(self) -> list[Any]:
        return [self._weights.masters, self._optimizer.state]

    def _functions(self) -> tuple[Callable[..., Any], Callable[..., Any]]:
        def loss_of(parameters: Any, arrays: Any, share: mx.array, batches: Any) -> mx.array:
            self._model.update(parameters)
            total = mx.array(0.0)
            for number, lane in enumerate(arrays):
                with mx.stream(self._lanes.streams[number]):
                    batch = batches[number] if batches else None
                    loss = self._objective.sums(self._model, lane, batch)[0]
                total = total + loss
            return total * share

        def gradient(
            arrays: Any, share: mx.array, key: mx.array, batches: Any = None
        ) -> tuple[mx.array, Any]:
            self._keys.begin(key, passes=len(arrays))
            parameters = self._model.trainable_parameters()
            loss, found = mx.value_and_grad(loss_of)(parameters, arrays, share, batches)
            self._model.update(parameters)
            return loss, self._weights.gradients(found)

        clip: Any = clip_grad_norm  # untyped upstream

        def apply(gradients: Any) -> mx.array:
            clipped, norm = clip(gradients, self._limit)
            self._weights.apply(self._optimizer, clipped)
            found: mx.array = norm
            return found

        if device_kind() == "cpu":
            # On the CPU every fused kernel of the whole graph would go through g++ first (half a
            # minute); the parts that gain from fusion are compiled by themselves.
            return gradient, apply
        return self._compiled(gradient, apply)

    def _compiled(
        self, gradient: Callable[..., Any], apply: Callable[..., Any]
    ) -> tuple[Callable[..., Any], Callable[..., Any]]:
        """Both as one graph each. The objects that hold state are read at every call."""
        model = self._model.state
        state = [model, *self._state()]
        compiled: Any = mx.compile(gradient, inputs=model, outputs=model)
        applied: Any = mx.compile(apply, inputs=state, outputs=state)
        # Spans are for the CPU; Python values would make a graph of each batch.
        return lambda arrays, share, key, _: compiled(list(arrays), share, key), applied
