"""The protocol that `backends/mlx` and `backends/fake` implement."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from backends.base.examining import Examination, RenderedRow
from backends.base.generation import LoadedModel, LoadOptions
from backends.base.models import DeviceInfo, Fidelity, ImportedModel, Prospect
from backends.base.training import Thoughts, TrainingConfig, TrainingEvent, TrainingRun

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


@runtime_checkable
class Backend(Protocol):
    """A way to compute. Constructing one is cheap; heavy imports happen in the methods."""

    name: str

    def device(self) -> DeviceInfo: ...

    def import_serving(self) -> None:
        """Import what `load` needs, which takes seconds, before anybody waits for it."""
        ...

    def import_gguf(self, source: Path, target: Path) -> ImportedModel:
        """Write the GGUF file `source` into the empty folder `target` as an MLX model folder,
        in the type that is fast on this device. Raises UnsupportedModel."""
        ...

    def inspect(self, folder: Path) -> ImportedModel:
        """Describe an MLX model folder without loading its weights. Raises UnsupportedModel."""
        ...

    def foresee(self, config: Mapping[str, Any]) -> Prospect:
        """Describe a model by its config.json alone. Raises UnsupportedModel when it cannot be used
        here."""
        ...

    def foresee_gguf(self, source: Path) -> Prospect:
        """Describe what importing a GGUF file would give, by its header. Raises UnsupportedModel."""
        ...

    def quantize(self, base: Path, target: Path, bits: int, group_size: int) -> ImportedModel:
        """Write `base` quantized into the empty folder `target`. Raises UnsupportedModel."""
        ...

    def fuse(self, base: Path, adapter: Path, target: Path) -> ImportedModel:
        """Write `base` with `adapter` added to its weights into the empty folder `target`; a
        quantized base stays quantized. Raises UnsupportedModel."""
        ...

    def fidelity(
        self, base: Path, adapter: Path | None, converted: Path, examples: Path, most_tokens: int
    ) -> Fidelity:
        """Compare `base` with `adapter` (None: alone) to the folder `converted` on the first
        examples of the JSONL file `examples`, up to `most_tokens` judged tokens.

        Raises BadExample, UnsupportedModel, OutOfMemory.
        """
        ...

    def check_gguf(self, folder: Path) -> None:
        """Check whether `export_gguf` would refuse the model folder, without reading weights.
        Raises UnsupportedModel with the reason."""
        ...

    def export_gguf(self, folder: Path, target: Path) -> None:
        """Write the model folder as the GGUF file `target`, 16 bits a weight. Raises
        UnsupportedModel, with the reason, for models that GGUF or its writer cannot hold."""
        ...

    def examine(self, base: Path, data: Path, max_seq_length: int, sample: int) -> Examination:
        """Tokenize at most `sample` examples (0: all) of each split in the folder `data` as
        training on `base` would with the default of `learn`. Raises UnsupportedModel."""
        ...

    def measure(self, base: Path, data: Path, max_seq_length: int, target: Path) -> None:
        """Write the `MEASURED` record of every line of each split in the folder `data` to
        `SPLIT.measured` in the folder `target`, tokenized as `examine` does. Raises
        UnsupportedModel."""
        ...

    def render(self, base: Path, file: Path, offset: int, max_seq_length: int) -> RenderedRow:
        """The row of a split's file that begins at byte `offset`, token for token. Raises
        BadExample, UnsupportedModel."""
        ...

    def memory_bytes(self) -> int | None:
        """Bytes that this process holds on the device now, for all of its arrays and for those to come
        (buffers that were freed and are kept); None where that is not known. May be called from any
        thread."""
        ...

    def unused_bytes(self) -> int:
        """The part of them that is kept for arrays to come."""
        ...

    def free_unused(self) -> None:
        """Give the buffers that are kept for arrays to come back to the system."""
        ...

    def load(
        self, base: Path, adapter: Path | None = None, options: LoadOptions = LoadOptions()
    ) -> LoadedModel:
        """Load a model folder for generation, and warm it up. With `adapter` (of any type: DoRA and
        full ones cannot share a base) the model is that fine-tune, also for rows without one.

        Raises UnsupportedModel, OutOfMemory.
        """
        ...

    def check_template(
        self,
        base: Path,
        data: Path,
        sample: int,
        thoughts: Thoughts = "kept",
        cache: Path | None = None,
    ) -> None:
        """Compare how training and a served model render at most `sample` examples of each split of
        the folder `data`, with their thoughts as configured; loads no weights. That it passed is kept
        in the folder `cache`, where it is given, and not checked again until something of it is other.

        Raises TemplateMismatch, UnsupportedModel. A hostile template may loop forever: call it in
        a process that can be killed.
        """
        ...

    def run_lm_eval(
        self,
        base: Path,
        adapter: Path | None,
        tasks: Sequence[str],
        limit: int,
        tick: Callable[[], None],
    ) -> dict[str, dict[str, float]]:
        """Metrics by task of lm-eval, over at most `limit` examples each. `tick` is called at every
        step of the model; what it raises ends the run and passes through.

        Raises BackendError when a task is unknown or its data cannot be fetched.
        """
        ...

    def train(self, run: TrainingRun) -> Generator[TrainingEvent, None, None]:
        """Train step by step: the caller drives the generator and stops by closing it.

        The first event is Started, except for those of Tokenizing, the last Finished. Closing it early
        saves a checkpoint of the last step. Raises BadExample, TrainingDiverged (naming the batch's examples),
        UnsupportedModel, OutOfMemory.
        """
        ...

    def token_lengths(
        self, base: Path, data: Path, config: TrainingConfig, cache: Path
    ) -> NDArray[np.integer[Any]] | None:
        """Tokens of each training example, before any cut, in ascending order, as an earlier run on
        the same data found them; None where none has left them in `cache`. Reads little."""
        ...

    def learned_tokens(
        self, base: Path, data: Path, config: TrainingConfig, cache: Path
    ) -> NDArray[np.integer[Any]] | None:
        """How many tokens of each of these examples are learned, of all that a pair has, in the order of
        `token_lengths`."""
        ...

    def compare_weights(self, one: Path, other: Path) -> dict[str, float]:
        """The largest absolute difference of each tensor of two safetensors files, by name; a
        tensor that only one of them has, or of another shape, differs by infinity."""
        ...

    def largest_weights(self, path: Path) -> dict[str, float]:
        """The largest absolute value of each tensor of a safetensors file, by name: the
        scale for the differences of `compare_weights`."""
        ...
