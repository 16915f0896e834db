"""Serving one base model and all its adapters from one running batch.

mlx-lm's BatchGenerator does the continuous batching: each step decodes one token for every
running row and prefills one chunk of the waiting prompts. Around it this module puts chat
templates, adapters, sampling, streamed text and errors that a person understands. It knows
nothing of requests, threads or time.
"""

from __future__ import annotations

import gc
import hashlib
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import mlx.core as mx
import mlx_lm
from mlx_lm.generate import BatchGenerator
from mlx_lm.models.cache import make_prompt_cache
from mlx_lm.utils import maybe_set_recommended_wired_limit

from backends.base import (
    BackendError,
    Delta,
    Grammar,
    LoadedModel,
    LoadOptions,
    Message,
    OutOfMemory,
    Sampling,
    ToolCall,
    UnsupportedModel,
)
from backends.mlx.adapters import BASE, AdapterBank, AdapterRows, RoutedModel, nbytes
from backends.mlx.chat import chat_tokens, first_line, parse_tool_calls, text_tokens, tool_grammar
from backends.mlx.device import device_kind
from backends.mlx.embeddings import embed
from backends.mlx.folder import inspect
from backends.mlx.grammar import Grammars
from backends.mlx.identity import identity
from backends.mlx.penalties import make_processors
from backends.mlx.prefix_cache import PrefixCache
from backends.mlx.prefix_files import PrefixFiles
from backends.mlx.quick import quicken
from backends.mlx.rows import Pieces, Row, vocabulary_size
from backends.mlx.sampling import make_sampler
from backends.mlx.threads import clear_streams_at_end
from backends.prompts import room_after
from backends.text import StopText

# Prompt tokens that one step reads: of one row at most, and of all rows together. Running rows
# wait meanwhile, so a CPU, which reads a few hundred tokens a second, takes small bites; below
# about 128 tokens its matrix products lose speed.
_PREFILL = {"cpu": (128, 512), "metal": (512, 2048), "cuda": (2048, 8192)}
_MAX_PROMPTS = 8  # read together
_DISK_SHARE = 4  # prefixes may take so many times their memory on disk
_MAX_ROWS = 32  # decoded together; further rows wait their turn

_open_models = 0


def load_model(
    base: Path, adapter: Path | None = None, options: LoadOptions = LoadOptions()
) -> LoadedModel:
    """Load the MLX model folder `base` and compile its kernels with a short warm-up.

    An `adapter` of any type becomes part of the model, as mlx-lm applies it. `prepare()` must have
    run. Raises UnsupportedModel, OutOfMemory.
    """
    described = inspect(base)
    clear_streams_at_end()
    with _named_errors():
        try:
            model, tokenizer, *_ = mlx_lm.load(
                str(base),
                adapter_path=str(adapter) if adapter else None,
                tokenizer_config={"trust_remote_code": False},
                trust_remote_code=False,
            )
        except (ValueError, KeyError, TypeError, AttributeError, OSError) as error:
            raise UnsupportedModel(
                f"The model {base.name} could not be loaded: {first_line(error)}"
            ) from error
        if device_kind() == "cpu":
            quicken(model)  # measured: 16 rows of a base, 161 ms a step instead of 209
        folders = [base] if adapter is None else [base, adapter]
        prefixes = _make_prefix_cache(model, folders, options)
        loaded = MLXModel(base.name, model, tokenizer, described.context_length, prefixes)
        loaded.warm_up()
    return loaded


