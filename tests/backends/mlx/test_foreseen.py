"""What is said of a model by its settings alone: nothing of MLX is loaded for it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from backends import get_backend
from backends.base import UnsupportedModel
from registry.bases.bundled import starter_gguf

pytestmark = pytest.mark.any_database
QWEN: dict[str, Any] = {"model_type": "qwen3", "max_position_embeddings": 40_960}


def test_a_config_says_what_the_model_is() -> None:
    backend = get_backend("mlx")
    packed = backend.foresee({**QWEN, "quantization": {"bits": 4, "group_size": 64}})
    assert (packed.architecture, packed.quantization) == ("qwen3", "4-bit (group 64)")
    wide = {"quantization": {"bits": 8, "group_size": 32}, "torch_dtype": "float32"}
    assert backend.foresee({**QWEN, **wide}).quantization == "8-bit (group 32, float32)"
    nested = backend.foresee({"model_type": "gemma3", "text_config": {"dtype": "bfloat16"}})
    assert (nested.quantization, nested.context_length) == ("bfloat16", 2048)
    heads = {"architectures": ["XLMRobertaForSequenceClassification"], "num_labels": 1}
    assert backend.foresee({"model_type": "xlm-roberta", **heads}).embeds_only


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({"model_type": "novelnet"}, "does not support the architecture 'novelnet'"),
        ({}, "no model_type"),
        ({**QWEN, "auto_map": {}}, "its own code"),
        ({**QWEN, "quantization_config": {"quant_method": "fp8"}}, "quantized with fp8"),
        ({**QWEN, "quantization": {"bits": 7}}, "MLX knows"),
        ({**QWEN, "architectures": ["Qwen3ForSequenceClassification"]}, "does not write texts"),
        ({**QWEN, "max_position_embeddings": "long"}, "must be a whole number"),
    ],
)
def test_what_cannot_be_used_says_why(config: dict[str, Any], said: str) -> None:
    with pytest.raises(UnsupportedModel, match=said):
        get_backend("mlx").foresee(config)


def test_a_gguf_files_header_says_what_an_import_gives(
    starter_base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    backend = get_backend("mlx")
    found, imported = backend.foresee_gguf(starter_gguf()), backend.inspect(starter_base)
    assert found.architecture == imported.architecture
    assert found.quantization == imported.quantization
    assert found.parameters == imported.parameters
    assert found.context_length == imported.context_length
    weights = sum(file.stat().st_size for file in starter_base.glob("*.safetensors"))
    assert found.nbytes == pytest.approx(weights, rel=0.01)
    monkeypatch.setenv("HUB_ASSUMED_DEVICE", "metal")
    assert backend.foresee_gguf(starter_gguf()).quantization == "bfloat16"


def test_mlx_is_not_loaded_for_it() -> None:
    code = (
        "import sys; from backends import get_backend; from pathlib import Path; "
        f"get_backend('mlx').foresee({QWEN!r}); "
        f"get_backend('mlx').foresee_gguf(Path({str(starter_gguf())!r})); "
        "print([name for name in sys.modules if name.partition('.')[0] in ('mlx', 'mlx_lm')])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
