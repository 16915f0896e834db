"""Quantizing, fusing, comparing and exporting, with the real small model and a random one."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import gguf
import mlx.core as mx
import mlx_lm.utils
import numpy as np
import pytest
from mlx.utils import tree_flatten
from mlx_lm.models.qwen2 import Model, ModelArgs

from backends.base import Fidelity, LoraConfig, TrainingConfig, UnsupportedModel
from backends.mlx.evals.fidelity import fidelity
from backends.mlx.files.fuse import fuse
from backends.mlx.files.loading import open_model
from backends.mlx.files.quantize import quantize
from backends.mlx.gguf.export import export_gguf
from backends.mlx.gguf.importer import import_gguf
from backends.mlx.gguf.writable import check_gguf
from backends.mlx.training.lora import adapt, adapter_weights, write_adapter_config

ROWS = [
    ("What is the capital of France?", "The capital of France is Paris."),
    ("Say hello.", "Hello! How can I help you today?"),
]


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    path = tmp_path / "test.jsonl"
    lines = [json.dumps({"prompt": asked, "completion": said}) for asked, said in ROWS]
    path.write_text("\n".join(lines) + "\n")
    return path


def make_adapter(base: Path, folder: Path, size: float) -> Path:
    """An adapter on the top two layers whose second factor is random, `size` large."""
    model, _, _ = open_model(base)
    config = TrainingConfig(num_layers=2, lora=LoraConfig(rank=4, scale=2.0))
    adapt(model, config)
    folder.mkdir()
    write_adapter_config(folder, config)
    weights = {
        name: value if name.endswith("lora_a") else size * mx.random.normal(value.shape)
        for name, value in adapter_weights(model).items()
    }
    mx.save_safetensors(str(folder / "adapters.safetensors"), weights)
    return folder


def logits(folder: Path, adapter: Path | None = None) -> np.ndarray:
    model, _, _ = open_model(folder, adapter)
    return np.array(model(mx.array([[1, 42, 99, 7]]))[0].astype(mx.float32))


def test_the_starter_keeps_its_answers_in_8_bits_and_most_of_them_in_4(
    starter_base: Path, rows: Path, tmp_path: Path
) -> None:
    found: dict[int, Fidelity] = {}
    for bits in (8, 4):
        made = quantize(starter_base, tmp_path / str(bits), bits, 64)
        assert made.quantization == f"{bits}-bit (group 64, float32)"
        found[bits] = fidelity(starter_base, None, made.path, rows, most_tokens=24)
    assert found[8].tokens == found[4].tokens <= 24
    assert found[8].kl < 0.02
    assert found[8].top1 >= 0.9
    assert found[8].converted_perplexity == pytest.approx(found[8].perplexity, rel=0.1)
    assert found[8].kl < found[4].kl


def test_a_fused_starter_says_what_its_adapter_said(
    starter_base: Path, rows: Path, tmp_path: Path
) -> None:
    adapter = make_adapter(starter_base, tmp_path / "adapter", size=0.05)
    fused = fuse(starter_base, adapter, tmp_path / "fused")
    assert fused.parameters == 134_515_008
    assert np.abs(logits(fused.path) - logits(starter_base, adapter)).max() < 1e-2
    assert np.abs(logits(fused.path) - logits(starter_base)).max() > 0.1
    found = fidelity(starter_base, adapter, fused.path, rows, most_tokens=16)
    assert found.kl < 1e-4
    assert found.top1 == 1.0
    assert found.largest_difference < 1e-2


def test_a_model_beside_itself_differs_by_nothing(tiny_base: Path, rows: Path) -> None:
    found = fidelity(tiny_base, None, tiny_base, rows, most_tokens=8)
    assert (found.kl, found.top1, found.largest_difference) == (0.0, 1.0, 0.0)
    assert found.perplexity == found.converted_perplexity
    assert found.tokens == 8


def test_another_adapter_is_found_out(tiny_base: Path, rows: Path, tmp_path: Path) -> None:
    adapter = make_adapter(tiny_base, tmp_path / "adapter", size=5.0)
    found = fidelity(tiny_base, adapter, tiny_base, rows, most_tokens=30)
    assert found.largest_difference > 0.1
    assert found.kl > 0


def test_fusing_into_a_quantized_base_keeps_it_quantized(tiny_base: Path, tmp_path: Path) -> None:
    small = quantize(tiny_base, tmp_path / "small", 4, 32).path
    adapter = make_adapter(small, tmp_path / "adapter", size=0.05)
    assert fuse(small, adapter, tmp_path / "fused").quantization == "4-bit (group 32, float32)"


def test_weights_are_changed_without_reading_the_tokenizer(
    tiny_base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    adapter = make_adapter(tiny_base, tmp_path / "adapter", size=0.05)
    monkeypatch.setattr(mlx_lm.utils, "load_tokenizer", None)
    quantize(tiny_base, tmp_path / "small", 8, 64)
    fuse(tiny_base, adapter, tmp_path / "fused")
    with pytest.raises(UnsupportedModel):
        open_model(tiny_base)


def test_a_quantized_base_is_not_quantized_again(tiny_base: Path, tmp_path: Path) -> None:
    small = quantize(tiny_base, tmp_path / "small", 8, 64).path
    with pytest.raises(UnsupportedModel, match="quantized already"):
        quantize(small, tmp_path / "smaller", 4, 64)


def test_other_bits_are_refused(tiny_base: Path, tmp_path: Path) -> None:
    with pytest.raises(UnsupportedModel, match="4 or 8 bits"):
        quantize(tiny_base, tmp_path / "small", 3, 64)


def test_a_converted_folder_keeps_the_tokenizer_byte_for_byte(
    tiny_base: Path, tmp_path: Path
) -> None:
    made = quantize(tiny_base, tmp_path / "small", 8, 64).path
    for name in ("tokenizer.json", "tokenizer_config.json"):
        assert (made / name).read_bytes() == (tiny_base / name).read_bytes()
    assert sorted(path.suffix for path in made.iterdir()) == [".json"] * 4 + [".safetensors"]


def test_what_was_written_as_gguf_is_read_back_as_the_same_model(
    tiny_base: Path, tmp_path: Path
) -> None:
    export_gguf(tiny_base, tmp_path / "tiny.gguf")
    back = import_gguf(tmp_path / "tiny.gguf", tmp_path / "back", quantize=False).path
    assert np.abs(logits(back) - logits(tiny_base)).max() < 1e-2
    _, ours, _ = open_model(tiny_base)
    _, theirs, _ = open_model(back)
    chat = [{"role": "user", "content": "Il a payé 1234 €, n'est-ce pas?  \n\tOui"}]
    assert theirs.apply_chat_template(chat) == ours.apply_chat_template(chat)
    assert theirs.eos_token_id == ours.eos_token_id


def test_a_quantized_model_is_not_written_as_gguf(tiny_base: Path, tmp_path: Path) -> None:
    small = quantize(tiny_base, tmp_path / "small", 8, 64).path
    with pytest.raises(UnsupportedModel, match="fuse into an unquantized base"):
        export_gguf(small, tmp_path / "small.gguf")


def make_qwen2(tiny_base: Path, folder: Path) -> Path:
    """A random qwen2 with biases that matter, and the tokenizer of `tiny_base`."""
    shutil.copytree(tiny_base, folder)
    config = json.loads((folder / "config.json").read_text())
    config |= {"model_type": "qwen2", "rope_theta": 1000000.0, "tie_word_embeddings": False}
    (folder / "config.json").write_text(json.dumps(config))
    model = Model(ModelArgs.from_dict(config))
    weights = {
        name: mx.random.normal(value.shape) if name.endswith("bias") else value
        for name, value in tree_flatten(model.parameters())
    }
    mx.save_safetensors(str(folder / "model.safetensors"), weights, metadata={"format": "mlx"})
    return folder


def test_a_qwen2_survives_gguf_with_its_biases(tiny_base: Path, tmp_path: Path) -> None:
    qwen = make_qwen2(tiny_base, tmp_path / "qwen")
    export_gguf(qwen, tmp_path / "qwen.gguf")
    back = import_gguf(tmp_path / "qwen.gguf", tmp_path / "back", quantize=False)
    assert back.architecture == "qwen2"
    assert np.abs(logits(back.path) - logits(qwen)).max() < 1e-2
    assert np.abs(logits(qwen)).max() > 0.1


def known_keys(architecture: str) -> set[str]:
    """Every metadata key that llama.cpp's own package has a name for."""
    families = [family for family in vars(gguf.Keys).values() if isinstance(family, type)]
    values = [value for family in families for value in vars(family).values()]
    return {v.replace("{arch}", architecture) for v in values if isinstance(v, str)}


