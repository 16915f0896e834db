"""Answers that follow a grammar: before each token, those that would break it are masked."""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Sequence
from typing import Any

import numpy as np
from llguidance import LLMatcher, LLTokenizer, TokenizerWrapper
from tokenizers import Tokenizer
from tokenizers.decoders import ByteLevel

from backends.base import BackendError, Grammar
from backends.mlx.sampling.calling import CallRule, Opening
from backends.mlx.sampling.following import Allowed, Rule
from backends.mlx.sampling.spelling import spell
from backends.mlx.schemas import enforceable

# A confused model may write white space forever, which any schema allows.
JSON_SPACES: Any = {"whitespace_pattern": r"[ \n\r\t]{0,16}"}
# Tokens that llguidance looks through beforehand, 4 MB each for a vocabulary of 49,000. Those of text make
# a mask up to ten times faster; those of white space alone, its first, changed none that was measured.
_SLICES = LLTokenizer.general_slices()[1:]
_FEW = 1024  # allowed tokens, more of which say nothing of what comes: the inside of a text
_ASSUMED = 0.7  # how likely the token that came once comes again
_DOUBTFUL = 0.3
_REMEMBERED = 20  # times
_PLACES = 4096
_NAMES = {
    "json_object": "JSON",
    "json_schema": "The JSON schema",
    "regex": "The regular expression",
    "lark": "The Lark grammar",
}


class Habits:
    """What came last where one grammar allowed the same few tokens: how this model indents JSON, and
    what follows its keys. Shared by all answers with the grammar, so that the second one is guessed."""

    def __init__(self) -> None:
        self._known: dict[int, tuple[int, float, float]] = {}  # token, times right, times tried

    def learn(self, place: int, token: int) -> None:
        usual, right, tried = self._known.get(place, (token, _ASSUMED * 3, 3.0))
        if tried > _REMEMBERED:
            right, tried = right / 2, tried / 2
        if len(self._known) < _PLACES or place in self._known:
            self._known[place] = (token, right + (usual == token), tried + 1)

    def guess(self, place: int) -> tuple[int, float] | None:
        """The token, and how likely it is right."""
        if (known := self._known.get(place)) is None:
            return None
        token, right, tried = known
        return token, right / tried


class Grammars:
    """The grammars of one model; its tokenizer is prepared on first use."""

    def __init__(self, tokenizer: Any, vocabulary: int) -> None:
        self._tokenizer = tokenizer  # mlx-lm's wrapper
        self._vocabulary = vocabulary
        self.compile = functools.lru_cache(maxsize=64)(self._compile)
        self._opened = functools.lru_cache(maxsize=64)(self._opening)

    def start(self, grammar: Grammar) -> Rule:
        """The rule of a new answer. Raises BackendError with the reason for a wrong grammar."""
        matcher, habits = self.compile(grammar)
        if grammar.mark:
            return CallRule(self._opened(grammar))
        return GrammarRule(matcher.deep_copy(), self._ends, self._vocabulary, habits)

    def _opening(self, grammar: Grammar) -> Opening:
        """Raises BackendError."""
        matcher, habits = self.compile(grammar)
        after = [matcher.deep_copy()]  # each number of the mark's characters
        for sign in grammar.mark:
            after.append(after[-1].deep_copy())
            after[-1].consume_tokens(self._tokens.greedy_tokenize(sign))
        if after[-1].is_error():
            raise _refusal(grammar, after[-1].get_error())

        def start(read: int, *tokens: int) -> GrammarRule:
            call = after[read].deep_copy()
            call.consume_tokens(list(tokens))
            return GrammarRule(call, self._ends, self._vocabulary, habits, whole=False)

        def decode(token: int) -> bytes:
            return self._tokens.decode_bytes([token])

        masks = [_unpacked(one.compute_bitmask(), self._vocabulary) for one in after[:-1]]
        return Opening(grammar.mark.encode(), decode, start, masks)

    def _compile(self, grammar: Grammar) -> tuple[LLMatcher, Habits]:
        try:
            source = _source(grammar)
        except (ValueError, RecursionError) as error:
            raise _refusal(grammar, str(error)) from error
        # Compiled once: checking it first would cost as much again, 2 ms for each tool.
        matcher = LLMatcher(self._tokens, source, log_level=0)
        if matcher.is_error():
            raise _refusal(grammar, matcher.get_error())
        return matcher, Habits()

    @property
    def _ends(self) -> list[int]:
        return sorted(self._tokenizer.eos_token_ids)

    @functools.cached_property
    def _tokens(self) -> LLTokenizer:
        """Raises BackendError for a tokenizer that llguidance does not know."""
        backend = getattr(self._tokenizer._tokenizer, "backend_tokenizer", None)
        if backend is None:
            raise BackendError("Grammars need a fast tokenizer, which this model does not have.")
        return _llguidance_tokenizer(_Tokenizer(backend), self._vocabulary, tuple(self._ends))


