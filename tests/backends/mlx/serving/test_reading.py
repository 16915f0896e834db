"""How likely a prompt's tokens are, against a whole forward pass, and the bytes of tokens."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import mlx.core as mx
import pytest
from mlx_lm.tokenizer_utils import SPMStreamingDetokenizer
from mlx_lm.utils import load

from backends.base import BackendError, LoadedModel, LoadOptions, PromptToken, PromptTooLong
from backends.mlx import MLXBackend
from backends.mlx.serving import reading
from backends.mlx.serving.rows import Pieces
from tests.backends.rows import TWELVE, Row, run

TEXT = "The soup was cold and the waiter told us so twice, in a naïve voice. " * 3


@pytest.fixture(scope="module")
def cached(lively_base: Path) -> Iterator[LoadedModel]:
    """With a prefix cache."""
    model = MLXBackend().load(lively_base, None, LoadOptions(cache_bytes=1 << 24))
    yield model
    model.close()


def told(model: LoadedModel, prompt: list[int], adapter: Path | None = None) -> list[PromptToken]:
    return [token for chunk in model.prompt_logprobs(prompt, adapter, 2) for token in chunk]


def alone(base: Path, adapter: Path | None, prompt: list[int]) -> list[float]:
    """By one pass over the whole prompt, without a cache."""
    model = load(str(base), adapter_path=str(adapter) if adapter else None)[0]
    logits = model(mx.array([prompt]))[0].astype(mx.float32)
    logprobs = logits - mx.logsumexp(logits, axis=-1, keepdims=True)
    return [float(logprobs[n, token].item()) for n, token in enumerate(prompt[1:])]


def test_they_are_those_of_one_whole_pass(
    cached: LoadedModel,
    lively_base: Path,
    adapters: tuple[Path, Path],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    prompt = cached.encode_text(TEXT)
    monkeypatch.setattr(reading, "_MOST_LOGITS", 4096 * 20)  # chunks of 20 tokens
    for adapter in (None, adapters[0]):
        chunks = list(cached.prompt_logprobs(prompt, adapter, 2))
        assert [len(chunk) for chunk in chunks][:2] == [1, 20]
        found = [token.logprob for chunk in chunks for token in chunk]
        assert found[0] is None
        assert found[1:] == pytest.approx(alone(lively_base, adapter, prompt), abs=2e-3)


def test_the_prompt_is_in_the_cache_afterwards(cached: LoadedModel) -> None:
    prompt = cached.encode_text("Once more: " + TEXT)
    fresh = run(cached, Row(prompt=prompt, sampling=TWELVE))[0]
    cached.shrink_cache(0)
    told(cached, prompt)
    row = run(cached, Row(prompt=prompt, sampling=TWELVE))[0]
    assert row.cached > len(prompt) // 2
    assert row.tokens == fresh.tokens


def test_the_tokens_bytes_are_the_prompt(cached: LoadedModel) -> None:
    prompt = cached.encode_text(TEXT + "日本 🐱")
    assert b"".join(token.data for token in told(cached, prompt)).decode() == TEXT + "日本 🐱"


def test_no_chunk_holds_many_logits() -> None:
    assert reading.chunk_of(152_000, 2048) == 110
    assert reading.chunk_of(152_000, 64) == 64
    assert reading.chunk_of(4_000_000, 2048) == 16


def test_what_the_model_cannot_read_is_refused(cached: LoadedModel) -> None:
    with pytest.raises(BackendError, match="token 99999"):
        told(cached, [1, 99_999])
    with pytest.raises(PromptTooLong):
        told(cached, [5] * 3000)
    with pytest.raises(BackendError, match="token 99999"):
        cached.decode([99_999])


class Words:
    """As SentencePiece spells words: a mark for a space, bytes as hexadecimal numbers."""

    vocabulary = ("<s>", "</s>", "\u2581Hello", "\u2581", "<0xC3>", "<0xA9>", "a")
    eos_token_ids = (1,)

    def __len__(self) -> int:
        return len(self.vocabulary)

    def convert_ids_to_tokens(self, ids: list[int]) -> list[str]:
        return [self.vocabulary[n] for n in ids]

    def encode(self, text: str, add_special_tokens: bool) -> list[int]:
        return [6]

    def decode(self, ids: list[int]) -> str:
        text = b"".join(
            bytes([int(word[3:5], 16)]) if word.startswith("<0x") else word.encode()
            for word in self.convert_ids_to_tokens(ids)
        )
        return text.decode(errors="replace").replace("\u2581", " ")

    @property
    def detokenizer(self) -> SPMStreamingDetokenizer:
        return SPMStreamingDetokenizer(self)


def test_sentencepieces_tokens_have_their_bytes() -> None:
    pieces = Pieces(Words())
    assert [pieces.data(n) for n in range(1, 7)] == [b"", b" Hello", b" ", b"\xc3", b"\xa9", b"a"]
    assert pieces.spelling(1) == b"</s>"
    assert pieces.trims


def test_a_tokenizer_that_is_only_decoded_whole_has_bytes_too() -> None:
    """Half a character by its byte-level name; a text of its own where the name says less."""
    words = Words()
    names = {4: "Ã", 5: "©", 6: "##a"}
    naive = SimpleNamespace(
        detokenizer=None,
        eos_token_ids=(1,),
        encode=words.encode,
        decode=words.decode,
        convert_ids_to_tokens=lambda ids: [names[n] for n in ids],
    )
    pieces = Pieces(naive)
    assert [pieces.data(n) for n in (4, 5, 6)] == [b"\xc3", b"\xa9", b"a"]
    assert not pieces.trims
