"""Many LoRA adapters over one copy of the base weights, in one running batch.

Every adapted linear layer holds the factors of all adapters, stacked; slot 0 stays zero and is the
base alone. The slot of each row of the batch travels with mlx-lm's prompt caches: an `AdapterRows`
sits at the end of each row's list of caches, so the batch generator merges, filters and extends it
together with the keys and values.

This module knows the layers and the caches, but neither tokens nor text.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mlx.core as mx
import mlx.nn
import mlx.utils

from backends.base import UnsupportedModel
from backends.mlx.device import share_cores
from backends.mlx.files.identity import identity
from backends.mlx.kernels.head import HEADED, logits_of

nn: Any = mlx.nn  # MLX types its core only
utils: Any = mlx.utils
type Module = Any

BASE = 0  # the slot of the base alone


@dataclass(frozen=True)
class Mixed:
    """What the rows of a batch use that do not share one adapter: `slots` and `rows` [rows], the
    slot of each and its own number, and the set of `used` slots."""

    slots: mx.array
    rows: mx.array
    used: frozenset[int]


class AdapterRows:
    """The slot of each row of a batch, with the interface of an mlx-lm cache but no content.

    Its methods are those that mlx-lm 0.32.2's BatchGenerator calls on caches.
    """

    def __init__(self, slots: Sequence[int]) -> None:
        self.slots = list(slots)
        self._selection: int | Mixed | None = None

    @property
    def selection(self) -> int | Mixed:
        """One slot if all rows share it."""
        if self._selection is None:
            used = frozenset(self.slots)
            slots = mx.array(self.slots, mx.uint32)
            rows = mx.array(list(range(len(self.slots))), mx.uint32)
            self._selection = Mixed(slots, rows, used) if len(used) > 1 else self.slots[0]
        return self._selection

    @classmethod
    def merge(cls, caches: Sequence[AdapterRows]) -> AdapterRows:
        return cls([slot for cache in caches for slot in cache.slots])

    def extend(self, other: AdapterRows) -> None:
        self.slots += other.slots
        self._selection = None

    def filter(self, keep: Sequence[int]) -> None:
        self.slots = [self.slots[row] for row in keep]
        self._selection = None

    def extract(self, row: int) -> AdapterRows:
        return AdapterRows([self.slots[row]])

    def __deepcopy__(self, memo: dict[int, Any]) -> AdapterRows:
        return AdapterRows(self.slots)

    def prepare(self, **padding: object) -> None:
        """Padding does not change slots."""

    def finalize(self) -> None:
        """Nor does the end of padding."""

    def size(self) -> int:
        return 0

    def empty(self) -> bool:
        return not self.slots

    @property
    def state(self) -> list[mx.array]:
        return []

    @property
    def nbytes(self) -> int:
        return 0


class Routing:
    """What the adapted layers read while one forward pass is being built."""

    selection: int | Mixed = BASE


class RoutedModel:
    """The model as the batch generator sees it: strips AdapterRows off and routes by them.

    Logits come out in float32: a bfloat16 log-probability has three digits, and the host reads
    chosen ones straight from memory, which Python can do for float32 only.
    """

    def __init__(self, model: Module, routing: Routing) -> None:
        self._model = model
        self._routing = routing

    def __call__(
        self,
        inputs: mx.array,
        cache: list[Any],
        wanted: Callable[[mx.array], mx.array] | None = None,
    ) -> mx.array:
        """Logits after each token, or with `wanted`, where the model `is_headed`, after those tokens that
        it chooses: the head is the largest of the layers."""
        self._routing.selection = cache[-1].selection
        share_cores(inputs.shape[1])
        try:
            if wanted is None:
                logits: mx.array = self._model(inputs, cache=cache[:-1])
            else:
                states = self._model.model(inputs, cache[:-1])
                logits = logits_of(self._model, wanted(states))
            return logits.astype(mx.float32)
        finally:
            self._routing.selection = BASE

    @property
    def is_headed(self) -> bool:
        """Whether logits are what the head makes of the body's states, and nothing else."""
        return getattr(self._model, "model_type", None) in HEADED


