"""What the files of sentence-transformers say, and what of it is refused in a sentence."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from backends.base import Embedder, UnsupportedModel
from tests.backends.mlx.embedding.folders import pool

PROMPTS = {"query": "Find: ", "document": ""}


def test_a_folder_without_them_is_an_embedding_model_only_where_it_is_an_encoder(
    tmp_path: Path,
) -> None:
    assert Embedder.of(tmp_path, "qwen3") is None
    assert Embedder.of(tmp_path, "bert") == Embedder("mean", normalized=True)


def test_pooling_length_and_prompts_are_read(tmp_path: Path) -> None:
    pool(tmp_path, "lasttoken", normalize=False, prompts=PROMPTS, default_prompt_name="query")
    (tmp_path / "sentence_bert_config.json").write_text('{"max_seq_length": 256}')
    how = Embedder.of(tmp_path, "qwen3")
    assert how == Embedder("last", False, PROMPTS, "query", 256)
    assert [how.prompted("a"), how.prompted("a", "document"), how.prompted("a", "")] == [
        "Find: a",
        "a",
        "a",
    ]
    with pytest.raises(KeyError):
        how.prompted("a", "passage")


def test_the_newer_way_to_name_a_pooling_is_read_too(tmp_path: Path) -> None:
    pool(tmp_path)
    (tmp_path / "1_Pooling" / "config.json").write_text('{"pooling_mode": "cls"}')
    found = Embedder.of(tmp_path, "bert")
    assert found is not None
    assert found.pooling == "cls"


@pytest.mark.parametrize(
    ("file", "content", "reason"),
    [
        (
            "1_Pooling/config.json",
            {"pooling_mode_max_tokens": True},
            "knows cls, mean and lasttoken",
        ),
        ("1_Pooling/config.json", {}, "knows cls, mean and lasttoken"),
        (
            "1_Pooling/config.json",
            {"pooling_mode_cls_token": True, "include_prompt": False},
            "leaves its prompts out",
        ),
        ("1_Pooling/config.json", [], "not the JSON"),
        ("modules.json", [{"type": "a.Transformer"}, {"type": "a.Dense"}], "Transformer, Dense"),
        (
            "modules.json",
            [{"type": "a.Transformer"}, {"type": "a.Pooling", "path": "../../etc"}],
            "does not name one Pooling step",
        ),
        ("modules.json", {}, "not the JSON"),
    ],
)
def test_what_cannot_be_computed_is_refused(
    tmp_path: Path, file: str, content: Any, reason: str
) -> None:
    pool(tmp_path)
    (tmp_path / file).write_text(json.dumps(content))
    with pytest.raises(UnsupportedModel, match=reason):
        Embedder.of(tmp_path, "bert")


def test_a_step_whose_file_is_missing_is_named(tmp_path: Path) -> None:
    pool(tmp_path)
    (tmp_path / "1_Pooling" / "config.json").unlink()
    with pytest.raises(UnsupportedModel, match=r"1_Pooling/config\.json is missing"):
        Embedder.of(tmp_path, "bert")


@pytest.mark.parametrize(
    ("config", "ranks"),
    [
        ({"num_labels": 1}, True),
        ({"id2label": {"0": "LABEL_0"}}, True),
        ({"id2label": {"0": "no", "1": "yes"}}, False),
        ({"id2label": 7}, False),
        ({"num_labels": 1, "architectures": 7}, False),
        ({"num_labels": 1, "architectures": ["BertModel"]}, False),
    ],
)
def test_an_encoder_with_a_head_of_one_label_is_a_reranker(
    tmp_path: Path, config: dict[str, Any], ranks: bool
) -> None:
    heads = {"architectures": ["BertForSequenceClassification"]}
    (tmp_path / "config.json").write_text(json.dumps(heads | config))
    how = Embedder.of(tmp_path, "bert")
    assert (how is not None and how.pooling == "score") == ranks
    assert Embedder.of(tmp_path, "llama") is None
