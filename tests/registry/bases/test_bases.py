"""Importing base models, with the backend that computes nothing."""

from __future__ import annotations

import json
import shutil
import struct
from pathlib import Path
from typing import Any

import pytest

from registry.bases import registration
from registry.errors import Conflict, Invalid, NotFound, Unavailable
from registry.models import BaseModel
from registry.storage import artifacts, paths
from tests.registry.build import make_base

pytestmark = [pytest.mark.django_db, pytest.mark.any_database]
Source = BaseModel.Source


@pytest.mark.both_databases
def test_a_gguf_file_becomes_a_folder_with_a_manifest() -> None:
    base = make_base("tiny")
    folder = registration.base_path(base)
    assert folder == paths.base_dir("tiny")
    assert artifacts.verify(folder) == []
    assert artifacts.read_manifest(folder).sha256 == base.manifest_sha256
    assert (base.architecture, base.source) == ("fake", "gguf")


def test_a_folder_is_copied_without_what_is_no_part_of_a_model(tmp_path: Path) -> None:
    original = registration.base_path(make_base("tiny"))
    (original / "notes.md").write_text("private")
    copy = registration.register_base("copy", Source.FOLDER, str(original))
    assert not (registration.base_path(copy) / "notes.md").exists()
    assert artifacts.verify(registration.base_path(copy)) == []


def cached(tmp_path: Path) -> Path:
    """A folder as a model hub's client keeps it: files under their hashes, and links to them."""
    original = registration.base_path(make_base("original"))
    root = tmp_path / "models--owner--small-model"
    snapshot = root / "snapshots" / "abc123"
    snapshot.mkdir(parents=True)
    (root / "blobs").mkdir()
    (root / "refs").mkdir()
    (root / "refs" / "main").write_text("abc123")
    for file in original.iterdir():
        if file.name != artifacts.MANIFEST:
            (root / "blobs" / file.name).write_bytes(file.read_bytes())
            (snapshot / file.name).symlink_to(f"../../blobs/{file.name}")
    return root


@pytest.mark.parametrize("inside", ["", "snapshots", "snapshots/abc123"])
def test_a_hub_clients_cache_is_read_through_its_links(inside: str, tmp_path: Path) -> None:
    folder = cached(tmp_path) / inside
    assert registration.default_name(folder) == "small-model"
    base = registration.register_base("copy", Source.FOLDER, str(folder))
    assert artifacts.verify(registration.base_path(base)) == []


def test_a_link_out_of_the_cache_is_refused(tmp_path: Path) -> None:
    root = cached(tmp_path)
    (tmp_path / "secret.json").write_text("{}")
    (root / "snapshots" / "abc123" / "secret.json").symlink_to(tmp_path / "secret.json")
    with pytest.raises(Invalid, match=r"secret\.json in models--owner--small-model leads out"):
        registration.register_base("copy", Source.FOLDER, str(root))
    (root / "snapshots" / "abc123").rename(tmp_path / "elsewhere")
    with pytest.raises(Invalid, match="holds no downloaded model"):
        registration.register_base("copy", Source.FOLDER, str(root))


def test_a_template_in_a_json_file_of_its_own_is_found_by_the_tokenizer(tmp_path: Path) -> None:
    original = registration.base_path(make_base("original"))
    for known, taken in ((None, "{{ messages }}"), ("own", None)):
        source = tmp_path / f"source-{known}"
        shutil.copytree(original, source)
        source.chmod(0o755)
        (source / "chat_template.json").write_text('{"chat_template": "{{ messages }}"}')
        (source / "tokenizer_config.json").unlink(missing_ok=True)
        (source / "tokenizer_config.json").write_text(json.dumps({"chat_template": known}))
        base = registration.register_base(f"copy-{known}", Source.FOLDER, str(source))
        template = registration.base_path(base) / "chat_template.jinja"
        assert (template.read_text() if template.exists() else None) == taken


