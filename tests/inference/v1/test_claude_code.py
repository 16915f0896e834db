"""Claude Code itself, with its default settings, where it is installed; a fake model plays its own."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.inference.processes import Hub, own_database

CLAUDE = shutil.which("claude")
pytestmark = pytest.mark.skipif(
    CLAUDE is None, reason="Claude Code is not installed (npm install -g @anthropic-ai/claude-code)"
)
# Its prompt has some 20,000 tokens, more than the fake's own models take.
SEED = """
import json, shutil
import tests.inference.seed as seed
seed.main()
from registry.bases import registration
from registry.models import BaseModel
from registry.storage import paths
folder = paths.root().parent / "long"
folder.mkdir()
for path in paths.base_dir("tiny").iterdir():
    if "manifest" not in path.name:
        shutil.copyfile(path, folder / path.name)
config = json.loads((folder / "config.json").read_text())
(folder / "config.json").write_text(json.dumps(config | {"max_position_embeddings": 200_000}))
registration.register_base("long", BaseModel.Source.FOLDER, str(folder))
"""


@pytest.fixture(scope="module")
def long_hub(tmp_path_factory: pytest.TempPathFactory, database: str) -> Iterator[Hub]:
    with own_database() as database_url:
        hub = Hub(tmp_path_factory.mktemp("claude") / "storage", database_url)
        try:
            seeded = hub.run("-c", SEED)
            assert seeded.returncode == 0, seeded.stderr
            hub.start_web()
            hub.start_engine(REPLY_WORDS=12)
            yield hub
        finally:
            hub.stop()


def test_it_asks_calls_tools_and_goes_on(long_hub: Hub, tmp_path: Path) -> None:
    (tmp_path / "home").mkdir()
    (tmp_path / "work").mkdir()
    asked = subprocess.run(
        [
            str(CLAUDE),
            *("-p", "Read the file notes.txt", "--model", "base:long"),
            *("--output-format", "json", "--max-turns", "4"),
        ],
        env={
            "PATH": os.environ["PATH"],
            "HOME": str(tmp_path / "home"),
            "ANTHROPIC_BASE_URL": long_hub.url,
            "ANTHROPIC_API_KEY": "any",
            "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
        },
        cwd=tmp_path / "work",
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )
    said = json.loads(asked.stdout)
    assert said["subtype"] in ("success", "error_max_turns"), asked.stdout + asked.stderr
    assert said["num_turns"] > 1
    log = [row for row in long_hub.requests() if row["api"] == "anthropic"]
    assert {row["status"] for row in log} == {"completed"}
    assert "tool_calls" in {row["finish_reason"] for row in log}
    assert max(row["cached_tokens"] / row["prompt_tokens"] for row in log) > 0.9
