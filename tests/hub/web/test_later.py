"""The web process answers the compatible APIs while it imports the rest; whoever asks for more waits."""

from __future__ import annotations

import asyncio
import gc
import inspect
import sys
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import pytest
from django.urls import resolve

from hub.web import later
from hub.web.inloop import OF_PAGES, Handler, by_path


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/ollama/api/chat", "/health", "/"])
async def test_only_the_compatible_apis_answer_before_the_rest_is_there(
    path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    coming, answered = Future[None](), list[str]()

    async def application(scope: dict[str, Any], receive: Any, send: Any) -> None:
        answered.append(scope["path"])

    monkeypatch.setattr(later, "_coming", coming)
    asked = asyncio.create_task(later.waiting(application)({"path": path}, None, None))
    await asyncio.sleep(0.01)
    assert answered == ([path] if path.startswith(("/v1", "/ollama")) else [])
    coming.set_result(None)
    await asked
    assert answered == [path]


def test_what_is_missing_then_is_imported(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "routes_of_a_test.py").write_text("")
    monkeypatch.setattr(later, "ROUTES", "routes_of_a_test")
    monkeypatch.setattr(later, "_coming", None)
    monkeypatch.setattr(gc, "freeze", lambda: None)  # what tests leave is garbage
    later.begin().result(10)
    assert sys.modules.pop("routes_of_a_test")
    (tmp_path / "routes_of_a_test.py").write_text("1 / 0")
    with pytest.raises(ZeroDivisionError):
        later.begin().result(10)


def test_the_compatible_apis_are_found_first() -> None:
    assert resolve("/v1/chat/completions").namespace == "openai"
    assert resolve("/v1/messages").namespace == "anthropic"
    assert resolve("/health").url_name == "health"


def test_the_compatible_apis_pass_no_middleware_of_pages() -> None:
    handlers: list[Any] = [Handler(), Handler(OF_PAGES)]
    pages, apis = (_passed(handler._middleware_chain) for handler in handlers)
    assert [name for name in pages if name not in OF_PAGES] == apis
    assert len(pages) - len(apis) == len(OF_PAGES)


def _passed(layer: Any) -> list[str]:
    """The middleware from the first to the last."""
    names = []
    while layer is not None:
        layer = inspect.unwrap(layer)
        kind = type(layer)
        names.append(f"{kind.__module__}.{kind.__name__}")
        layer = getattr(layer, "get_response", None)
    return names[:-1]  # the last one is the view


@pytest.mark.parametrize(
    ("path", "by"), [("/v1/models", "apis"), ("/ollama/api/tags", "apis"), ("/models/", "pages")]
)
async def test_each_path_has_its_application(path: str, by: str) -> None:
    answered: list[str] = []

    def application(name: str) -> Any:
        async def answer(scope: Any, receive: Any, send: Any) -> None:
            answered.append(name)

        return answer

    await by_path(application("apis"), application("pages"))({"path": path}, None, None)
    assert answered == [by]
