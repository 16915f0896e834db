"""Coding agents as they come, each to the end of a session with a file edit; a fake model plays its own.

They are not among the project's dependencies. To run all of them: `npm install --prefix FOLDER
@anthropic-ai/claude-code @openai/codex opencode-ai`, then `PATH=$PATH:FOLDER/node_modules/.bin
uv run pytest tests/inference/clients/test_agents.py`.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.inference.processes import Hub

pytestmark = pytest.mark.any_database

TASK = "Create the file note.txt with the word hello, then change hello to goodbye."
LAST = "The note says goodbye."
Say = Callable[..., Hub]
BEFORE: set[str] = set()  # requests of other tests to the same hub


def called(name: str, **arguments: Any) -> str:
    return f"<tool_call>{json.dumps({'name': name, 'arguments': arguments})}</tool_call>"


@pytest.fixture
def say(processes: Hub) -> Iterator[Say]:
    """Starts a model that says these things in turn, with room for an agent's prompt."""

    def start(*said: str) -> Hub:
        processes.start_engine(REPLY="\f".join([*said, LAST]), CONTEXT=200_000)
        BEFORE.update(row["request_id"] for row in processes.requests())
        return processes

    yield start
    processes.start_engine()


@pytest.fixture
def work(tmp_path: Path) -> Path:
    for name in ("home", "work"):
        (tmp_path / name).mkdir()
    return tmp_path / "work"


def run(work: Path, *command: str, **env: str) -> subprocess.CompletedProcess[str]:
    """Skips the test where the agent is not installed."""
    program = shutil.which(command[0])
    if program is None:
        pytest.skip(f"{command[0]} is not installed ({PACKAGES[command[0]]} from npm)")
    return subprocess.run(
        [program, *command[1:]],
        cwd=work,
        env={"PATH": os.environ["PATH"], "HOME": str(work.parent / "home"), **env},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )


PACKAGES = {"claude": "@anthropic-ai/claude-code", "opencode": "opencode-ai"}


def new_rows(hub: Hub, api: str) -> list[dict[str, Any]]:
    """Those of this test that are as long as an agent's prompt."""
    new = [row for row in hub.requests() if row["request_id"] not in BEFORE]
    return [row for row in new if row["api"] == api and row["prompt_tokens"] > 2000]


def test_claude_code_finishes_a_session_with_a_file_edit(say: Say, work: Path) -> None:
    note = str(work / "note.txt")
    hub = say(
        "I write it." + called("Write", file_path=note, content="hello\n"),
        called("Edit", file_path=note, old_string="hello", new_string="goodbye"),
    )
    ran = run(
        work,
        *("claude", "-p", TASK, "--model", "calendar"),
        *("--output-format", "json", "--permission-mode", "acceptEdits"),
        ANTHROPIC_BASE_URL=hub.url,
        ANTHROPIC_API_KEY="any",
        CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC="1",
    )
    told = json.loads(ran.stdout)
    assert (told["subtype"], told["result"]) == ("success", LAST), ran.stdout + ran.stderr
    assert (work / "note.txt").read_text() == "goodbye\n"
    rows = new_rows(hub, "anthropic")
    assert {row["status"] for row in rows} == {"completed"}
    assert max(row["cached_tokens"] / row["prompt_tokens"] for row in rows) > 0.9


def opencode_config(hub: Hub) -> str:
    models = {"calendar": {"limit": {"context": 200_000, "output": 32_000}}}
    options = {"baseURL": f"{hub.url}/v1", "apiKey": "any"}
    provider = {"npm": "@ai-sdk/openai-compatible", "options": options, "models": models}
    return json.dumps({"provider": {"hub": provider}, "share": "disabled", "autoupdate": False})


def test_opencode_finishes_a_session_with_a_file_edit(say: Say, work: Path) -> None:
    note = str(work / "note.txt")
    hub = say(
        "I write it." + called("write", filePath=note, content="hello\n"),
        called("edit", filePath=note, oldString="hello", newString="goodbye"),
    )
    ran = run(
        work,
        *("opencode", "run", "--model", "hub/calendar", TASK),
        OPENCODE_CONFIG_CONTENT=opencode_config(hub),
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert LAST in ran.stdout, ran.stdout + ran.stderr
    assert (work / "note.txt").read_text() == "goodbye\n"
    rows = new_rows(hub, "openai")
    assert {row["status"] for row in rows} == {"completed"}, rows
