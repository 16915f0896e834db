from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from backends.base import UnsupportedModel
from backends.mlx import MLXBackend
from backends.mlx.gguf.importer import import_gguf
from backends.mlx.gguf.quants import BLOCKS, dequantize
from backends.mlx.gguf.reader import GGUFFile

HIDDEN, HEADS, GROUPS, LAYERS, INNER = 64, 4, 2, 2, 128
TOKENS = [chr(c) for c in range(33, 127)] + ["Ġ", "<|end|>", "ab"]


def string(text: str) -> bytes:
    return struct.pack("<Q", len(text.encode())) + text.encode()


def value(item: Any) -> bytes:
    """A metadata value with its type."""
    if isinstance(item, bool):
        return struct.pack("<I?", 7, item)
    if isinstance(item, int):
        return struct.pack("<II", 4, item)
    if isinstance(item, float):
        return struct.pack("<If", 6, item)
    if isinstance(item, str):
        return struct.pack("<I", 8) + string(item)
    body = b"".join(value(part)[4:] for part in item)
    return struct.pack("<I", 9) + value(item[0])[:4] + struct.pack("<Q", len(item)) + body


def make_gguf(path: Path, metadata: dict[str, Any], tensors: dict[str, np.ndarray]) -> Path:
    """Write a version 3 file of float32 tensors."""
    head = b"GGUF" + struct.pack("<IQQ", 3, len(tensors), len(metadata))
    head += b"".join(string(key) + value(item) for key, item in metadata.items())
    body = b""
    for name, array in tensors.items():
        shape = struct.pack(f"<I{array.ndim}Q", array.ndim, *reversed(array.shape))
        head += string(name) + shape + struct.pack("<IQ", 0, len(body))
        raw = array.astype("<f4").tobytes()
        body += raw + bytes(-len(raw) % 32)
    path.write_bytes(head + bytes(-len(head) % 32) + body)
    return path


def metadata(architecture: str = "llama", **overrides: Any) -> dict[str, Any]:
    named = {
        "general.architecture": architecture,
        f"{architecture}.embedding_length": HIDDEN,
        f"{architecture}.block_count": LAYERS,
        f"{architecture}.feed_forward_length": INNER,
        f"{architecture}.context_length": 512,
        f"{architecture}.attention.head_count": HEADS,
        f"{architecture}.attention.head_count_kv": GROUPS,
        f"{architecture}.attention.layer_norm_rms_epsilon": 1e-5,
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": "qwen2",
        "tokenizer.ggml.tokens": TOKENS,
        "tokenizer.ggml.token_type": [1] * 95 + [3, 1],
        "tokenizer.ggml.merges": ["a b"],
        "tokenizer.ggml.eos_token_id": 95,
        "tokenizer.chat_template": "{% for m in messages %}{{ m['content'] }}{% endfor %}",
    }
    return named | overrides


