"""What can go wrong in a backend, in words for a person."""

from __future__ import annotations


class BackendError(Exception):
    """Base of every error a backend raises on purpose; its text is one sentence for a person."""


class UnsupportedModel(BackendError):
    """The file or folder is not a model this backend can read; the text says why."""


class BadExample(BackendError):
    """A training example cannot be used; the text names the split and the line."""


class TrainingDiverged(BackendError):
    """Loss or gradient became NaN or infinite; the text names the iteration and the lines of
    train.jsonl that it learned from."""


class PromptTooLong(BackendError):
    """The prompt does not fit the context window; the text names both lengths."""


class TemplateMismatch(BackendError):
    """Training and the endpoint would read different tokens; the text names the first of them."""


class OutOfMemory(BackendError):
    """The device refused an allocation."""
