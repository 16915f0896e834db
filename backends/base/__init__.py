"""What the hub expects of a machine-learning backend: protocols, frozen dataclasses and errors.

It knows neither Django nor MLX. `backends/mlx` and `backends/fake` both implement it, so that
everything above them can be tested without weights.
"""

from backends.base.backend import Backend
from backends.base.errors import (
    BackendError,
    BadExample,
    OutOfMemory,
    PromptTooLong,
    TemplateMismatch,
    TrainingDiverged,
    UnsupportedModel,
    first_line,
)
from backends.base.examining import Examination, Piece, RenderedExample, SplitTokens
from backends.base.generation import (
    Delta,
    FinishReason,
    Grammar,
    LoadedModel,
    LoadOptions,
    Memory,
    Message,
    Sampling,
    TokenLogprob,
    ToolCall,
)
from backends.base.models import DeviceInfo, Fidelity, ImportedModel
from backends.base.training import (
    Checkpointed,
    Evaluated,
    Evaluating,
    Finished,
    Learn,
    LoraConfig,
    Sampled,
    ScoringConfig,
    SpecialTokens,
    Started,
    Stepped,
    TrainingConfig,
    TrainingEvent,
    TrainingRun,
    as_recorded,
    in_new_words,
)

__all__ = [
    "Backend",
    "BackendError",
    "BadExample",
    "Checkpointed",
    "Delta",
    "DeviceInfo",
    "Evaluated",
    "Evaluating",
    "Examination",
    "Fidelity",
    "FinishReason",
    "Finished",
    "Grammar",
    "ImportedModel",
    "Learn",
    "LoadOptions",
    "LoadedModel",
    "LoraConfig",
    "Memory",
    "Message",
    "OutOfMemory",
    "Piece",
    "PromptTooLong",
    "RenderedExample",
    "Sampled",
    "Sampling",
    "ScoringConfig",
    "SpecialTokens",
    "SplitTokens",
    "Started",
    "Stepped",
    "TemplateMismatch",
    "TokenLogprob",
    "ToolCall",
    "TrainingConfig",
    "TrainingDiverged",
    "TrainingEvent",
    "TrainingRun",
    "UnsupportedModel",
    "as_recorded",
    "first_line",
    "in_new_words",
]