class _Tokenizer:
    """A fast tokenizer, equal to all that are described alike."""

    def __init__(self, fast: Tokenizer) -> None:
        self.fast = fast
        self._digest = hashlib.sha256(fast.to_str().encode()).digest()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Tokenizer) and other._digest == self._digest

    def __hash__(self) -> int:
        return hash(self._digest)


class _ByteLevel:
    """What llguidance asks of a tokenizer that is there already. Given the description it would make one
    of its own: 12 MB more for 49,000 tokens."""

    bos_token_id = None

    def __init__(self, fast: Tokenizer, vocabulary: int, ends: Sequence[int]) -> None:
        added = fast.get_added_tokens_decoder()
        self._fast = fast
        self.eos_token_id = next(iter(ends), 0)
        self.special_token_ids = [
            number
            for number, token in added.items()  # as llguidance chooses from a description
            if token.special or (token.content[:1] == "<" and token.content[-1:] == ">")
        ]
        self.tokens = [
            added[number].content.encode() if number in added else spell(word or "")
            for number, word in enumerate(map(fast.id_to_token, range(vocabulary)))
        ]

    def __call__(self, text: str) -> list[int]:
        tokens: list[int] = self._fast.encode(text, add_special_tokens=False).ids
        return tokens


@functools.lru_cache(maxsize=4)
def _llguidance_tokenizer(
    tokenizer: _Tokenizer, vocabulary: int, ends: tuple[int, ...]
) -> LLTokenizer:
    """Takes a second or two and holds the GIL meanwhile: shared by all models of a process that
    have the same tokenizer."""
    fast = tokenizer.fast
    known = (
        TokenizerWrapper(_ByteLevel(fast, vocabulary, ends))
        if isinstance(fast.decoder, ByteLevel)
        else fast.to_str()
    )
    try:
        return LLTokenizer(known, n_vocab=vocabulary, eos_token=list(ends), slices=_SLICES)
    except (ValueError, RuntimeError) as error:
        raise BackendError(
            f"Grammars cannot be enforced with this model's tokenizer: {error}."
        ) from error