class AdaptedLinear(nn.Module):  # type: ignore[misc]
    """A linear layer with a stack of low-rank updates.

    `a` is [slots, rank, inputs] and `b` [slots, rank, outputs] with each adapter's scale folded
    in; adapters of smaller rank are padded with zeros. So a token reads either of them in the order
    in which it lies in memory. With the inputs in the rows of `a` instead, Metal's and CUDA's
    kernels for one vector would use a quarter of their threads or not be taken at all, and 8
    rows over 4 adapters took 1.6 times as long on a CPU (2026-11).
    """

    def __init__(self, linear: Module, routing: Routing) -> None:
        super().__init__()
        self.linear = linear
        self._routing = routing
        self._used: dict[int, tuple[mx.array, mx.array]] = {}  # each adapter's own factors
        inputs, outputs = _dimensions(linear)
        self._dtype = _compute_type(linear)
        # MLX gathers on the CPU in float32 only.
        dtype = mx.float32 if mx.default_device() == mx.cpu else self._dtype
        self.a = mx.zeros((1, 1, inputs), dtype)
        self.b = mx.zeros((1, 1, outputs), dtype)
        self._inward = self.a.swapaxes(1, 2)

    def __call__(self, x: mx.array) -> mx.array:
        y: mx.array = self.linear(x)
        selection = self._routing.selection
        if isinstance(selection, Mixed):
            if selection.used.isdisjoint(self._used):
                return y
            # Indexing would copy the factors once per row; a gathered product does not, and cost
            # a third of it for 8 rows over 3 adapters on a CPU. Without `lhs_indices` each would
            # number the rows itself, which is a kernel more.
            rows, slots = selection.rows, selection.slots
            inner = mx.gather_mm(x, self._inward, lhs_indices=rows, rhs_indices=slots)
            update = mx.gather_mm(inner, self.b, lhs_indices=rows, rhs_indices=slots)
            return y + update.astype(y.dtype)
        # One adapter for all rows: two plain products, the second of which also adds.
        factors = self._used.get(selection)
        return y if factors is None else mx.addmm(y, x @ factors[0], factors[1])

    def reserve(self, slots: int, rank: int = 1) -> None:
        """Make room. Every layer needs every slot: a gather checks no bounds."""
        slots = max(slots, self.a.shape[0])
        rank = max(rank, self.a.shape[1])
        self.a = _padded(self.a, (slots, rank, self.a.shape[2]))
        self.b = _padded(self.b, (slots, rank, self.b.shape[2]))
        self._inward = self.a.swapaxes(1, 2)

    def put(self, slot: int, a: mx.array, b: mx.array) -> None:
        """Fill a slot with A [inputs, rank] and B [rank, outputs]. New arrays replace the old, which a
        step under way may still read."""
        self.reserve(slot + 1, a.shape[1])
        # Rounded alike in both places: a row is answered the same alone and among others.
        a, b = mx.contiguous(a.T).astype(self._dtype), mx.contiguous(b).astype(self._dtype)
        self.a[slot] = _padded(a.astype(self.a.dtype), self.a.shape[1:])
        self.b[slot] = _padded(b.astype(self.b.dtype), self.b.shape[1:])
        self._inward = self.a.swapaxes(1, 2)
        self._used[slot] = (a.T, b)

    def clear(self, slot: int) -> None:
        if slot in self._used:
            del self._used[slot]
            self.a[slot] = mx.zeros(self.a.shape[1:], self.a.dtype)
            self.b[slot] = mx.zeros(self.b.shape[1:], self.b.dtype)
            self._inward = self.a.swapaxes(1, 2)

    @property
    def arrays(self) -> list[Any]:
        return [self.a, self.b, self._inward, *self._used.values()]


