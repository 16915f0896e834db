"""Model folders and GGUF files made to harm: each is refused in a sentence, quickly and with little
memory. All are read in one child process, so that one which hangs or dies is known by its name."""

from __future__ import annotations

import json
import os
import shutil
import struct
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.backends.mlx.gguf.test_gguf import (
    HIDDEN,
    INNER,
    TOKENS,
    edit,
    make_gguf,
    metadata,
    string,
    tensors,
)

MOST_S, MOST_BYTES = 5.0, 500 << 20
DEEP = "[" * 100_000 + "]" * 100_000
HUGE = 1 << 43  # bytes


def header(folder: Path, entries: dict[str, Any], data: int = 0) -> None:
    text = json.dumps(entries).encode()
    (folder / "model.safetensors").write_bytes(struct.pack("<Q", len(text)) + text + bytes(data))


def config(**changes: Any) -> Callable[[Path], object]:
    return lambda folder: edit(folder / "config.json", **changes)


def text(name: str, content: str) -> Callable[[Path], object]:
    return lambda folder: (folder / name).write_text(content)


def pipe(name: str) -> Callable[[Path], object]:
    def make(folder: Path) -> None:
        (folder / name).unlink(missing_ok=True)
        os.mkfifo(folder / name)

    return make


def sparse(path: Path) -> None:
    with path.open("r+b") as file:
        file.truncate(HUGE)


def sparse_weights(folder: Path) -> None:
    data = HUGE - (1 << 20)
    header(folder, {"a": {"dtype": "U8", "shape": [data], "data_offsets": [0, data]}})
    sparse(folder / "model.safetensors")


def loop(name: str) -> Callable[[Path], object]:
    def make(folder: Path) -> None:
        (folder / name).unlink(missing_ok=True)
        (folder / name).symlink_to(folder / name)

    return make


def tensor(**changes: Any) -> Callable[[Path], object]:
    entry = {"dtype": "F32", "shape": [4], "data_offsets": [0, 16]} | changes
    return lambda folder: header(folder, {"a": entry}, 16)