def tensors(architecture: str = "llama", **overrides: Any) -> dict[str, np.ndarray]:
    draw = np.random.default_rng(0)
    shapes: dict[str, tuple[int, ...]] = {
        "token_embd.weight": (len(TOKENS), HIDDEN),
        "output_norm.weight": (HIDDEN,),
    }
    for n in range(LAYERS):
        shapes |= {
            f"blk.{n}.attn_norm.weight": (HIDDEN,),
            f"blk.{n}.ffn_norm.weight": (HIDDEN,),
            f"blk.{n}.attn_q.weight": (HIDDEN, HIDDEN),
            f"blk.{n}.attn_k.weight": (HIDDEN // 2, HIDDEN),
            f"blk.{n}.attn_v.weight": (HIDDEN // 2, HIDDEN),
            f"blk.{n}.attn_output.weight": (HIDDEN, HIDDEN),
            f"blk.{n}.ffn_gate.weight": (INNER, HIDDEN),
            f"blk.{n}.ffn_up.weight": (INNER, HIDDEN),
            f"blk.{n}.ffn_down.weight": (HIDDEN, INNER),
        }
        if architecture == "qwen2":
            shapes |= {
                f"blk.{n}.attn_q.bias": (HIDDEN,),
                f"blk.{n}.attn_k.bias": (HIDDEN // 2,),
                f"blk.{n}.attn_v.bias": (HIDDEN // 2,),
            }
    made = {name: draw.normal(0, 0.1, shape) for name, shape in shapes.items()}
    return {name: array for name, array in (made | overrides).items() if array is not None}


@pytest.mark.parametrize("architecture", ["llama", "qwen2"])
def test_a_small_model_is_imported_whole(tmp_path: Path, architecture: str) -> None:
    from mlx_lm import load

    source = make_gguf(tmp_path / "m.gguf", metadata(architecture), tensors(architecture))
    described = import_gguf(source, tmp_path / "model", quantize=False)
    assert (described.architecture, described.context_length) == (architecture, 512)
    _, tokenizer = load(str(tmp_path / "model"))
    assert tokenizer.encode("ab a<|end|>") == [96, 94, TOKENS.index("a"), 95]
    assert tokenizer.eos_token_ids == {95}
    assert tokenizer.decode(tokenizer.encode("b a 12")) == "b a 12"


def test_rotary_rows_are_put_back_in_order(tmp_path: Path) -> None:
    import mlx.core as mx

    size = HIDDEN // HEADS
    # llama.cpp interleaves each head's two halves: its rows are 0, 8, 1, 9, … of the original.
    original = np.arange(HIDDEN)[:, None] + np.zeros((1, HIDDEN))
    order = [h * size + half * size // 2 + i for h in range(HEADS) for i in range(size // 2) for half in (0, 1)]  # fmt: skip
    file = tensors(**{"blk.0.attn_q.weight": original[order]})
    import_gguf(make_gguf(tmp_path / "m.gguf", metadata(), file), tmp_path / "m", quantize=False)
    weights = mx.load(str(tmp_path / "m" / "model.safetensors"))
    found = np.array(weights["model.layers.0.self_attn.q_proj.weight"])
    assert found.tolist() == original.tolist()


def test_the_quantized_type_loads_and_keeps_its_sizes(tmp_path: Path) -> None:
    from mlx_lm import load

    source = make_gguf(tmp_path / "m.gguf", metadata(), tensors())
    floats = import_gguf(source, tmp_path / "floats", quantize=False)
    packed = import_gguf(source, tmp_path / "packed", quantize=True)
    assert packed.quantization == "4-bit (group 64)"
    assert packed.parameters == floats.parameters
    model, _ = load(str(tmp_path / "packed"))
    assert model.layers[0].mlp.up_proj.bits == 4
    assert model.model.embed_tokens.bits == 8


@pytest.mark.slow
def test_the_starters_blocks_decode_as_mlx_decodes_them(starter_gguf: Path) -> None:
    import mlx.core as mx

    reference = mx.load(str(starter_gguf))
    with GGUFFile(starter_gguf) as file:
        for name, kind, bits in (("blk.0.attn_q", "Q4_1", 4), ("token_embd", "Q8_0", 8)):
            assert file.tensors[f"{name}.weight"].kind == kind
            parts = [reference[f"{name}.{part}"] for part in ("weight", "scales", "biases")]
            expected = mx.dequantize(*parts, group_size=32, bits=bits).astype(mx.float32)
            # MLX turns Q8_0's signed values into unsigned ones with a float16 bias.
            close = np.allclose(file.tensor(f"{name}.weight"), np.array(expected), atol=2e-2)
            assert close, name


@pytest.mark.slow
def test_a_large_models_own_blocks_are_kept_exactly_on_a_gpu(
    starter_gguf: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import mlx.core as mx

    monkeypatch.setenv("HUB_ASSUMED_DEVICE", "metal")
    monkeypatch.setattr("backends.mlx.gguf.importer._SMALL_BYTES", 0)
    packed = import_gguf(starter_gguf, tmp_path / "packed")
    assert packed.quantization == "4-bit (group 32)"
    kept = mx.load(str(tmp_path / "packed" / "model.safetensors"))
    with GGUFFile(starter_gguf) as file:
        heads = file.metadata["llama.attention.head_count"]
        for name, source, bits in (
            ("model.layers.3.mlp.up_proj", "blk.3.ffn_up", 4),
            ("model.layers.3.self_attn.q_proj", "blk.3.attn_q", 4),
            ("model.embed_tokens", "token_embd", 8),
        ):
            parts = [kept[f"{name}.{part}"].astype(mx.float32) for part in ("scales", "biases")]
            found = mx.dequantize(kept[f"{name}.weight"], *parts, group_size=32, bits=bits)
            expected = file.tensor(f"{source}.weight")
            if "attn_q" in source:
                halves = expected.reshape(heads, -1, 2, expected.shape[-1])
                expected = halves.swapaxes(1, 2).reshape(expected.shape)
            assert np.array_equal(np.array(found), expected), name


def test_a_small_model_keeps_16_bits_on_a_gpu_and_a_large_one_4(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HUB_ASSUMED_DEVICE", "metal")
    source = make_gguf(tmp_path / "m.gguf", metadata(), tensors())
    assert import_gguf(source, tmp_path / "small").quantization == "bfloat16"
    monkeypatch.setattr("backends.mlx.gguf.importer._SMALL_BYTES", 1000)
    assert import_gguf(source, tmp_path / "large").quantization == "4-bit (group 64)"


@pytest.mark.parametrize("name", ["Q4_0", "Q5_0", "Q8_0", "Q5_1", "Q4_K", "Q5_K", "Q6_K"])
def test_a_block_scales_with_its_scale(name: str) -> None:
    """Twice the float16 scales give exactly twice the values."""
    block = next(block for block in BLOCKS.values() if block.name == name)
    places = {"Q5_1": (0, 2), "Q4_K": (0, 2), "Q5_K": (0, 2), "Q6_K": (208,)}.get(name, (0,))
    raw = np.random.default_rng(1).integers(0, 256, block.nbytes, dtype=np.uint8)
    once, twice = raw.copy(), raw.copy()
    for place in places:
        once[place : place + 2] = np.array([0.5], np.float16).view(np.uint8)
        twice[place : place + 2] = np.array([1.0], np.float16).view(np.uint8)
    values = dequantize(once, name)
    assert values.shape == (block.size,)
    assert len(set(values.tolist())) > 8
    assert (dequantize(twice, name) == 2 * values).all()


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"general.architecture": "mamba"}, "architecture 'mamba'"),
        ({"llama.expert_count": 8}, "Mixture-of-experts"),
        ({"tokenizer.ggml.model": "llama"}, "tokenizer is of the kind 'llama'"),
        ({"tokenizer.ggml.pre": "martian"}, "unknown rule 'martian'"),
        ({"llama.rope.scaling.type": "yarn"}, "position scaling 'yarn'"),
    ],
)
def test_what_cannot_be_imported_is_named(
    tmp_path: Path, change: dict[str, Any], reason: str
) -> None:
    source = make_gguf(tmp_path / "m.gguf", metadata(**change), tensors())
    with pytest.raises(UnsupportedModel, match=reason):
        MLXBackend().import_gguf(source, tmp_path / "model")


def test_a_missing_key_is_named(tmp_path: Path) -> None:
    known = metadata()
    del known["llama.block_count"]
    with pytest.raises(UnsupportedModel, match="block_count"):
        import_gguf(make_gguf(tmp_path / "m.gguf", known, tensors()), tmp_path / "model")


@pytest.mark.parametrize("missing", ["blk.1.attn_q.weight", "token_embd.weight"])
def test_a_missing_tensor_is_noticed(tmp_path: Path, missing: str) -> None:
    source = make_gguf(tmp_path / "m.gguf", metadata(), tensors(**{missing: None}))
    with pytest.raises(UnsupportedModel, match=r"The file (lacks|has no)"):
        import_gguf(source, tmp_path / "model")


def test_an_unknown_tensor_type_is_named(tmp_path: Path) -> None:
    source = make_gguf(tmp_path / "m.gguf", metadata(), tensors())
    raw = source.read_bytes()
    mark = string("output_norm.weight") + struct.pack("<IQ", 1, HIDDEN)
    at = raw.index(mark) + len(mark)
    source.write_bytes(raw[:at] + struct.pack("<I", 16) + raw[at + 4 :])
    with pytest.raises(UnsupportedModel, match=r"output_norm\.weight in the tensor type 16"):
        import_gguf(source, tmp_path / "model")


def test_every_truncation_is_refused(tmp_path: Path) -> None:
    whole = make_gguf(tmp_path / "m.gguf", metadata(), tensors()).read_bytes()
    cut = tmp_path / "cut.gguf"
    for length in [0, 3, 5, 20, 30, 100, 500, 1500, len(whole) // 2, len(whole) - 64]:
        cut.write_bytes(whole[:length])
        with pytest.raises(UnsupportedModel):
            GGUFFile(cut)


def test_nonsense_never_breaks_the_reader(tmp_path: Path) -> None:
    """Each of 200 files with random bytes in the header is read or refused, nothing else."""
    whole = make_gguf(tmp_path / "m.gguf", metadata(), tensors()).read_bytes()
    draw = np.random.default_rng(2)
    path = tmp_path / "bad.gguf"
    refused = 0
    for _ in range(200):
        raw = bytearray(whole)
        for at in draw.integers(4, 4000, 6):
            raw[at] = draw.integers(256)
        path.write_bytes(raw)
        try:
            GGUFFile(path).close()
        except UnsupportedModel:
            refused += 1
    assert refused > 20


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(UnsupportedModel, match=r"no file .*gone\.gguf"):
        import_gguf(tmp_path / "gone.gguf", tmp_path / "model")


# ---------------------------------------------------------------- inspect


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    source = make_gguf(tmp_path / "m.gguf", metadata(), tensors())
    import_gguf(source, tmp_path / "model", quantize=False)
    return tmp_path / "model"


def edit(path: Path, **changes: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


@pytest.mark.parametrize("name", ["modeling.py", "pytorch_model.bin", "a.pt", "sub/b.pkl"])
def test_code_and_pickles_are_refused(folder: Path, name: str) -> None:
    (folder / name).parent.mkdir(exist_ok=True)
    (folder / name).write_bytes(b"x")
    with pytest.raises(UnsupportedModel, match=Path(name).name):
        MLXBackend().inspect(folder)


@pytest.mark.parametrize(
    ("file", "key"),
    [
        ("config.json", "model_file"),
        ("config.json", "auto_map"),
        ("tokenizer_config.json", "auto_map"),
    ],
)
def test_configurations_that_name_code_are_refused(folder: Path, file: str, key: str) -> None:
    edit(folder / file, **{key: "modeling.Model"})
    with pytest.raises(UnsupportedModel, match=f"'{key}' in {file}"):
        MLXBackend().inspect(folder)


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "model.safetensors"])
def test_an_incomplete_folder_is_refused(folder: Path, name: str) -> None:
    (folder / name).unlink()
    stem, suffix = name.split(".")
    with pytest.raises(UnsupportedModel, match=rf"has no {stem}\*?\.{suffix}"):
        MLXBackend().inspect(folder)


def test_truncated_weights_are_refused(folder: Path) -> None:
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1])
    with pytest.raises(UnsupportedModel, match="truncated"):
        MLXBackend().inspect(folder)


@pytest.mark.parametrize("name", ["no_such_model", "../llama", None])
def test_an_unknown_architecture_is_refused(folder: Path, name: str | None) -> None:
    edit(folder / "config.json", model_type=name)
    with pytest.raises(UnsupportedModel, match=r"architecture|model_type"):
        MLXBackend().inspect(folder)
