"""Where an item works: its folder, the model it uses, and how much it does."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from backends.base import DeviceInfo, LoadedModel, LoadOptions, Message, Sampling
from backends.mlx import MLXBackend

SLOW = "Run it again while the machine does nothing else; send the report if it stays so."
REPORT = "Please send the whole report."
SENTENCE = "The harbour lay still that morning, and nobody had yet opened a shop or a window. "


class CannotTry(Exception):
    """An item cannot be tried here; the text is the true reason, and `todo` what would help."""

    def __init__(self, reason: str, todo: str = "") -> None:
        super().__init__(reason)
        self.todo = todo


@dataclass(frozen=True)
class Bench:
    """`folder` is the run's own and goes with it. With `quick` every item runs with a tiny random
    model and few steps: that it works is seen, and no speed is judged. `say` shows progress."""

    folder: Path
    quick: bool
    say: Callable[[str], None] = lambda text: None

    @cached_property
    def backend(self) -> MLXBackend:
        return MLXBackend()

    @cached_property
    def device(self) -> DeviceInfo:
        return self.backend.device()

    @cached_property
    def kind(self) -> str:
        """ "cpu", "metal" or "cuda": what computes, even where another device is assumed."""
        from backends.mlx.selftest.rates import computing_kind

        return computing_kind()

    @property
    def base(self) -> Path:
        """The model that most items use. Raises CannotTry when its own item did not make it."""
        path = self.folder / "base"
        if not (path / "config.json").is_file():
            raise CannotTry("The model it needs could not be made; see the item `bundled_model`.")
        return path

    @cached_property
    def config(self) -> dict[str, Any]:
        """config.json of `base`."""
        return dict(json.loads((self.base / "config.json").read_text()))

    @property
    def quantized(self) -> bool:
        return "quantization" in self.config

    @property
    def exact(self) -> bool:
        """Whether the model computes in 32 bits, where a batch hardly moves a logit."""
        return not self.quantized and self.config.get("torch_dtype", "float32") == "float32"

    def few(self, full: int, quick: int) -> int:
        """How many of something: `full`, or `quick` of them in a quick run."""
        return quick if self.quick else full

    def scratch(self, name: str) -> Path:
        """A new folder for what an item writes."""
        path = self.folder / name
        path.mkdir(parents=True)
        return path

    def load(self, folder: Path | None = None, cache_bytes: int = 0) -> LoadedModel:
        return self.backend.load(folder or self.base, None, LoadOptions(cache_bytes=cache_bytes))

    def prompt(self, model: LoadedModel, number: int, tokens: int) -> list[int]:
        """`tokens` tokens that share no beginning with those of another `number`."""
        text = model.encode_text(f"{number} is my number. " + SENTENCE * (1 + tokens // 8))
        return (text * (1 + tokens // len(text)))[:tokens]


def chat(text: str) -> list[Message]:
    return [Message(role="user", content=text)]


def greedy(tokens: int, **settings: Any) -> Sampling:
    """Exactly the likeliest tokens, with their log-probabilities and the runner-up's."""
    return Sampling(max_tokens=tokens, **settings)
