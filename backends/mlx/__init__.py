"""The MLX backend. Importing MLX takes over a second, so each part is imported when it is used."""

from __future__ import annotations

import gc
from collections.abc import Callable, Generator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from backends.base import (
    DeviceInfo,
    Embedder,
    Examination,
    Fidelity,
    ImportedModel,
    LoadedModel,
    LoadOptions,
    Prospect,
    RenderedRow,
    Thoughts,
    TrainingConfig,
    TrainingEvent,
    TrainingRun,
)
from backends.base.failures import readable_errors
from backends.mlx.device import (
    SERVING_CACHE,
    TRAINING_CACHE,
    TRAINING_CACHE_ON_METAL,
    describe_device,
    device_kind,
    free_memory,
    held_memory,
    limit_memory,
    prepare,
    return_large_blocks,
)

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_MEMORY = "The device has too little memory to write this model; unload others first."


class MLXBackend:
    """Computes with MLX: Metal on a Mac, the CPU or CUDA on Linux."""

    name = "mlx"

    def device(self) -> DeviceInfo:
        return describe_device()

    def import_serving(self) -> None:
        prepare()
        gc.disable()  # nothing of what is imported is garbage
        try:
            import backends.mlx.serving.generation  # noqa: F401
        finally:
            gc.freeze()
            gc.enable()

    def import_gguf(self, source: Path, target: Path) -> ImportedModel:
        from backends.mlx.gguf.importer import import_gguf

        with readable_errors(_MEMORY):
            return import_gguf(source, target)

    def inspect(self, folder: Path) -> ImportedModel:
        from backends.mlx.files.folder import inspect

        return inspect(folder)

    def foresee(self, config: Mapping[str, Any]) -> Prospect:
        from backends.mlx.files.folder import foresee

        return foresee(config)

    def foresee_gguf(self, source: Path) -> Prospect:
        from backends.mlx.gguf.importer import foresee_gguf

        return foresee_gguf(source)

    def quantize(self, base: Path, target: Path, bits: int, group_size: int) -> ImportedModel:
        prepare()
        from backends.mlx.files.quantize import quantize

        with readable_errors(_MEMORY):
            return quantize(base, target, bits, group_size)

    def fuse(self, base: Path, adapter: Path, target: Path) -> ImportedModel:
        prepare()
        from backends.mlx.files.fuse import fuse

        with readable_errors(_MEMORY):
            return fuse(base, adapter, target)

    def fidelity(
        self, base: Path, adapter: Path | None, converted: Path, examples: Path, most_tokens: int
    ) -> Fidelity:
        prepare()
        from backends.mlx.evals.fidelity import fidelity

        return fidelity(base, adapter, converted, examples, most_tokens)

    def check_gguf(self, folder: Path) -> None:
        from backends.mlx.gguf.writable import check_gguf

        check_gguf(folder)

    def export_gguf(self, folder: Path, target: Path) -> None:
        prepare()
        from backends.mlx.gguf.export import export_gguf

        with readable_errors(_MEMORY):
            export_gguf(folder, target)

    def measure(self, base: Path, data: Path, max_seq_length: int, target: Path) -> None:
        prepare()
        from backends.mlx.data.rows import measure

        measure(base, data, max_seq_length, target)

    def render(self, base: Path, file: Path, offset: int, max_seq_length: int) -> RenderedRow:
        prepare()
        from backends.mlx.data.rows import render

        return render(base, file, offset, max_seq_length)

    def examine(self, base: Path, data: Path, max_seq_length: int, sample: int) -> Examination:
        prepare()
        from backends.mlx.data.examine import examine

        return examine(base, data, max_seq_length, sample)

    def memory_bytes(self) -> int | None:
        prepare()
        return held_memory()

    def unused_bytes(self) -> int:
        prepare()
        import mlx.core as mx

        return int(mx.get_cache_memory())

    def free_unused(self) -> None:
        prepare()
        free_memory()

    def load(
        self, base: Path, adapter: Path | None = None, options: LoadOptions = LoadOptions()
    ) -> LoadedModel:
        prepare()
        own = options.unused_bytes
        limit_memory(
            SERVING_CACHE if own is None else min(own, SERVING_CACHE), options.budget_bytes
        )
        return_large_blocks()
        from backends.mlx.files.config import find_architecture, read_json

        if Embedder.of(base, find_architecture(read_json(base / "config.json"))):
            from backends.mlx.embedding.model import load_embedder

            return load_embedder(base)
        from backends.mlx.serving.generation import load_model

        return load_model(base, adapter, options)

    def check_template(
        self,
        base: Path,
        data: Path,
        sample: int,
        thoughts: Thoughts = "kept",
        cache: Path | None = None,
    ) -> None:
        prepare()
        from backends.mlx.evals.parity import check_template

        check_template(base, data, sample, thoughts, cache)

    def run_lm_eval(
        self,
        base: Path,
        adapter: Path | None,
        tasks: Sequence[str],
        limit: int,
        tick: Callable[[], None],
    ) -> dict[str, dict[str, float]]:
        prepare()
        from backends.mlx.evals.tasks import run_lm_eval

        return run_lm_eval(base, adapter, tasks, limit, tick)

    def train(self, run: TrainingRun) -> Generator[TrainingEvent, None, None]:
        prepare()
        on_metal = device_kind() == "metal"
        limit_memory(TRAINING_CACHE_ON_METAL if on_metal else TRAINING_CACHE, run.budget_bytes)
        from backends.mlx.training.trainer import train

        return train(run)

    def token_lengths(
        self, base: Path, data: Path, config: TrainingConfig, cache: Path
    ) -> NDArray[np.integer[Any]] | None:
        from backends.mlx.data.cache import token_lengths

        return token_lengths(base, data, config, cache)

    def learned_tokens(
        self, base: Path, data: Path, config: TrainingConfig, cache: Path
    ) -> NDArray[np.integer[Any]] | None:
        from backends.mlx.data.cache import learned_tokens

        return learned_tokens(base, data, config, cache)

    def largest_weights(self, path: Path) -> dict[str, float]:
        prepare()
        from backends.mlx.files.compare import largest_weights

        return largest_weights(path)

    def compare_weights(self, one: Path, other: Path) -> dict[str, float]:
        prepare()
        from backends.mlx.files.compare import compare_weights

        return compare_weights(one, other)
