"""How well texts answer a query: by an encoder's head, and by how likely a model that writes says yes."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
import pytest

from backends.base import BackendError, LoadedModel, PromptTooLong, Question, UnsupportedModel
from backends.mlx import MLXBackend
from backends.mlx.files.loading import open_model
from tests.backends.mlx.data.templates import QWEN3
from tests.backends.mlx.embedding.folders import BERT, encoder_weights, head_weights, write_encoder
from tests.backends.mlx.embedding.test_encoder import reference
from tests.backends.mlx.tool_template import with_template

ASKED = Question("a fox")
TEXTS = ["a crow runs far", "home", "fox far home a fox crow"]
ONE_LABEL: dict[str, Any] = {"id2label": {"0": "LABEL_0"}}


def sigmoid(value: float) -> float:
    return 1 / (1 + math.exp(-value))


def ranked(model: LoadedModel, *texts: str, asked: Question = ASKED) -> list[float]:
    return model.relevances([model.encode_pair(asked, text) for text in texts], None)


@pytest.mark.parametrize("kind", ["bert", "xlm-roberta"])
def test_an_encoders_head_says_what_the_formulas_say(tmp_path: Path, kind: str) -> None:
    config = BERT | {"model_type": kind, "type_vocab_size": 2 if kind == "bert" else 1}
    prefix, named = ("bert.", "Bert") if kind == "bert" else ("roberta.", "XLMRoberta")
    weights, head = encoder_weights(config), head_weights(config)
    folder = write_encoder(
        tmp_path / "mini",
        {prefix + name: array for name, array in weights.items()} | head,
        **config,
        **ONE_LABEL,
        architectures=[f"{named}ForSequenceClassification"],
    )
    assert MLXBackend().inspect(folder).pooling == "score"
    model = MLXBackend().load(folder)
    assert isinstance(model, LoadedModel)
    for text, score in zip(TEXTS, ranked(model, *TEXTS), strict=True):
        tokens, second = model.encode_pair(ASKED, text)
        assert (len(tokens), second) == (5 + len(text.split()), 4)
        kinds = [int(kind == "bert" and at >= second) for at in range(len(tokens))]
        first = reference(weights, tokens, 0 if kind == "bert" else 1, kinds)[0]
        inner = "pooler.dense" if kind == "bert" else "classifier.dense"
        outer = "classifier" if kind == "bert" else "classifier.out_proj"
        known = weights | head
        pooled = np.tanh(first @ known[f"{inner}.weight"].T + known[f"{inner}.bias"])
        said = float((pooled @ known[f"{outer}.weight"].T + known[f"{outer}.bias"])[0])
        assert score == pytest.approx(sigmoid(said), abs=2e-5)
    assert model.needed_to_rank([model.encode_pair(ASKED, "home")]) > 0
    with pytest.raises(PromptTooLong, match=r"have 46 tokens and mini reads 3\d; send a part"):
        ranked(model, "fox " * 41)
    with pytest.raises(BackendError, match="is a reranker"):
        model.embed([[1]], None)
    model.close()


def test_a_head_of_two_labels_is_no_reranker(tmp_path: Path) -> None:
    weights = encoder_weights(BERT) | head_weights(BERT)
    heads = ["BertForSequenceClassification"]
    folder = write_encoder(tmp_path / "mini", weights, architectures=heads)
    with pytest.raises(UnsupportedModel, match="or a reranker with one label"):
        MLXBackend().inspect(folder)


def test_an_embedding_model_ranks_nothing(tmp_path: Path) -> None:
    model = MLXBackend().load(write_encoder(tmp_path / "mini", encoder_weights(BERT)))
    with pytest.raises(BackendError, match="choose a reranker"):
        model.encode_pair(ASKED, "home")
    model.close()


# As https://huggingface.co/Qwen/Qwen3-Reranker-0.6B has it.
PUBLISHED = (
    "<|im_start|>system\nJudge whether the Document meets the requirements based on the Query and the "
    'Instruct provided. Note that the answer can only be "yes" or "no".<|im_end|>\n<|im_start|>user\n'
    "<Instruct>: {instruction}\n<Query>: a fox\n<Document>: {text}<|im_end|>\n<|im_start|>assistant\n"
    "<think>\n\n</think>\n\n"
)
# What Qwen3's template ends with when it is asked not to think.
QWEN = QWEN3.replace(
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}",
    "{% if add_generation_prompt %}<|im_start|>assistant\n"
    "{% if enable_thinking is false %}<think>\n\n</think>\n\n{% endif %}{% endif %}",
)
ROLES = (
    "{% for m in messages %}{% if m.role in ('query', 'document') %}<{{ m.role }}>{{ m.content }}"
    "{% endif %}{% endfor %}"
)


def test_a_model_that_writes_is_asked_as_qwens_reranker(tiny_base: Path, tmp_path: Path) -> None:
    folder = with_template(tiny_base, tmp_path / "qwen", QWEN)
    model = MLXBackend().load(folder)
    weights, tokenizer, _ = open_model(folder)
    yes, no = (tokenizer.encode(word, add_special_tokens=False)[0] for word in ("yes", "no"))
    told = Question("a fox", "Find animals")
    for asked, instruction in (
        (ASKED, "Given a web search query, retrieve relevant passages that answer the query"),
        (told, "Find animals"),
    ):
        scores = ranked(model, *TEXTS, asked=asked)
        for text, score in zip(TEXTS, scores, strict=True):
            tokens = model.encode_pair(asked, text).tokens
            written = PUBLISHED.format(instruction=instruction, text=text)
            assert model.decode(tokens) == written
            logits = weights(mx.array([tokens]))[0, -1].astype(mx.float32)
            assert score == pytest.approx(sigmoid((logits[yes] - logits[no]).item()), abs=1e-3)
    assert len({round(score, 6) for score in scores}) == 3
    model.close()


def test_a_template_for_ranking_writes_what_stands_around(tiny_base: Path, tmp_path: Path) -> None:
    folder = with_template(tiny_base, tmp_path / "roles", ROLES)
    model = MLXBackend().load(folder)
    assert model.decode(model.encode_pair(ASKED, "home").tokens) == "<query>a fox<document>home"
    model.close()


def test_words_of_one_token_are_needed(tiny_base: Path, tmp_path: Path) -> None:
    folder = tmp_path / "wordless"
    shutil.copytree(with_template(tiny_base, tmp_path / "qwen", QWEN), folder)
    path = folder / "tokenizer.json"
    described = json.loads(path.read_text())
    described["normalizer"] = {
        "type": "Replace",
        "pattern": {"Regex": "^(yes|no)$"},
        "content": "a",
    }
    path.write_text(json.dumps(described))
    model = MLXBackend().load(folder)
    with pytest.raises(BackendError, match="no token of its own for yes and no"):
        ranked(model, "home")
    model.close()
