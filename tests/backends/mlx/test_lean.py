"""transformers reads the sources of its models once on a machine, not twice in each process."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from backends.mlx import lean
from hub.config import ROOT

FOUND = {frozenset({"torch"}): {"bert.modeling_bert": {"BertModel"}}}


def test_names_are_kept_for_the_folder_of_all_models_alone(tmp_path: Path) -> None:
    models, caches, scanned = tmp_path / "models", tmp_path / "caches", list[str]()
    (models / "bert").mkdir(parents=True)

    def scan(path: Path | str, prefix: str | None = None) -> Any:
        scanned.append(f"{Path(path).relative_to(tmp_path)} {prefix}")
        return FOUND

    names = lean.kept(scan, models, caches)
    for _ in range(2):
        assert names(models, prefix="models") == FOUND
        assert names(str(models / "__init__.py")) == FOUND
        assert names(str(models / "bert" / "__init__.py")) == FOUND
    all_models = ["models models", "models/__init__.py None"]
    of_bert = ["models/bert/__init__.py None"]
    assert scanned == [*all_models, *of_bert, *of_bert]

    for file in caches.iterdir():
        file.write_bytes(b"{")
    assert names(models, prefix="models") == FOUND  # what is damaged is made again
    assert len(scanned) == 5
    assert names(models, prefix="models") == FOUND
    assert len(scanned) == 5


def test_transformers_finds_the_same_names(tmp_path: Path) -> None:
    code = """
import json, sys
from pathlib import Path
from backends.mlx import device
device.prepare()
import transformers
from transformers.utils import import_utils
folder = Path(transformers.__file__).parent / "models"
fresh = import_utils.spread_import_structure(import_utils.create_import_structure_from_path(folder))
kept = import_utils.define_import_structure(str(folder / "__init__.py"))
print(json.dumps([fresh == kept, transformers.AutoTokenizer.__name__]))
"""
    caches = tmp_path / "caches"
    environment = {**os.environ, "HOME": str(tmp_path), "XDG_CACHE_HOME": str(caches)}
    said = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=environment, capture_output=True, check=True
    )
    assert json.loads(said.stdout.splitlines()[-1]) == [True, "AutoTokenizer"]
    assert len(list(tmp_path.rglob("transformers-*.json"))) == 2