def device(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    (folder / "model.safetensors").symlink_to("/dev/zero")


def many_files(folder: Path) -> None:
    for number in range(10_001):
        (folder / f"{number}.txt").touch()


FOLDERS: dict[str, tuple[Callable[[Path], object], str]] = {
    "quantization is true": (config(quantization=True), "quantization in config.json is true"),
    "quantization is a list": (config(quantization=[4, 64]), "quantization in config.json is"),
    "quantization without bits": (config(quantization={"group_size": 64}), "bits missing"),
    "bits is a text": (config(quantization={"bits": "4", "group_size": 64}), "bits"),
    "a billion bits": (config(quantization={"bits": 10**9, "group_size": 64}), "MLX knows"),
    "bits of a layer": (
        config(quantization={"bits": 4, "group_size": 64, "a": {"bits": 0, "group_size": 64}}),
        "bits 0",
    ),
    "a context of -1": (config(max_position_embeddings=-1), "whole number from 1"),
    "a context of 10^30": (config(max_position_embeddings=10**30), "whole number from 1"),
    "a context of infinity": (config(max_position_embeddings=float("inf")), "whole number"),
    "a context that is a list": (config(max_position_embeddings=[1]), "whole number"),
    "an inner context": (config(text_config={"hidden_size": 10**9}), "hidden_size"),
    "the package itself as model type": (config(model_type="__init__"), "no model_type"),
    "a helper as model type": (config(model_type="cache"), "does not support"),
    "a path as model type": (config(model_type="../models/llama"), "no model_type"),
    "four billion layers": (config(num_hidden_layers=2**32 - 1), "num_hidden_layers"),
    "a billion layers": (config(num_hidden_layers=10**9), "the weights have fewer"),
    "no heads": (config(num_attention_heads=0), "num_attention_heads"),
    "heads that are a text": (config(num_attention_heads="8"), "num_attention_heads"),
    "a billion tokens": (config(vocab_size=10**9), "the weights have fewer"),
    "true as a size": (config(hidden_size=True), "hidden_size in config.json is true"),
    "deep JSON in config": (text("config.json", f'{{"model_type": {DEEP}}}'), "not readable"),
    "deep JSON in the tokenizer's settings": (text("tokenizer_config.json", DEEP), "not readable"),
    "deep JSON in the tokenizer": (text("tokenizer.json", f'{{"a": {DEEP}}}'), "cannot be read"),
    "deep JSON in the index": (text("model.safetensors.index.json", DEEP), "not readable"),
    "deep JSON as weights": (
        lambda folder: (folder / "model.safetensors").write_bytes(
            struct.pack("<Q", len(DEEP)) + DEEP.encode()
        ),
        "not a safetensors file",
    ),
    "a tokenizer that is none": (text("tokenizer.json", "{}"), "tokenizer.json cannot be read"),
    "config.json of 20 MB": (text("config.json", " " * (20 << 20) + "{}"), "MB long"),
    "a number of 10,000 digits": (text("config.json", f'{{"a": {"9" * 10_000}}}'), "not readable"),
    "a million dimensions": (tensor(shape=[2] * 1_000_000), "dimensions"),
    "bignum dimensions": (tensor(shape=[10**4000] * 8), "not a whole number"),
    "a shape that is a text": (tensor(shape="4444"), "not a"),
    "one dimension too large": (tensor(shape=[1 << 61, 8]), "does not match its shape"),
    "an entry that is a list": (lambda folder: header(folder, {"a": [1, 2]}), "not a safetensors"),
    "no weights in the weights": (lambda folder: header(folder, {}), "hold no weights"),
    "a header of 4 GB": (
        lambda folder: (folder / "model.safetensors").write_bytes(struct.pack("<Q", 1 << 32)),
        "longer than the file",
    ),
    "a pipe as weights": (pipe("model.safetensors"), "is no file"),
    "a pipe as more weights": (pipe("model-2.safetensors"), "is no file"),
    "a pipe as config": (pipe("config.json"), "no config.json"),
    "a pipe as tokenizer": (pipe("tokenizer.json"), "is no file"),
    "a pipe as index": (pipe("model.safetensors.index.json"), "is no file"),
    "eight terabytes of nothing": (sparse_weights, "were ever written"),
    "weights linked to themselves": (loop("model.safetensors"), "leads nowhere"),
    "a folder linked to itself": (loop("more"), "leads nowhere"),
    "a device as weights": (device, "leads out of the folder"),
    "10,001 files": (many_files, "over 10000 files"),
}


def llama(key: str, value: Any) -> Callable[[Path], object]:
    return lambda path: make_gguf(path, metadata(**{f"llama.{key}": value}), tensors())


def ggml(key: str, value: Any) -> Callable[[Path], object]:
    changed = metadata(**{f"tokenizer.ggml.{key}": value})
    return lambda path: make_gguf(path, changed, tensors())


def raw(*parts: bytes) -> Callable[[Path], object]:
    return lambda path: path.write_bytes(b"GGUF" + b"".join(parts))


def replaced(old: bytes, new: bytes) -> Callable[[Path], object]:
    def make(path: Path) -> None:
        whole = make_gguf(path, metadata(), tensors()).read_bytes()
        assert old in whole
        path.write_bytes(whole.replace(old, new, 1))

    return make


def shared(path: Path) -> None:
    """Every tensor at the place of the first."""
    whole = bytearray(make_gguf(path, metadata(), tensors()).read_bytes())
    for name, shape in (
        ("blk.0.attn_q.weight", (HIDDEN, HIDDEN)),
        ("blk.0.attn_output.weight", (HIDDEN, HIDDEN)),
    ):
        mark = string(name) + struct.pack("<I2QI", 2, *reversed(shape), 0)
        at = whole.index(mark) + len(mark)
        whole[at : at + 8] = struct.pack("<Q", 0)
    path.write_bytes(whole)


def sparse_gguf(path: Path) -> None:
    make_gguf(path, metadata(), tensors())
    sparse(path)


EMBEDDING = string("token_embd.weight") + struct.pack("<I", 2)
GGUFS: dict[str, tuple[Callable[[Path], object], str]] = {
    "four billion blocks": (llama("block_count", 2**32 - 1), "whole number"),
    "two billion blocks": (llama("block_count", 2**31 - 1), "lacks tensors"),
    "no blocks": (llama("block_count", 0), "block_count"),
    "no heads": (llama("attention.head_count", 0), "attention.head_count"),
    "a list of heads": (llama("attention.head_count", [4, 4]), "attention.head_count is"),
    "a list of groups": (llama("attention.head_count_kv", [2, 2]), "head_count_kv"),
    "no groups": (llama("attention.head_count_kv", 0), "head_count_kv"),
    "more heads than width": (llama("attention.head_count", 1000), "do not fit its width"),
    "a width that is a text": (llama("embedding_length", "64"), "embedding_length"),
    "another width": (llama("embedding_length", 128), "its header says"),
    "an inner width beyond all": (llama("feed_forward_length", 10**9), "its header says"),
    "a context of nothing": (llama("context_length", 0), "context_length"),
    "a norm that is no number": (
        llama("attention.layer_norm_rms_epsilon", float("nan")),
        "number above 0",
    ),
    "a frequency that is a text": (llama("rope.freq_base", "10000"), "number above 0"),
    "an id out of range": (ggml("eos_token_id", 10**6), "eos_token_id"),
    "an id that is a text": (ggml("bos_token_id", "<s>"), "bos_token_id"),
    "merges outside the vocabulary": (ggml("merges", ["a b", "zz yy"]), "not in its vocabulary"),
    "a merge of one part": (ggml("merges", ["ab"]), "not in its vocabulary"),
    "tokens that are numbers": (ggml("tokens", [1, 2, 3]), "no list"),
    "tokens that are one text": (ggml("tokens", "abc"), "no list"),
    "one token twice": (ggml("tokens", [*TOKENS[:-1], TOKENS[0]]), "same token twice"),
    "more tokens than weights": (ggml("tokens", [*TOKENS, "a b"]), "weights for"),
    "a template that is a number": (
        lambda path: make_gguf(path, metadata(**{"tokenizer.chat_template": 7}), tensors()),
        "chat_template",
    ),
    "a rule for text that is a list": (ggml("pre", ["qwen2"]), "unknown rule"),
    "an alignment of zero": (
        lambda path: make_gguf(path, metadata(**{"general.alignment": 0}), tensors()),
        "alignment",
    ),
    "an alignment that is a text": (
        lambda path: make_gguf(path, metadata(**{"general.alignment": "32"}), tensors()),
        "alignment",
    ),
    "millions of dimensions": (
        replaced(EMBEDDING, EMBEDDING[:-4] + struct.pack("<I", 4_000_000)),
        "dimensions",
    ),
    "a dimension of 2^63": (
        replaced(
            EMBEDDING + struct.pack("<2Q", HIDDEN, len(TOKENS)),
            EMBEDDING + struct.pack("<2Q", 1 << 63, len(TOKENS)),
        ),
        "past its end",
    ),
    "tensors that share their bytes": (shared, "overlaps"),
    "2^60 entries": (raw(struct.pack("<IQQ", 3, 1, 1 << 60)), "absurd"),
    "2^60 tensors": (raw(struct.pack("<IQQ", 3, 1 << 60, 1)), "absurd"),
    "a list of 2^60": (
        raw(struct.pack("<IQQ", 3, 0, 1), string("a"), struct.pack("<IIQ", 9, 8, 1 << 60)),
        "absurd",
    ),
    "lists of lists without end": (
        raw(
            struct.pack("<IQQ", 3, 0, 1),
            string("a"),
            struct.pack("<I", 9),
            struct.pack("<IQ", 9, 1) * 100_000,
        ),
        "nonsense",
    ),
    "a list of 100 MB": (
        raw(
            struct.pack("<IQQ", 3, 0, 1),
            string("a"),
            struct.pack("<IIQ", 9, 0, 100 << 20),
            bytes(100 << 20),
        ),
        "absurd",
    ),
    "a text of 2^60 bytes": (raw(struct.pack("<IQQQ", 3, 0, 1, 1 << 60)), "nonsense"),
    "eight terabytes of nothing": (sparse_gguf, "were ever written"),
    "a wider gate": (
        lambda path: make_gguf(
            path,
            metadata(),
            tensors(**{"blk.1.ffn_gate.weight": np.zeros((INNER, 2 * HIDDEN))}),
        ),
        "its header says",
    ),
    "a block too many": (
        lambda path: make_gguf(
            path, metadata(), tensors(**{"blk.9.attn_norm.weight": np.zeros(HIDDEN)})
        ),
        "model of 2 blocks",
    ),
    "a superscript block": (
        lambda path: make_gguf(
            path, metadata(), tensors(**{"blk.².attn_norm.weight": np.zeros(HIDDEN)})
        ),
        "model of 2 blocks",
    ),
}
CASES = [("folder", name) for name in FOLDERS] + [("gguf", name) for name in GGUFS]

READ_ALL = """
import json, resource, sys, time
from pathlib import Path
from backends.mlx import MLXBackend

def peak():
    if sys.platform == "darwin":
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    status = Path("/proc/self/status").read_text()  # getrusage begins with the parent's peak
    return int(status.split("VmHWM:")[1].split()[0]) << 10

backend, root = MLXBackend(), Path(sys.argv[1])
for path in sorted(root.iterdir()):
    started = time.monotonic()
    print(json.dumps({"start": path.name}), flush=True)
    try:
        if path.name.endswith(".gguf"):
            backend.import_gguf(path, root.parent / "out" / path.name)
        else:
            backend.inspect(path)
        said = "", "accepted"
    except BaseException as error:
        said = type(error).__name__, str(error)
    print(json.dumps({"of": path.name, "said": said, "s": time.monotonic() - started, "peak": peak()}), flush=True)
"""


@dataclass(frozen=True)
class Read:
    kind: str
    sentence: str
    seconds: float
    peak: int


@pytest.fixture(scope="module")
def read(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, str], Read]:
    """What reading each of the cases gave."""
    root = tmp_path_factory.mktemp("hostile") / "cases"
    root.mkdir()
    good = root / "000"
    source = make_gguf(root / "001.gguf", metadata(), tensors())
    from backends.mlx.gguf.importer import import_gguf

    import_gguf(source, good, quantize=False)
    names = {}
    for number, (kind, name) in enumerate(CASES, 2):
        path = root / (f"{number:03}.gguf" if kind == "gguf" else f"{number:03}")
        if kind == "folder":
            shutil.copytree(good, path)
        (FOLDERS if kind == "folder" else GGUFS)[name][0](path)
        names[path.name] = (kind, name)
    child = subprocess.run(
        [sys.executable, "-c", READ_ALL, str(root)], capture_output=True, text=True, timeout=300
    )
    lines = [json.loads(line) for line in child.stdout.splitlines()]
    assert child.returncode == 0, (child.stderr[-500:], names.get(lines[-1].get("start", "")))
    found = [line for line in lines if "of" in line]
    assert [line["said"] for line in found[:2]] == [["", "accepted"]] * 2
    return {
        names[line["of"]]: Read(line["said"][0], line["said"][1], line["s"], line["peak"])
        for line in found[2:]
    }


@pytest.mark.parametrize(("kind", "name"), CASES, ids=[f"{kind}: {name}" for kind, name in CASES])
def test_each_is_refused_in_a_sentence(
    read: dict[tuple[str, str], Read], kind: str, name: str
) -> None:
    got = read[kind, name]
    assert got.kind == "UnsupportedModel", got
    assert (FOLDERS if kind == "folder" else GGUFS)[name][1] in got.sentence
    assert got.sentence.endswith(".")
    assert "\n" not in got.sentence
    assert len(got.sentence) < 400
    assert got.seconds < MOST_S
    assert got.peak < MOST_BYTES
