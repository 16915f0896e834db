"""The memory a job will need, corrected by what similar earlier jobs needed, and what reduces it."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from django.conf import settings

from backends import devices, get_backend
from backends.base import TrainingConfig
from registry.bases import registration
from registry.datasets import snapshots
from registry.datasets.examination import find_report
from registry.late import Late
from registry.models import BaseModel, Dataset
from registry.storage import paths
from registry.storage.sizes import human
from training.memory import compiled, estimate, packing
from training.memory.estimate import Base, Dimensions, Memory
from training.models import TrainingJob

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
else:
    np = Late("numpy")

LEARN_FROM = 20  # newest runs of a family
_TRUSTED = (0.2, 5.0)  # a ratio outside this range is a bad measurement
_CHARACTERS_PER_TOKEN = 3  # on the safe side: English has about four


@dataclass(frozen=True)
class Estimate:
    """What a run is expected to need. `parts` are before the correction, which is the median of
    measured / estimated peak over `runs` earlier jobs of the same family."""

    parts: Memory
    correction: float
    runs: int
    family: str
    error: float | None  # typical: median distance of those runs from their corrected estimates

    @property
    def nbytes(self) -> int:
        return int(self.parts.total * self.correction)

    @property
    def columns(self) -> dict[str, Any]:
        """The columns of a job's row."""
        parts = {**asdict(self.parts), "correction": self.correction, "runs": self.runs}
        return {
            "memory_estimate_bytes": self.nbytes,
            "memory_parts": {**parts, "error": self.error},
            "memory_family": self.family,
        }


@dataclass(frozen=True)
class Change:
    """A way to need less memory: the changed settings, and the bytes needed with them."""

    settings: dict[str, Any]
    nbytes: int

    def __str__(self) -> str:
        names = " and ".join(
            name if value is True else f"{name} {value}"
            for name, value in self.settings.items()
            if name
            != "grad_accumulation_steps"  # follows from batch_size and does not affect memory
        )
        return f"{names} ({human(self.nbytes)})"