class GrammarRule:
    """See `following.Rule`. `failed` once the grammar cannot continue."""

    idle = False

    def __init__(
        self,
        matcher: LLMatcher,
        ends: Sequence[int],
        vocabulary: int,
        habits: Habits | None = None,
        *,
        whole: bool = True,
    ) -> None:
        """`whole` where the answer ends with what the grammar describes."""
        self._matcher = matcher
        self._whole = whole
        self._habits = habits or Habits()
        self.open = False
        self._place: int | None = None  # where few tokens are allowed next
        self._coming: list[tuple[int, int | None]] = []  # guesses, and the places after them
        self._ends = list(ends)
        self._followed: list[bool] = []  # of each token, whether the matcher took it
        self._vocabulary = vocabulary
        self._only_ends = np.zeros(vocabulary, bool)
        self._only_ends[list(ends)] = True

    @property
    def failed(self) -> bool:
        return bool(self._matcher.is_error())

    @property
    def ended(self) -> bool:
        """Whether all that the grammar describes is written."""
        return bool(self._matcher.is_stopped()) and not self.failed

    def follow(self, token: int) -> None:
        if self._place is not None:
            self._habits.learn(self._place, token)
        self._consume(token)
        if self._coming and self._coming[0][0] == token:
            self._place = self._coming.pop(0)[1]
        else:
            self._coming = []

    def _consume(self, token: int) -> None:
        self._place = None
        # After an end mlx-lm still computes one step, whose token is discarded.
        self._followed.append(not self._matcher.is_stopped())
        if self._followed[-1]:
            self._matcher.consume_token(token)

    def undo(self) -> None:
        self._place = None
        if self._followed.pop():
            self._matcher.rollback(1)

    def forced(self) -> list[int]:
        if self._matcher.is_stopped() or self.failed:
            return self._ends if len(self._ends) == 1 else []
        return list(self._matcher.compute_ff_tokens())

    def likely(self, most: int) -> tuple[list[int], list[float]]:
        tokens: list[int] = []
        chances: list[float] = []
        sure = 1.0
        while len(tokens) < most and sure > _DOUBTFUL and not self._matcher.is_stopped():
            found = [(token, 1.0) for token in self._matcher.compute_ff_tokens()]
            if not found:
                self.allowed()
                guess = None if self._place is None else self._habits.guess(self._place)
                if guess is None or not self.fitting([guess[0]]):
                    break
                found = [guess]
            for token, chance in found:
                self._consume(token)
                tokens.append(token)
                chances.append(chance)
                sure *= chance
        for _ in tokens:
            self.undo()
        return tokens[:most], chances[:most]

    def fitting(self, tokens: Sequence[int]) -> int:
        return 0 if self._matcher.is_stopped() else self._matcher.validate_tokens(list(tokens))

    def ahead(self, tokens: Sequence[int]) -> list[Allowed | None]:
        found: list[Allowed | None] = []
        before = self._place
        self._coming = []
        for token in tokens:
            self._consume(token)
            found.append(self.allowed())
            self._coming.append((token, self._place))
        for _ in found:
            self.undo()
        self._place = before
        return found

    def allowed(self) -> Allowed | None:
        if self._matcher.is_stopped() or self.failed:
            self.open = False
            return self._only_ends if self._whole or self.failed else None
        bits = self._matcher.compute_bitmask()
        allowed = _unpacked(bits, self._vocabulary)
        self.open = int(np.count_nonzero(allowed)) > _FEW
        self._place = None if self.open else hash(bits)
        # A mask without any token would make every logit infinite.
        return allowed if allowed.any() else self._only_ends


def _unpacked(bits: bytes, vocabulary: int) -> Allowed:
    every = np.unpackbits(np.frombuffer(bits, np.uint8), bitorder="little")
    return every[:vocabulary].astype(bool)


def _source(grammar: Grammar) -> str:
    """The grammar in llguidance's notation. Raises ValueError."""
    match grammar.kind:
        case "json_object":
            return LLMatcher.grammar_from_json_schema({"type": "object"}, overrides=JSON_SPACES)
        case "json_schema":
            schema = json.loads(grammar.source)
            if not isinstance(schema, (dict, bool)):
                raise ValueError("it is not a JSON object")
            plain = json.dumps(enforceable(schema))
            return LLMatcher.grammar_from_json_schema(plain, overrides=JSON_SPACES)
        case "regex":
            return LLMatcher.grammar_from_regex(grammar.source)
        case "lark":
            return LLMatcher.grammar_from_lark(grammar.source)


def _refusal(grammar: Grammar, reason: str) -> BackendError:
    first, *rest = reason.strip().splitlines()
    if first.startswith("regex parse error") and rest:  # the pattern, a pointer into it, and why
        first = f"the pattern {rest[0].strip()}: {rest[-1].removeprefix('error: ')}"
    line = first.rstrip(".")
    return BackendError(f"{_NAMES[grammar.kind]} cannot be enforced: {line}.")
