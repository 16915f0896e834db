"""Embeddings as clients ask for them by default: the real `openai` and LangChain, in this process."""

from __future__ import annotations

import importlib.util
import math
from collections.abc import AsyncIterator
from typing import Any

import openai
import pytest
from asgiref.sync import sync_to_async

from backends.fake.generation import EMBEDDING
from inference.gateway import vectors
from inference.v1.openai import texts as module
from registry.errors import Invalid
from tests.inference.builders import make_base
from tests.inference.engines import running_engine
from tests.inference.openai_asking import in_process, web

pytestmark = [pytest.mark.usefixtures("db_in_threads"), pytest.mark.any_database]


@pytest.fixture
async def client(db_in_threads: None) -> AsyncIterator[openai.AsyncOpenAI]:
    await sync_to_async(make_base)()
    async with running_engine(), in_process() as client:
        yield client


async def embed(client: openai.AsyncOpenAI, texts: Any, **more: Any) -> list[list[float]]:
    answer = await client.embeddings.create(model="base:tiny", input=texts, **more)
    assert [row.index for row in answer.data] == list(range(len(answer.data)))
    return [row.embedding for row in answer.data]


@pytest.mark.both_databases
async def test_as_many_texts_as_openai_takes(client: openai.AsyncOpenAI) -> None:
    texts = [f"text {n}" for n in range(2048)]
    vectors = await embed(client, texts)
    assert len(vectors) == 2048
    alone = await embed(client, [texts[300]], encoding_format="float")
    assert vectors[300] == pytest.approx(alone[0], abs=1e-6)
    with pytest.raises(openai.BadRequestError, match="2049 texts came, and a request may have"):
        await embed(client, [*texts, "one more"])


async def test_an_empty_text_among_others_has_a_vector(client: openai.AsyncOpenAI) -> None:
    one, empty, other = await embed(client, ["a fox", "", "a crow"])
    assert empty not in (one, other)
    assert await embed(client, "") == [empty]


async def test_the_models_own_width_may_be_asked_for_and_no_other(
    client: openai.AsyncOpenAI,
) -> None:
    whole = await embed(client, ["a fox", "a crow"])
    none: Any = None
    for width in (EMBEDDING, none):
        assert await embed(client, ["a fox", "a crow"], dimensions=width) == whole
    with pytest.raises(openai.BadRequestError, match=f"vectors of {EMBEDDING} numbers and was not"):
        await embed(client, ["a fox"] * 40, dimensions=8)


async def test_a_model_that_is_made_for_it_gives_fewer_numbers(
    client: openai.AsyncOpenAI, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(vectors, "trained_for", lambda base, width: range(1, width))
    whole = await embed(client, ["a fox", "a crow"])
    short = await embed(client, ["a fox", "a crow"], dimensions=8)
    assert [len(vector) for vector in short] == [8, 8]
    assert math.hypot(*short[1]) == pytest.approx(1, abs=1e-6)
    factor = short[1][0] / whole[1][0]
    assert short[1] == pytest.approx([factor * x for x in whole[1][:8]], abs=1e-6)


def test_a_models_files_say_what_it_is_made_for(tmp_path: Any) -> None:
    config = tmp_path / "config.json"
    for text in ("", "[]", "{}"):
        config.write_text(text)
        assert list(vectors.trained_for(tmp_path, 3)) == []
    config.write_text('{"is_matryoshka": true}')
    assert list(vectors.trained_for(tmp_path, 3)) == [1, 2]
    config.write_text('{"is_matryoshka": true, "matryoshka_dimensions": [2]}')
    assert vectors.shortened([[3.0, 4.0, 5.0]], 2, tmp_path) == [[0.6, 0.8]]
    with pytest.raises(Invalid, match="3 numbers or of 2;"):
        vectors.shortened([[3.0, 4.0, 5.0]], 1, tmp_path)


@pytest.mark.parametrize(
    ("texts", "sentence"),
    [
        ([], "the list is empty; send at least one text"),
        (["a", None], "text 2 of 2: null came where a text or a list of tokens is needed"),
        (["a", 3], "text 2 of 2: the number 3 came"),
        (None, "null came where a text"),
        (["a", [1, 2]], "text 2 of 2: texts and lists of tokens cannot be mixed"),
        ("a" * 1_000_001, "it has 1000001 characters, and 1000000 are allowed"),
    ],
)
async def test_what_is_wrong_is_named(
    client: openai.AsyncOpenAI, texts: Any, sentence: str
) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        await embed(client, texts)
    assert sentence in caught.value.message
    assert caught.value.param == "input"


async def test_without_tiktoken_token_numbers_are_refused_with_what_to_set(
    client: openai.AsyncOpenAI, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == "tiktoken" else found(name)
    )
    module._cl100k.cache_clear()
    for tokens in ([5, 6], [[5, 6], [7]]):
        with pytest.raises(openai.BadRequestError) as caught:
            await embed(client, tokens)
        assert "check_embedding_ctx_length=False" in caught.value.message
        assert "uv pip install tiktoken" in caught.value.message
        assert caught.value.param == "input"


@pytest.fixture
def openais_tokens(monkeypatch: pytest.MonkeyPatch) -> None:
    """A table under the name cl100k_base, for the client and the hub: the real one is a download."""
    tiktoken = pytest.importorskip("tiktoken", reason="tiktoken is not installed")
    ranks = {bytes([byte]): byte for byte in range(256)}
    ranks |= {b"fo": 256, b"fox": 257}
    table = tiktoken.Encoding(
        "cl100k_base", pat_str=r"\S+|\s+", mergeable_ranks=ranks, special_tokens={}
    )
    monkeypatch.setitem(tiktoken.registry.ENCODINGS, "cl100k_base", table)
    module._cl100k.cache_clear()


@pytest.mark.filterwarnings("ignore")  # of LangChain's own
@pytest.mark.slow
async def test_langchains_default_request(client: openai.AsyncOpenAI, openais_tokens: None) -> None:
    langchain = pytest.importorskip("langchain_openai", reason="langchain-openai is not installed")
    texts = [f"fox number {n} — naïve 🐱" for n in range(1100)] + [""]
    async with web() as http:
        made = langchain.OpenAIEmbeddings(
            model="base:tiny",
            base_url="http://127.0.0.1/v1",
            api_key="any",
            http_async_client=http,
            max_retries=0,
        )
        found = await made.aembed_documents(texts)
        query = await made.aembed_query(texts[7])
    assert len(found) == len(texts)
    expected = await embed(client, [texts[7], ""])
    assert found[7] == pytest.approx(expected[0], abs=1e-6)
    assert query == pytest.approx(expected[0], abs=1e-6)
    assert found[-1] == pytest.approx(expected[1], abs=1e-6)


async def test_numbers_that_are_no_tokens_of_openais_are_refused(
    client: openai.AsyncOpenAI, openais_tokens: None
) -> None:
    assert len(await embed(client, [257])) == 1
    for tokens in ([70_000], [2**40]):
        with pytest.raises(openai.BadRequestError, match="no token of OpenAI's"):
            await embed(client, tokens)


async def test_a_table_that_cannot_be_loaded_is_no_crash(
    client: openai.AsyncOpenAI, monkeypatch: pytest.MonkeyPatch
) -> None:
    tiktoken = pytest.importorskip("tiktoken", reason="tiktoken is not installed")

    def offline(name: str) -> Any:
        raise ConnectionError(name)

    monkeypatch.setattr(tiktoken, "get_encoding", offline)
    module._cl100k.cache_clear()
    with pytest.raises(openai.BadRequestError, match="could not load its table"):
        await embed(client, [[1, 2]])