class Estimator:
    """Estimates for one base model and data set, whose properties are read once. Of examples that are
    no data set yet, `characters` of the longest one are known at most.

    Raises OSError or ValueError when the base model's folder cannot be read.
    """

    def __init__(self, base: BaseModel, dataset: Dataset | None, characters: int = 0) -> None:
        size = Dimensions.read(registration.base_path(base))
        self._architecture = base.architecture or "unknown"
        self.base = Base.of(
            size, base.size_bytes, registration.precision_of(base), self._architecture
        )
        self._report = _reported(base, dataset) if dataset else {}
        self._longest = (
            _longest_tokens(self._report, dataset) if dataset else _tokens_of(characters)
        )
        self._places = (
            (registration.base_path(base), snapshots.dataset_path(dataset)) if dataset else None
        )
        self._tokens = paths.tokens_dir(dataset.checksum) if dataset else None

    @classmethod
    def foreseeing(cls, base: Base, architecture: str) -> Estimator:
        """For a base model that is not here yet, and examples as long as they may be."""
        self = cls.__new__(cls)
        self._architecture, self.base = architecture or "unknown", base
        self._report, self._longest, self._places, self._tokens = {}, None, None, None
        return self

    def __call__(self, config: TrainingConfig) -> Estimate:
        kind = f"{self._architecture}/{config.fine_tune_type}/{_device()}"
        family = f"{kind}/{estimate.FORMULA}"
        correction, runs, error = _learned(family)
        return Estimate(self._parts(config), correction, runs, family, error)

    def _parts(self, config: TrainingConfig) -> Memory:
        lengths = self._lengths(config)
        longest = self._longest if lengths is None else int(lengths[-1])
        return estimate.memory(
            self.base, config, longest, lengths, self._learned_tokens(config, lengths)
        )

    def packing(self, config: TrainingConfig) -> str:
        """Whether packed or padded rows are faster, as a sentence; empty where it is not known."""
        lengths = self._lengths(config)
        if config.objective != "sft" or lengths is None:
            return ""
        return packing.sentence(packing.gain(self.base, config, lengths), config)

    def _lengths(self, config: TrainingConfig) -> NDArray[np.integer[Any]] | None:
        """Of an earlier run on the same tokens, else about those of the doctor."""
        if self._places is None or self._tokens is None:
            return None
        found = get_backend(settings.BACKEND).token_lengths(*self._places, config, self._tokens)
        if found is not None and len(found):
            return found
        bars = self._report.get("train", {}).get("histogram", [])
        middles = [(bar["from"] + bar["to"]) // 2 for bar in bars]
        if not middles:
            return None
        guessed = np.repeat(middles, [bar["count"] for bar in bars])
        guessed[-1:] = self._longest
        return guessed

    def _learned_tokens(
        self, config: TrainingConfig, lengths: NDArray[np.integer[Any]] | None
    ) -> NDArray[np.integer[Any]] | None:
        """Of examples with these `lengths`, by an earlier run, else about the doctor's share of all."""
        if lengths is None or self._places is None or self._tokens is None:
            return None
        backend = get_backend(settings.BACKEND)
        found = backend.learned_tokens(*self._places, config, self._tokens)
        if found is not None and len(found) == len(lengths):
            return found
        train = self._report.get("train", {})
        if config.learn == "everything" or not (train.get("trained") and train.get("tokens")):
            return None
        share = min(1.0, train["trained"] / train["tokens"])
        taught: NDArray[np.int64] = np.ceil(lengths * share * compiled.rows(config)).astype(
            np.int64
        )
        return taught

    def changes(self, config: TrainingConfig, room: int) -> list[Change]:
        """The smallest changes that fit into `room` bytes: the largest batch that fits, and gradient
        checkpointing; if neither is enough, both together; if not, shorter examples as well."""
        correction = self(config).correction

        def first_fit(ways: Iterable[dict[str, Any]]) -> Iterator[Change]:
            for changes in ways:
                needed = int(self._parts(config.model_copy(update=changes)).total * correction)
                if needed <= room:
                    yield Change(changes, needed)
                    return

        batches = list(_smaller_batches(config))
        checkpointed = [] if config.grad_checkpoint else [{"grad_checkpoint": True}]
        found = [*first_fit(batches), *first_fit(checkpointed)]
        if not found and batches and checkpointed:
            found = [*first_fit(batch | checkpointed[0] for batch in batches)]
        if not found:
            smallest = {
                k: v for way in (batches[-1:], checkpointed) for w in way for k, v in w.items()
            }
            found = [*first_fit(smallest | shorter for shorter in _shorter(config))]
        return found

    def advice(self, config: TrainingConfig, room: int) -> str:
        """The smallest changes that would fit, as a sentence."""
        changes = self.changes(config, room)
        if not changes:
            return (
                "No smaller batch or sequence length fits; use a smaller or quantized base model."
            )
        return f"{' or '.join(map(str, changes))} would fit."


def budget_bytes() -> int:
    """Bytes that MLX may hold in all processes together."""
    return int(settings.MEMORY_BUDGET_BYTES)


def _smaller_batches(config: TrainingConfig) -> Iterator[dict[str, Any]]:
    """Half, a quarter, … with more batches per step, so that examples per step stay the same."""
    size = config.batch_size // 2
    while size >= 1:
        steps = -(-config.batch_size * config.grad_accumulation_steps // size)
        yield {"batch_size": size, "grad_accumulation_steps": steps}
        size //= 2


def _shorter(config: TrainingConfig) -> Iterator[dict[str, Any]]:
    length = config.max_seq_length // 2
    while length >= 64:
        yield {"max_seq_length": length}
        length //= 2


def _learned(family: str) -> tuple[float, int, float | None]:
    """The correction, the number of runs behind it, and its typical relative error."""
    done = TrainingJob.objects.filter(
        memory_family=family,
        status=TrainingJob.Status.COMPLETED,
        peak_memory_bytes__gt=0,
    ).order_by("-completed_at")
    ratios = []
    for peak, parts in done.values_list("peak_memory_bytes", "memory_parts")[:LEARN_FROM]:
        total = sum(parts.get(part, 0) for part in Memory.__dataclass_fields__)
        if total and _TRUSTED[0] <= peak / total <= _TRUSTED[1]:
            ratios.append(peak / total)
    if not ratios:
        return 1.0, 0, None
    correction = statistics.median(ratios)
    error = statistics.median(abs(ratio / correction - 1) for ratio in ratios)
    return correction, len(ratios), error


def _reported(base: BaseModel, dataset: Dataset) -> dict[str, Any]:
    """What the doctor found of each split's tokens."""
    report = find_report(dataset, base)
    return dict(report.report.get("tokens", {})) if report else {}


def _longest_tokens(report: dict[str, Any], dataset: Dataset) -> int | None:
    """From the data set's examination if there is one, else estimated from characters."""
    counted = [int(split.get("longest", 0)) for split in report.values()]
    if any(counted):
        return max(counted)
    return _tokens_of(int(dataset.token_stats.get("longest_characters") or 0))


def _tokens_of(characters: int) -> int | None:
    return max(1, characters // _CHARACTERS_PER_TOKEN) if characters else None


def _device() -> str:
    """The kind of machine, as far as it is known without loading MLX into this process."""
    backend = str(settings.BACKEND)
    return backend if backend == "fake" else f"{backend}-{devices.expected()}"
