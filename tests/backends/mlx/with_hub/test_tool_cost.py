"""What tools add to the time before a first token, beside reading their description."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from backends.base import LoadedModel, Message, Sampling
from backends.mlx import MLXBackend
from inference.engine.requests.places import Place
from inference.engine.requests.row import Row
from inference.protocol import Folder, Generate
from tests.backends.mlx.tool_template import TEMPLATE, TOOLS, with_template

MOST_S = 0.005


@pytest.fixture(scope="module")
def model(tiny_base: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LoadedModel]:
    folder = with_template(tiny_base, tmp_path_factory.mktemp("tools") / "base", TEMPLATE)
    loaded = MLXBackend().load(folder)
    yield loaded
    loaded.close()


def admission(model: LoadedModel, tools: list[dict[str, Any]], *forced: str) -> float:
    """The generation thread's own seconds until a row is in the batch; the least of several."""
    spent = []
    for number in range(8):
        asked = Message(role="user", content=f"Lunch with Ana at {number}")
        request = Generate(
            request_id=f"r{number}",
            base=Folder(path="base/tiny"),
            messages=[asked],
            tools=tools,
            forced_tools=list(forced),
            sampling=Sampling(max_tokens=2),
        )
        row = Row(request, Place(Path("tiny")), lambda event: None)
        began = time.thread_time()
        model.insert(row.uid, row.encode(model), None, row.sampling(model))
        spent.append(time.thread_time() - began)
        model.remove(row.uid)
    return min(spent)


def test_a_tool_costs_no_more_than_5_ms(model: LoadedModel) -> None:
    without = admission(model, [])
    assert admission(model, TOOLS) - without < MOST_S
    assert admission(model, TOOLS, "weather") - without < MOST_S
