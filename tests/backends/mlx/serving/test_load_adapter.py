"""DoRA and full fine-tunes, which cannot share a base: loaded as a model of their own."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import mlx.core as mx
import mlx_lm
import pytest
from mlx.utils import tree_flatten
from mlx_lm.tuner.utils import linear_to_lora_layers

from backends.base import LoadedModel, Sampling, UnsupportedModel
from backends.mlx import MLXBackend

pytestmark = pytest.mark.any_database

PARAMETERS = {"rank": 4, "scale": 10.0, "dropout": 0.0}


def make_adapter(base: Path, folder: Path, kind: str) -> Path:
    """A fine-tune as mlx-lm saves it, with weights that change every answer."""
    model: Any = mlx_lm.load(str(base))[0]
    model.freeze()
    if kind == "full":
        model.layers[-1].unfreeze()
    else:
        linear_to_lora_layers(model, 2, PARAMETERS, use_dora=kind == "dora")
    key = mx.random.key(3)
    weights = {}
    for name, array in sorted(tree_flatten(model.trainable_parameters())):
        key, draw = mx.random.split(key)
        weights[name] = array + 0.3 * mx.random.normal(array.shape, key=draw)
    folder.mkdir()
    mx.save_safetensors(str(folder / "adapters.safetensors"), weights)
    config = {"fine_tune_type": kind, "num_layers": 2, "lora_parameters": PARAMETERS}
    (folder / "adapter_config.json").write_text(json.dumps(config))
    return folder


def tokens(model: LoadedModel, adapter: Path | None = None) -> list[int]:
    model.insert("row", model.encode([{"role": "user", "content": "Hi"}]), adapter, Sampling(8))
    given: list[int] = []
    for _ in range(40):
        for delta in model.step():
            given.append(delta.token)
            if delta.finish_reason:
                return given
    raise AssertionError("the row did not end")


@pytest.mark.parametrize("kind", ["dora", "full", "lora"])
def test_a_fine_tune_answers_as_mlx_lm_lets_it(tiny_base: Path, tmp_path: Path, kind: str) -> None:
    adapter = make_adapter(tiny_base, tmp_path / kind, kind)
    model = MLXBackend().load(tiny_base, adapter)
    answered = tokens(model)
    prompt = model.encode([{"role": "user", "content": "Hi"}])
    model.close()
    plain: Any
    plain, tokenizer = mlx_lm.load(str(tiny_base), adapter_path=str(adapter))[:2]
    expected = [r.token for r in mlx_lm.stream_generate(plain, tokenizer, prompt, max_tokens=8)]
    assert answered == expected
    base = MLXBackend().load(tiny_base)
    assert tokens(base) != answered
    base.close()


def test_an_adapter_of_another_base_is_refused(tiny_base: Path, tmp_path: Path) -> None:
    adapter = make_adapter(tiny_base, tmp_path / "dora", "dora")
    weights: Any = mx.load(str(adapter / "adapters.safetensors"))
    weights["model.layers.7.self_attn.q_proj.m"] = mx.zeros((64,))
    mx.save_safetensors(str(adapter / "adapters.safetensors"), weights)
    with pytest.raises(UnsupportedModel, match="could not be loaded"):
        MLXBackend().load(tiny_base, adapter)