class AdapterBank:
    """The adapters of one model: which folder has which slot, and the layers they touch."""

    def __init__(self, model: Module) -> None:
        self.routing = Routing()
        self._model = model
        self._slots: dict[Path, int] = {}
        self._identities: dict[int, bytes] = {BASE: bytes(32)}
        self._layers: dict[str, AdaptedLinear] = {}

    def add(self, path: Path) -> int:
        """The slot of the mlx-lm adapter folder `path`, read on first use.

        Raises UnsupportedModel if the folder is not a LoRA adapter for this base.
        """
        if (slot := self._slots.get(path)) is not None:
            return slot
        factors = _read_factors(path)
        modules = dict(self._model.named_modules())
        linears = {name: self._linear(name, modules, path) for name in factors}
        for name, (a, b) in factors.items():
            _check_shapes(name, linears[name], a, b, path)
        slot = next(n for n in range(1, len(self._slots) + 2) if n not in self._slots.values())
        for name, (a, b) in factors.items():
            self._layer(name, linears[name]).put(slot, a, b)
        self._slots[path] = slot
        self._identities[slot] = identity(path)
        for layer in self._layers.values():
            layer.reserve(1 + max(self._slots.values()))
        mx.eval([layer.arrays for layer in self._layers.values()])
        return slot

    def identity(self, slot: int) -> bytes:
        """32 bytes that identify the adapter's content."""
        return self._identities[slot]

    def remove(self, path: Path) -> None:
        """Free the slot of `path`. The caller makes sure that no row uses it."""
        slot = self._slots.pop(path, None)
        if slot is None:
            return
        for layer in self._layers.values():
            layer.clear(slot)
        mx.eval([layer.arrays for layer in self._layers.values()])

    @property
    def nbytes(self) -> int:
        return sum(layer.a.nbytes + layer.b.nbytes for layer in self._layers.values())

    def _linear(self, name: str, modules: dict[str, Module], path: Path) -> Module:
        """The plain linear layer called `name`. Raises UnsupportedModel."""
        if name in self._layers:
            return self._layers[name].linear
        module = modules.get(name)
        if not isinstance(module, (nn.Linear, nn.QuantizedLinear)):
            raise UnsupportedModel(
                f"The adapter {path.name} adapts {name}, which is not a linear layer of this base "
                "model; use the base it was trained on."
            )
        return module

    def _layer(self, name: str, linear: Module) -> AdaptedLinear:
        """The adapted layer at `name`, put into the model on first use."""
        if name not in self._layers:
            layer = AdaptedLinear(linear, self.routing)
            layer.eval()
            self._model.update_modules(utils.tree_unflatten([(name, layer)]))
            self._layers[name] = layer
        return self._layers[name]


def _read_factors(path: Path) -> dict[str, tuple[mx.array, mx.array]]:
    """By layer name, A [inputs, rank] and scaled B [rank, outputs]. Raises UnsupportedModel."""
    scale = _read_scale(path)
    try:
        weights: Any = mx.load(str(path / "adapters.safetensors"))
    except (RuntimeError, OSError, ValueError) as error:
        raise UnsupportedModel(
            f"The adapter {path.name} cannot be read: adapters.safetensors is missing or damaged."
        ) from error
    names = sorted({name.rpartition(".")[0] for name in weights})
    expected = {f"{name}.{factor}" for name in names for factor in ("lora_a", "lora_b")}
    if not names or expected != set(weights):
        raise UnsupportedModel(
            f"The adapter {path.name} holds tensors other than pairs of lora_a and lora_b."
        )
    return {n: (weights[f"{n}.lora_a"], scale * weights[f"{n}.lora_b"]) for n in names}


def _read_scale(path: Path) -> float:
    """The adapter's scale, from its adapter_config.json. Raises UnsupportedModel."""
    try:
        config = json.loads((path / "adapter_config.json").read_text())
        kind = config.get("fine_tune_type", "lora")
        if kind == "lora":
            return float(config["lora_parameters"]["scale"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UnsupportedModel(
            f"The adapter {path.name} has no readable adapter_config.json with a LoRA scale."
        ) from error
    raise UnsupportedModel(
        f"The adapter {path.name} is of type {kind!r}; only 'lora' adapters can be served."
    )


def _check_shapes(name: str, linear: Module, a: mx.array, b: mx.array, path: Path) -> None:
    inputs, outputs = _dimensions(linear)
    rank = a.shape[-1]
    if a.shape != (inputs, rank) or b.shape != (rank, outputs):
        raise UnsupportedModel(
            f"The adapter {path.name} has factors {tuple(a.shape)} and {tuple(b.shape)} for "
            f"{name}, which maps {inputs} to {outputs}; use the base it was trained on."
        )


def _dimensions(linear: Module) -> tuple[int, int]:
    """Inputs and outputs of a plain or quantized linear layer."""
    outputs, inputs = linear.weight.shape
    if isinstance(linear, nn.QuantizedLinear):
        inputs = inputs * 32 // linear.bits
    return inputs, outputs


def _compute_type(linear: Module) -> mx.Dtype:
    """The type of activations around this layer."""
    weight = linear.scales if isinstance(linear, nn.QuantizedLinear) else linear.weight
    dtype: mx.Dtype = weight.dtype
    # mxfp4 and similar types keep their scales in bytes; their models compute in bfloat16.
    return dtype if mx.issubdtype(dtype, mx.floating) else mx.bfloat16


def _padded(array: mx.array, shape: Sequence[int]) -> mx.array:
    """`array` with zeros appended on each axis up to `shape`."""
    return mx.pad(array, [(0, want - have) for have, want in zip(array.shape, shape, strict=True)])


def nbytes(model: Module) -> int:
    """Bytes of all arrays below `model`, adapters included."""
    return sum(int(array.nbytes) for _, array in utils.tree_flatten(model.parameters()))