class MLXModel:
    """A model in memory; see `backends.base.LoadedModel`."""

    def __init__(
        self,
        name: str,
        model: Any,
        tokenizer: Any,
        context_length: int,
        prefixes: PrefixCache | None = None,
    ) -> None:
        self.name = name
        self.context_length = context_length
        self._model = model
        self._tokenizer = tokenizer
        self._adapters = AdapterBank(model)
        self._prefixes = prefixes or PrefixCache(model, 0)
        self._vocabulary = vocabulary_size(model)
        self._grammars = Grammars(tokenizer, self._vocabulary)
        self._pieces = Pieces(tokenizer)
        self._weight_bytes = nbytes(model)
        self._rows: dict[int, Row] = {}
        self._numbers: dict[str, int] = {}
        if not all(hasattr(cache, "merge") for cache in make_prompt_cache(model)):
            raise UnsupportedModel(
                f"The model {name} keeps a kind of cache that cannot be batched; "
                "choose another architecture."
            )
        self._chunk, self._chunk_of_all = _PREFILL[device_kind()]
        self._generator: Any = BatchGenerator(
            RoutedModel(model, self._adapters.routing),
            stop_tokens=[[token] for token in sorted(tokenizer.eos_token_ids)],
            completion_batch_size=_MAX_ROWS,
            prefill_batch_size=_MAX_PROMPTS,
            prefill_step_size=self._chunk,
        )
        _count_open(1)

    @property
    def nbytes(self) -> int:
        rows = self._generator.prompt_cache_nbytes
        return int(self._weight_bytes + self._adapters.nbytes + rows + self.cache_bytes)

    def encode(
        self, messages: Sequence[Message], tools: Sequence[dict[str, Any]] | None = None
    ) -> list[int]:
        """Raises BackendError when the model has no chat template or the template refuses."""
        return chat_tokens(self._tokenizer, self.name, messages, tools)

    def encode_text(self, text: str) -> list[int]:
        return text_tokens(self._tokenizer, text)

    def parse_tool_calls(
        self, text: str, tools: Sequence[dict[str, Any]]
    ) -> tuple[str, list[ToolCall]]:
        return parse_tool_calls(self._tokenizer, self.name, text, tools)

    def tool_grammar(self, tools: Sequence[dict[str, Any]]) -> Grammar:
        return tool_grammar(self._tokenizer, self.name, tools)

    def embed(self, prompts: Sequence[Sequence[int]], adapter: Path | None) -> list[list[float]]:
        for prompt in prompts:
            room_after(prompt, self.context_length, self.name)
        with _named_errors(), mx.stream(self._generator.stream):
            self._adapters.routing.selection = (
                BASE if adapter is None else self._adapters.add(adapter)
            )
            try:
                return embed(self._model, self.name, prompts)
            finally:
                self._adapters.routing.selection = BASE

    @property
    def cache_bytes(self) -> int:
        return self._prefixes.nbytes

    def shrink_cache(self, most_bytes: int) -> None:
        self._prefixes.shrink(most_bytes)

    def add_adapter(self, path: Path) -> None:
        """Raises UnsupportedModel when `path` is no LoRA adapter of this base."""
        with _named_errors():
            self._adapters.add(path)

    def remove_adapter(self, path: Path) -> None:
        """Forget an adapter, unless a row still uses it. Unknown paths are ignored."""
        if any(row.adapter == path for row in self._rows.values()):
            raise BackendError(f"The adapter {path.name} is in use; try again when it is idle.")
        self._adapters.remove(path)

    def insert(
        self, uid: str, prompt: Sequence[int], adapter: Path | None, sampling: Sampling
    ) -> int:
        if uid in self._numbers:
            raise BackendError(f"The row {uid} is already running; give every row its own name.")
        room = room_after(prompt, self.context_length, self.name)
        mask = self._grammars.start(sampling.grammar) if sampling.grammar else None
        processors = make_processors(sampling, len(prompt), self._vocabulary)
        if mask:
            processors.append(mask)
        with _named_errors(), mx.stream(self._generator.stream):
            slot = BASE if adapter is None else self._adapters.add(adapter)
            root = self._adapters.identity(slot)
            caches, cached = self._prefixes.restore(root, prompt)
            (number,) = self._generator.insert(
                [list(prompt[cached:])],
                max_tokens=[max(1, min(sampling.max_tokens, room))],
                caches=[[*caches, AdapterRows([slot])]],
                all_tokens=[list(prompt[:cached])],
                samplers=[make_sampler(sampling)],
                logits_processors=[processors],
            )
        self._rows[number] = Row(
            uid=uid,
            number=number,
            adapter=adapter,
            sampling=sampling,
            detokenizer=self._tokenizer.detokenizer,
            pieces=self._pieces,
            root=root,
            mask=mask,
            stop=StopText(sampling.stop),
        )
        self._numbers[uid] = number
        return cached

    def step(self) -> list[Delta]:
        """Raises OutOfMemory."""
        if not self._rows:
            return []
        prompts = sum(not row.started for row in self._rows.values())
        share = self._chunk_of_all // min(max(prompts, 1), _MAX_PROMPTS)
        self._generator.prefill_step_size = min(self._chunk, share)
        with _named_errors():
            _, responses = self._generator.next()
            return [self._advance(self._rows[response.uid], response) for response in responses]

    def _remember(self, row: Row, response: Any) -> None:
        """Share what the row's memory holds: its prompt at its first token, all of it at its end."""
        with mx.stream(self._generator.stream):
            if response.prompt_cache is not None:
                tokens, caches = response.all_tokens, response.prompt_cache
            elif row.stop.stopped or not row.started:
                held = self._generator.extract_cache([row.number])
                caches, tokens = held[row.number]
            else:
                return
            self._prefixes.keep(row.root, tokens, caches[:-1])

    def remove(self, uid: str) -> None:
        number = self._numbers.pop(uid, None)
        if number is None:
            return
        del self._rows[number]
        self._drop(number)

    def close(self) -> None:
        """Streams stay, for other models of this thread; `backends.mlx.threads` ends them."""
        for uid in list(self._numbers):
            self.remove(uid)
        mx.synchronize(self._generator.stream)
        self._generator.close()
        self._prefixes.close()
        _count_open(-1)
        del self._generator, self._adapters, self._prefixes, self._model
        gc.collect()  # a model and its modules refer to each other
        mx.synchronize()
        mx.clear_cache()

    def warm_up(self) -> None:
        """Two short rows of different length touch the kernels of prefill, padding and decoding;
        on Linux MLX compiles them with g++ on a machine's first use, which takes seconds."""
        for uid, length in (("one", 2), ("two", 3)):
            self.insert(uid, [0] * length, None, Sampling(max_tokens=2))
        while self._rows:
            self.step()

    def _advance(self, row: Row, response: Any) -> Delta:
        """What the generator's response adds to the row; forget the row if it ended."""
        delta = row.add(response)
        if self._prefixes.usable:
            self._remember(row, response)
        row.started = True
        if delta.finish_reason is not None:
            if response.finish_reason is None:
                self._drop(row.number)
            del self._rows[row.number], self._numbers[row.uid]
        return delta

    def _drop(self, number: int) -> None:
        with mx.stream(self._generator.stream):
            self._generator.remove([number])


def _make_prefix_cache(model: Any, folders: Sequence[Path], options: LoadOptions) -> PrefixCache:
    if not options.cache_dir or not options.cache_bytes:
        return PrefixCache(model, options.cache_bytes)
    name = hashlib.sha256(b"".join(map(identity, folders))).digest()
    files = PrefixFiles(options.cache_dir, name, _DISK_SHARE * options.cache_bytes)
    return PrefixCache(model, options.cache_bytes, files)


def _count_open(change: int) -> None:
    """Keep Metal's wired limit raised while any model is open.

    A generator that closes puts the limit back to what it was before that generator.
    """
    global _open_models
    _open_models += change
    if change < 0 and _open_models > 0:
        maybe_set_recommended_wired_limit()


@contextmanager
def _named_errors() -> Generator[None]:
    """MLX reports everything as RuntimeError; say which are memory and which a bad file."""
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        text = str(error).lower()
        if isinstance(error, MemoryError) or "alloc" in text or "memory" in text:
            raise OutOfMemory(
                "The device is out of memory; unload another model or use a smaller one."
            ) from error
        raise
