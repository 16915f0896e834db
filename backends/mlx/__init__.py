"""The MLX backend. Its parts are imported on first use: MLX itself costs over a second."""

from __future__ import annotations

from collections.abc import Generator
from pathlib import Path

from backends.base import DeviceInfo, ImportedModel, LoadedModel, TrainingEvent, TrainingRun


class MLXBackend:
    """Computes with MLX: Metal on a Mac, the CPU or CUDA on Linux."""

    name = "mlx"

    def device(self) -> DeviceInfo:
        from backends.mlx.device import device

        return device()

    def import_gguf(self, source: Path, target: Path) -> ImportedModel:
        from backends.mlx.importer import import_gguf

        return import_gguf(source, target)

    def inspect(self, folder: Path) -> ImportedModel:
        from backends.mlx.folder import inspect

        return inspect(folder)

    def load(self, base: Path) -> LoadedModel:
        from backends.mlx.device import limit_cache, prepare

        prepare()
        limit_cache()
        from backends.mlx.generation import load_model

        return load_model(base)

    def train(self, run: TrainingRun) -> Generator[TrainingEvent, None, None]:
        from backends.mlx.device import prepare

        prepare()
        from backends.mlx.trainer import train

        return train(run)
