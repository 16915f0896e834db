"""The tokenizer that grammars are followed with: the model's own, as llguidance reads its description."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from llguidance import LLMatcher, LLTokenizer, TokenizerWrapper
from mlx_lm.utils import load_tokenizer
from tokenizers import Tokenizer, decoders, models

from backends.mlx.sampling import grammar
from backends.mlx.sampling.grammar import Grammars

PADDING = 8  # as models pad their vocabulary
ANSWER = '{"title": "Lunch – with Anna\\n", "tags": ["é", "日本語", {}], "n": -12.5e3}'


@pytest.fixture(scope="module")
def tokenizer(tiny_base: Path) -> Any:
    return load_tokenizer(tiny_base)


@pytest.fixture(scope="module")
def described(tokenizer: Any) -> LLTokenizer:
    fast = tokenizer._tokenizer.backend_tokenizer
    ends = sorted(tokenizer.eos_token_ids)
    return LLTokenizer(fast.to_str(), n_vocab=len(tokenizer.get_vocab()) + PADDING, eos_token=ends)


@pytest.fixture(scope="module")
def grammars(tokenizer: Any) -> Grammars:
    return Grammars(tokenizer, len(tokenizer.get_vocab()) + PADDING)


def test_each_token_has_the_bytes_of_its_description(
    grammars: Grammars, described: LLTokenizer
) -> None:
    ours = grammars._tokens
    every = range(ours.vocab_size)
    assert ours.vocab_size == described.vocab_size
    assert [ours.decode_bytes([n]) for n in every] == [described.decode_bytes([n]) for n in every]
    real = list(every)[:-PADDING]  # which of them are special
    assert ours.dbg_tokens(real) == described.dbg_tokens(real)
    assert ours.tokenize_str(ANSWER) == described.tokenize_str(ANSWER)


@pytest.mark.parametrize(
    "source",
    [
        LLMatcher.grammar_from_json_schema({"type": "object"}),
        LLMatcher.grammar_from_regex(r"\{.*\}"),
        LLMatcher.grammar_from_lark('start: /.*/ <|im_end|> "x"'),
    ],
    ids=["JSON", "regex", "special token"],
)
def test_an_answer_is_masked_as_with_the_description(
    grammars: Grammars, described: LLTokenizer, source: str
) -> None:
    ours, theirs = (LLMatcher(one, source, log_level=0) for one in (grammars._tokens, described))
    for token in described.tokenize_str(ANSWER):
        assert ours.compute_bitmask() == theirs.compute_bitmask()
        assert ours.compute_ff_tokens() == theirs.compute_ff_tokens()
        assert ours.consume_token(token) == theirs.consume_token(token)
    assert ours.compute_bitmask() == theirs.compute_bitmask()
    assert not ours.is_error()


def test_two_models_of_one_tokenizer_share_what_is_read(tiny_base: Path) -> None:
    def read() -> LLTokenizer:
        tokenizer: Any = load_tokenizer(tiny_base)
        return Grammars(tokenizer, len(tokenizer.get_vocab()))._tokens

    assert read() is read()


def test_only_a_byte_level_tokenizer_is_asked(
    tokenizer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Others write their tokens in ways of their own, which llguidance reads from the description."""
    given: list[type] = []

    def build(known: Any, **more: Any) -> LLTokenizer:
        given.append(type(known))
        return LLTokenizer(known, **more)

    monkeypatch.setattr(grammar, "LLTokenizer", build)
    grammar._llguidance_tokenizer.cache_clear()
    assert Grammars(tokenizer, len(tokenizer.get_vocab()))._tokens
    vocabulary = {"<unk>": 0, "</s>": 1, "<0x41>": 2, "▁yes": 3, "{": 4, "}": 5}
    fast = Tokenizer(models.BPE(vocabulary, [], unk_token="<unk>", byte_fallback=True))
    fast.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback()])
    wrapped = SimpleNamespace(_tokenizer=SimpleNamespace(backend_tokenizer=fast), eos_token_ids={1})
    assert Grammars(wrapped, len(vocabulary))._tokens.decode_bytes([2, 3]) == b"A yes"
    assert given == [TokenizerWrapper, str]
