"""Models that write nothing: those that make vectors, encoders or causal ones made for it, and encoders
that rank texts."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

from mlx.utils import tree_flatten
from mlx_lm.utils import _get_classes, load_model
from tokenizers import Tokenizer

from backends.base import (
    ENCODERS,
    RERANKS,
    BackendError,
    Context,
    Delta,
    Embedder,
    Guesses,
    Memory,
    Pair,
    PromptTooLong,
    Question,
    UnsupportedModel,
    first_line,
)
from backends.base.failures import readable_errors
from backends.mlx.embedding import bert
from backends.mlx.embedding.passes import Passes, size
from backends.mlx.embedding.vectors import Reader, causal, embed, encoder, ranked
from backends.mlx.files.folder import describe
from backends.mlx.files.weight_files import read_header
from backends.mlx.threads import clear_streams_at_end

_MEMORY = "The device is out of memory; unload another model or use a smaller one."


def load_embedder(folder: Path) -> EmbeddingModel:
    """The embedding model in `folder`. Raises UnsupportedModel, OutOfMemory."""
    clear_streams_at_end()
    described = describe(folder)  # refuses code and pickles
    how = Embedder.of(folder, described.architecture) or Embedder()
    encodes = described.architecture in ENCODERS
    with readable_errors(_MEMORY), _told(folder.name):
        model, config = _open(folder, encodes, how)
        read = encoder(model) if encodes else causal(model, folder.name)
        tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        # Sentence transformers leave what they cut and filled up last in this file.
        tokenizer.no_truncation()
        tokenizer.no_padding()
        kind = Reranker if how.pooling == RERANKS else EmbeddingModel
        loaded = kind(folder.name, model, read, tokenizer, how, config)
        loaded.context_length = described.context_length
        loaded.try_once()
    return loaded


def _open(folder: Path, encodes: bool, how: Embedder) -> tuple[Any, dict[str, Any]]:
    if encodes:
        return load_model(
            folder,
            model_config={"scores": how.pooling == RERANKS},
            get_model_classes=lambda config: (bert.Model, bert.ModelArgs),
        )
    names = [name for file in folder.glob("model*.safetensors") for name in read_header(file)]
    headed = any(name.startswith("lm_head.") for name in names)
    tied = {} if headed else {"tie_word_embeddings": True}
    return load_model(folder, model_config=tied, get_model_classes=_without_head)


@contextmanager
def _told(name: str) -> Generator[None]:
    """What a config that does not fit its weights raises, as a sentence."""
    try:
        yield
    except (ArithmeticError, AttributeError, LookupError, OSError, TypeError, ValueError) as error:
        raise UnsupportedModel(
            f"The model {name} could not be loaded: {first_line(error)}"
        ) from error


def _without_head(config: dict[str, Any]) -> tuple[Any, Any]:
    """As mlx-lm has it, for weights as sentence-transformers saves them: of the body alone."""
    kind, arguments = _get_classes(config)

    class Bare(kind):  # type: ignore[misc, valid-type]
        def sanitize(self, weights: dict[str, Any]) -> dict[str, Any]:
            if not any(name.startswith(("model.", "lm_head.")) for name in weights):
                weights = {f"model.{name}": weight for name, weight in weights.items()}
            known: Any = getattr(super(), "sanitize", lambda weights: weights)
            return dict(known(weights))

    return Bare, arguments


class EmbeddingModel:
    """See `backends.base.LoadedModel`; all that it cannot do raises BackendError."""

    context_length = 0
    cache_bytes = 0
    guesses = Guesses()

    def __init__(
        self,
        name: str,
        model: Any,
        read: Reader,
        tokenizer: Tokenizer,
        how: Embedder,
        config: dict[str, Any],
    ) -> None:
        self.name = name
        self._model = model
        self._read = read
        self._tokenizer = tokenizer
        self._how = how
        self._passes = Passes.of(model, config, encodes=config["model_type"] in ENCODERS)
        self._vocabulary = size({**config, **(config.get("text_config") or {})}, "vocab_size")

    @property
    def memory(self) -> Memory:
        leaves: Any = tree_flatten(self._model.parameters())
        return Memory(sum(int(leaf.nbytes) for _, leaf in leaves), 0, 0, 0)

    @property
    def nbytes(self) -> int:
        return self.memory.total

    def encode_text(self, text: str) -> list[int]:
        return [int(token) for token in self._tokenizer.encode(text).ids]

    def decode(self, tokens: Sequence[int]) -> str:
        return str(self._tokenizer.decode(list(tokens)))

    def embed(self, prompts: Sequence[Sequence[int]], adapter: Path | None) -> list[list[float]]:
        read = [list(prompt) or [0] for prompt in prompts]
        self._check(read, "A text has", "embed its parts")
        with readable_errors(_MEMORY):
            return embed(self._read, read, self._how)

    def needed_to_embed(self, prompts: Sequence[Sequence[int]]) -> int:
        return self._passes.to_embed(prompts)

    def try_once(self) -> None:
        """Raises what a model of these weights raises that cannot be computed."""
        self.embed([[0]], None)

    def _check(self, prompts: Sequence[Sequence[int]], has: str, todo: str) -> None:
        for prompt in prompts:
            if len(prompt) > self.context_length > 0:
                raise PromptTooLong(
                    f"{has} {len(prompt)} tokens and {self.name} reads {self.context_length}; {todo}."
                )
            if max(prompt) >= self._vocabulary:
                raise BackendError(f"{self.name} has no token {max(prompt)}; import it again.")

    def _refuse(self, *given: Any, **more: Any) -> NoReturn:
        raise BackendError(
            f"{self.name} is an embedding model: it makes vectors and cannot be chatted with or adapted."
        )

    encode = thought_marks = parse_tool_calls = call_reader = _refuse
    tool_grammar = strict_grammar = _refuse
    likelihoods = needed_for_answers = prompt_logprobs = add_adapter = insert = _refuse

    def encode_pair(self, question: Question, text: str) -> Pair:
        raise BackendError(
            f"{self.name} makes vectors of single texts and ranks none; choose a reranker, or compare the "
            "texts' vectors with the query's."
        )

    def relevances(self, pairs: Sequence[Pair], adapter: Path | None) -> list[float]:
        self._refuse()

    def needed_to_rank(self, pairs: Sequence[Pair]) -> int:
        self._refuse()

    def close(self) -> None:
        del self._model, self._read

    def shrink_cache(self, most_bytes: int) -> None:
        """It has none."""

    def limit_cache(self, most_bytes: int) -> None:
        """It has none."""

    def settle(self) -> None:
        """There is nothing to prepare."""

    def needed_for(self, contexts: Sequence[Context]) -> int:
        return 0

    def growth(self, tokens: int) -> int:
        return 0

    def step(self) -> list[Delta]:
        return []

    def remove(self, uid: str) -> None:
        """There are no rows."""


class Reranker(EmbeddingModel):
    """The same for a model that ranks texts by a query."""

    def _refuse(self, *given: Any, **more: Any) -> NoReturn:
        raise BackendError(
            f"{self.name} is a reranker: it ranks texts by a query (/v1/rerank) and does nothing else."
        )

    encode = thought_marks = parse_tool_calls = call_reader = _refuse
    tool_grammar = strict_grammar = _refuse
    likelihoods = needed_for_answers = prompt_logprobs = add_adapter = insert = _refuse
    embed = _refuse

    def try_once(self) -> None:
        self.relevances([Pair([0], 1)], None)

    def encode_pair(self, question: Question, text: str) -> Pair:
        """An instruction would be words of the query to it, and is left out."""
        read = self._tokenizer.encode(question.query, text)
        kinds = list(read.type_ids)
        return Pair(
            [int(token) for token in read.ids], kinds.index(1) if 1 in kinds else len(kinds)
        )

    def relevances(self, pairs: Sequence[Pair], adapter: Path | None) -> list[float]:
        prompts = [pair.tokens for pair in pairs]
        self._check(prompts, "The query and a text have", "send a part of the text")
        with readable_errors(_MEMORY):
            return ranked(self._model, pairs)

    def needed_to_rank(self, pairs: Sequence[Pair]) -> int:
        return self._passes.to_embed([pair.tokens for pair in pairs])