@pytest.mark.parametrize("architecture", ["llama", "qwen2"])
def test_the_reader_of_llama_cpp_finds_what_it_needs_in_a_gguf_of_ours(
    tiny_base: Path, tmp_path: Path, architecture: str
) -> None:
    base = tiny_base if architecture == "llama" else make_qwen2(tiny_base, tmp_path / "qwen")
    export_gguf(base, tmp_path / "model.gguf")
    reader = gguf.GGUFReader(tmp_path / "model.gguf")
    found = {name: field.contents() for name, field in reader.fields.items()}
    config = json.loads((base / "config.json").read_text())
    assert found["GGUF.version"] == 3
    assert found["general.architecture"] == architecture
    assert found["general.file_type"] == gguf.LlamaFileType.MOSTLY_F16
    assert found[f"{architecture}.block_count"] == config["num_hidden_layers"]
    assert found[f"{architecture}.attention.head_count_kv"] == config["num_key_value_heads"]
    assert found[f"{architecture}.rope.freq_base"] == config["rope_theta"]
    assert found["tokenizer.ggml.eos_token_id"] == config["eos_token_id"]
    assert len(found["tokenizer.ggml.tokens"]) == config["vocab_size"]
    assert set(found["tokenizer.ggml.token_type"]) <= {int(kind) for kind in gguf.TokenType}
    own = {name for name in found if not name.startswith("GGUF.")}
    assert own - known_keys(architecture) == set()

    arch = {name: key for key, name in gguf.MODEL_ARCH_NAMES.items()}[architecture]
    names = {gguf.TENSOR_NAMES[kind] for kind in gguf.MODEL_TENSORS[arch]}
    blocks = range(config["num_hidden_layers"])
    known = {name.format(bid=number) for name in names for number in blocks}
    tensors = {tensor.name: tensor for tensor in reader.tensors}
    assert {name.rpartition(".")[0] for name in tensors} - known == set()
    weights = mx.load(str(base / "model.safetensors"))
    for ours, theirs in (
        ("model.layers.1.mlp.down_proj.weight", "blk.1.ffn_down.weight"),
        ("model.layers.0.self_attn.v_proj.weight", "blk.0.attn_v.weight"),
        ("model.embed_tokens.weight", "token_embd.weight"),
        ("model.norm.weight", "output_norm.weight"),
    ):
        given, read = np.array(weights[ours]), tensors[theirs]
        assert read.shape.tolist() == list(reversed(given.shape))  # GGUF counts the other way
        kind = gguf.GGMLQuantizationType
        assert read.tensor_type == (kind.F32 if given.ndim == 1 else kind.F16)
        assert np.abs(read.data.reshape(given.shape) - given).max() < 1e-3


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"model_type": "mistral"}, "'mistral' cannot be written as GGUF; llama and qwen2 can"),
        ({"rope_scaling": {"rope_type": "linear", "factor": 2.0}}, "scaled positions"),
        ({"use_sliding_window": True}, "sliding attention window"),
        ({"layer_types": ["sliding_attention", "full_attention"]}, "sliding attention window"),
    ],
)
def test_what_gguf_cannot_hold_is_refused_by_its_files_alone(
    changed: dict[str, object], reason: str, tiny_base: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "other"
    shutil.copytree(tiny_base, folder)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | changed))
    with pytest.raises(UnsupportedModel, match=reason):
        check_gguf(folder)
