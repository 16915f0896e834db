"""What a model could do here, by its config.json and the memory budget."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from backends.base import Prospect
from hub.catalogue.prospects import of_base, prospects
from tests.hub.catalogue.conftest import LARGE, PACKED, QWEN
from tests.registry.build import make_base

pytestmark = pytest.mark.django_db


def foreseen(config: dict[str, Any], nbytes: int) -> Prospect:
    return Prospect(config, "qwen3", Prospect.precision(config), 40_960, nbytes=nbytes)


def test_it_says_how_long_the_examples_may_be(
    settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HUB_ASSUMED_DEVICE", "metal")
    plain, packed = foreseen(QWEN, 1_192_000_000), foreseen(PACKED, 335_000_000)
    found = {}
    for budget in (4, 8, 24, 64):
        settings.MEMORY_BUDGET_BYTES = budget * 10**9
        found[budget] = prospects(plain).tokens
    assert found == {4: 1024, 8: 4096, 24: 8192, 64: 16384}
    here = prospects(plain)
    assert here.sentence == "Serves here · trains with LoRA up to 16,384 tokens"
    assert prospects(packed).way == "QLoRA"
    short = replace(plain, context_length=700)
    assert prospects(short).tokens == 700


def test_it_says_why_not(settings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HUB_ASSUMED_DEVICE", "metal")
    settings.MEMORY_BUDGET_BYTES = 1_700_000_000
    serves = prospects(foreseen(QWEN, 1_192_000_000))
    assert (serves.serves, serves.tokens) == (True, 0)
    assert serves.sentence.startswith("Serves here · too large to train: LoRA needs ")
    assert serves.sentence.endswith("of 1.7 GB; a 4-bit version may fit")
    too_large = prospects(foreseen(LARGE, 0)).sentence  # nobody has counted the weights
    assert too_large.startswith("Too large to serve here: it needs 1")
    assert too_large.endswith("GB of 1.7 GB. Look for a 4-bit version.")
    vectors = replace(foreseen(QWEN, 10**8), embeds_only=True)
    assert (
        prospects(vectors).sentence
        == "Serves here · for embeddings or reranking only, which is not trained"
    )
    assert not prospects(foreseen({**QWEN, "hidden_size": "wide"}, 1)).serves


def test_a_base_model_that_is_here_is_judged_the_same_way() -> None:
    base = make_base()
    here = of_base(base)
    assert here.sentence == "Serves here · trains with LoRA up to 2,048 tokens"
    base.path = "base/gone"
    assert "cannot be read" in of_base(base).sentence