def test_what_a_system_leaves_in_folders_is_no_damage(tmp_path: Path) -> None:
    folder = registration.base_path(make_base("tiny"))
    folder.chmod(0o755)
    (folder / ".DS_Store").write_bytes(b"x")
    (folder / "._config.json").write_bytes(b"x")
    assert artifacts.verify(folder) == []
    copy = registration.register_base("copy", Source.FOLDER, str(folder))
    assert not (registration.base_path(copy) / "._config.json").exists()


@pytest.mark.both_databases
def test_the_starter_is_imported_once() -> None:
    first = registration.register_starter()
    assert first.name == "SmolLM2-135M-Instruct"
    assert registration.register_starter() == first
    assert registration.register_base("x", Source.STARTER, "") == first
    assert BaseModel.objects.count() == 1


@pytest.mark.both_databases
def test_a_taken_name_is_refused_whatever_its_case() -> None:
    make_base("tiny")
    with pytest.raises(Conflict, match="already a base model named TINY"):
        make_base("TINY")


@pytest.mark.parametrize("name", ["../up", "", "a b", "a..b", "x" * 101, "-x", "a/b", "x\n"])
def test_bad_names_are_refused(name: str, tmp_path: Path) -> None:
    path = tmp_path / "a.gguf"
    path.write_bytes(b"GGUF")
    with pytest.raises(Invalid, match="not a valid name"):
        registration.register_base(name, Source.GGUF, str(path))


def test_what_is_no_model_leaves_nothing_behind(tmp_path: Path) -> None:
    path = tmp_path / "a.gguf"
    path.write_bytes(b"not a model")
    with pytest.raises(Invalid):
        registration.register_base("bad", Source.GGUF, str(path))
    with pytest.raises(NotFound):
        registration.register_base("bad", Source.GGUF, str(tmp_path / "missing.gguf"))
    with pytest.raises(Invalid, match="not a folder"):
        registration.register_base("bad", Source.FOLDER, str(path))
    assert not BaseModel.objects.exists()
    assert list((paths.root() / "base").iterdir()) == []
    assert list((paths.root() / "staging").iterdir()) == []


def test_the_type_of_scales_is_read_where_an_earlier_row_does_not_name_it() -> None:
    base = make_base("tiny")
    weights = registration.base_path(base) / "model.safetensors"
    base.quantization = "4-bit (group 64)"
    for dtype, said in (("BF16", base.quantization), ("F32", "4-bit (group 64, float32)")):
        entry = {"dtype": dtype, "shape": [1], "data_offsets": [0, 4]}
        header = json.dumps({"layer.scales": entry, "norm.weight": entry}).encode()
        weights.write_bytes(struct.pack("<Q", len(header)) + header)
        assert registration.precision_of(base) == said
    weights.write_bytes(b"damaged")  # what needs more memory is the safe answer
    assert registration.precision_of(base) == said
    for named in (said, "bfloat16"):
        base.quantization = named
        assert registration.precision_of(base) == named


def test_a_hub_id_is_no_path() -> None:
    with pytest.raises(Invalid, match="import_base"):
        registration.register_base("x", Source.HUB, "org/name")


@pytest.mark.both_databases
def test_the_only_base_need_not_be_named() -> None:
    base = make_base("tiny")
    assert registration.find_base(None) == base
    assert registration.find_base("TINY") == base
    make_base("other")
    with pytest.raises(Invalid, match="other, tiny"):
        registration.find_base(None)
    with pytest.raises(NotFound, match="no base model 'nope'"):
        registration.find_base("nope")


@pytest.mark.slow
def test_the_real_backend_is_asked_in_a_process_of_its_own(tmp_path: Path, settings: Any) -> None:
    settings.BACKEND = "mlx"
    path = tmp_path / "a.gguf"
    path.write_bytes(b"not a model")
    with pytest.raises(Invalid, match="GGUF"):
        registration.register_base("bad", Source.GGUF, str(path))


@pytest.mark.slow
def test_an_import_that_dies_is_told(tmp_path: Path, settings: Any) -> None:
    settings.BACKEND = "unheard-of"
    path = tmp_path / "a.gguf"
    path.write_bytes(b"GGUF")
    with pytest.raises(Unavailable, match="exit status 1: ValueError: Unknown backend"):
        registration.register_base("bad", Source.GGUF, str(path))
    assert not BaseModel.objects.exists()
