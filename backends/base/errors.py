"""What can go wrong in a backend."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Self


def first_line(error: BaseException) -> str:
    """What a library says is wrong, without what follows; its type when it says nothing."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]


class BackendError(Exception):
    """Base of every error a backend raises on purpose; its text is one sentence for a person."""


class UnsupportedModel(BackendError):
    """The file or folder is not a model this backend can read; the text says why."""


class BadExample(BackendError):
    """A training example cannot be used; the text names the split and the line."""


class TrainingDiverged(BackendError):
    """Loss or gradient became NaN or infinite; the text names the iteration and the lines of
    train.jsonl that it learned from."""

    @classmethod
    def at(cls, iteration: int, lines: Iterable[int]) -> Self:
        numbers = [str(line) for line in sorted(set(lines))]
        word = "line" if len(numbers) == 1 else "lines"
        more = f" and {len(numbers) - 20} more" if len(numbers) > 20 else ""
        return cls(
            f"Loss or gradient became infinite at iteration {iteration}, on train.jsonl, {word} "
            f"{', '.join(numbers[:20])}{more}; lower the learning rate or look at these examples."
        )


class PromptTooLong(BackendError):
    """The prompt does not fit the context window; the text names both lengths."""


class TemplateMismatch(BackendError):
    """Training and the endpoint would read different tokens; the text names the first of them."""


class OutOfMemory(BackendError):
    """The device refused an allocation."""


class GPUInterrupted(BackendError):
    """The system stopped the GPU's work because it held up the display. Less memory would not help, and
    neither does trying again at once."""
