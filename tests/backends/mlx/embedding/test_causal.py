"""Vectors of causal models: those that write, and those made for vectors alone."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import mlx.core as mx
import pytest

from backends.base import LoadedModel, UnsupportedModel
from backends.mlx import MLXBackend
from backends.mlx.embedding import vectors
from backends.mlx.files.loading import open_model
from tests.backends.mlx.embedding.folders import pool


def embedder(base: Path, folder: Path, mode: str) -> Path:
    """The tiny model as sentence-transformers saves one such as Qwen3-Embedding: its body alone."""
    shutil.copytree(base, folder)
    weights = mx.load(str(base / "model.safetensors"))
    body = {name.removeprefix("model."): array for name, array in weights.items()}
    mx.save_safetensors(str(folder / "model.safetensors"), body)
    config = json.loads((folder / "config.json").read_text())
    del config["tie_word_embeddings"]
    (folder / "config.json").write_text(json.dumps(config))
    return pool(folder, mode, prompts={"query": "Find: ", "document": ""})


def states(base: Path, tokens: list[int]) -> Any:
    model, _, _ = open_model(base)
    return model.model(mx.array([tokens]))[0].astype(mx.float32)


def unit(vector: mx.array) -> list[float]:
    found: list[float] = (vector / mx.linalg.norm(vector)).tolist()
    return found


def test_the_last_token_is_taken_where_the_folder_says_so(tiny_base: Path, tmp_path: Path) -> None:
    folder = embedder(tiny_base, tmp_path / "embedder", "lasttoken")
    assert MLXBackend().inspect(folder).pooling == "last"
    model = MLXBackend().load(folder)
    assert isinstance(model, LoadedModel)
    texts = [model.encode_text(text) for text in ("Lunch", "Lunch with Ana on Friday at noon")]
    for tokens, vector in zip(texts, model.embed(texts, None), strict=True):
        assert vector == pytest.approx(unit(states(tiny_base, tokens)[-1]), abs=1e-5)
    model.close()


def test_a_long_text_is_read_in_pieces_to_the_same_vector(
    tiny_base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, _, _ = open_model(tiny_base)
    texts = [[5, 9, 11] * 20, [7] * 33, [3]]
    whole = vectors.embed(vectors.causal(model, "tiny"), texts)
    monkeypatch.setattr(vectors, "CHUNK", 16)
    for one, other in zip(vectors.embed(vectors.causal(model, "tiny"), texts), whole, strict=True):
        assert one == pytest.approx(other, abs=1e-5)


def test_a_causal_model_that_reads_in_both_directions_is_refused(
    tiny_base: Path, tmp_path: Path
) -> None:
    folder = embedder(tiny_base, tmp_path / "embedder", "mean_tokens")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"is_causal": False}))
    with pytest.raises(UnsupportedModel, match="in both directions"):
        MLXBackend().inspect(folder)


def test_no_pass_takes_more_than_was_reserved_for_it(tiny_base: Path) -> None:
    model = MLXBackend().load(tiny_base)
    texts = [[5, 9, 11] * 500, [7] * 1500]
    mx.synchronize()
    before = mx.get_active_memory()
    mx.reset_peak_memory()
    model.embed(texts, None)
    assert mx.get_peak_memory() - before <= model.needed_to_embed(texts)
    labels = ["yes", "no", "perhaps so"]
    needed = model.needed_for_answers(texts[0], labels)
    before = mx.get_active_memory()
    mx.reset_peak_memory()
    model.likelihoods(texts[0], labels, None)
    assert mx.get_peak_memory() - before <= needed
    model.close()
