"""What a model could do on this machine, by the sizes in its config.json alone: no weights are needed.

Serving is judged as the engine does when it loads a model, by weights and budget, with room for one
conversation; training by the same estimate, and the same correction by earlier runs, as a job's.
"""

from __future__ import annotations

from dataclasses import dataclass

from backends.base import Prospect, TrainingConfig
from registry.bases import registration
from registry.models import BaseModel
from registry.storage.sizes import human
from training.memory.estimate import Base, Dimensions, memory
from training.memory.measured import Estimator, budget_bytes

_CONVERSATION = 2048  # tokens that must fit beside the weights
_LENGTHS = (32_768, 16_384, 8192, 4096, 2048, 1024, 512, 256)
_LEAST = TrainingConfig(batch_size=1, grad_checkpoint=True)
"""A LoRA of all layers that holds as little as possible at a time."""


@dataclass(frozen=True)
class Here:
    """`tokens` is the longest example that it trains on here, 0 when it does not; `way` is LoRA or
    QLoRA. `why` says what is missing, and what to do."""

    serves: bool
    tokens: int = 0
    way: str = ""
    why: str = ""
    nbytes: int = 0

    @property
    def sentence(self) -> str:
        """In a line, for a person."""
        if not self.serves:
            return self.why
        served = "Serves here"
        if self.tokens:
            return f"{served} · trains with {self.way} up to {self.tokens:,} tokens"
        return f"{served} · {self.why}"

    @property
    def tone(self) -> str:
        return "ok" if self.serves and self.tokens else "warn" if self.serves else "bad"


def prospects(model: Prospect) -> Here:
    """What a model can do here."""
    try:
        size = Dimensions.of(model.config)
    except (TypeError, ValueError, ZeroDivisionError):
        return Here(False, why="The sizes in its config.json are no numbers.")
    nbytes = model.nbytes or _guessed(size, model.quantization)
    needed, budget = nbytes + size.context_bytes(_CONVERSATION), budget_bytes()
    if needed > budget:
        smaller = "" if "-bit" in model.quantization else " Look for a 4-bit version."
        why = f"Too large to serve here: it needs {human(needed)} of {human(budget)}.{smaller}"
        return Here(False, why=why, nbytes=nbytes)
    if model.embeds_only:
        return Here(
            True, why="for embeddings or reranking only, which is not trained", nbytes=nbytes
        )
    way = "QLoRA" if "-bit" in model.quantization else "LoRA"
    base = Base.of(size, nbytes, model.quantization, model.architecture)
    correction = Estimator.foreseeing(base, model.architecture)(_LEAST).correction
    needs = 0
    for length in sorted({min(length, model.context_length) for length in _LENGTHS}, reverse=True):
        config = _LEAST.model_copy(update={"max_seq_length": length})
        needs = int(memory(base, config, None).total * correction)
        if needs <= budget:
            return Here(True, length, way, nbytes=nbytes)
    smaller = "" if way == "QLoRA" else "; a 4-bit version may fit"
    why = f"too large to train: {way} needs {human(needs)} of {human(budget)}{smaller}"
    return Here(True, way=way, why=why, nbytes=nbytes)


def of_base(base: BaseModel) -> Here:
    """What a registered base model can do here."""
    try:
        config = registration.config_of(base)
    except (OSError, ValueError):
        return Here(False, why="Its files cannot be read; import it again.")
    return prospects(
        Prospect(
            config,
            base.architecture,
            registration.precision_of(base),
            base.context_length,
            base.parameters,
            base.size_bytes,
            base.embeds_only,
        )
    )


def _guessed(size: Dimensions, quantization: str) -> int:
    """Bytes of weights that nobody has counted."""
    bits = int(quantization.partition("-bit")[0]) if "-bit" in quantization else 0
    wide = "float32" in quantization
    width = (bits + (1 if wide else 0.5)) / 8 if bits else 4 if wide else 2
    return int(size.weights * width)
