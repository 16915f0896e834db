"""One browser and one hub for all files of this folder, which one worker takes together.

While the browser lives, its event loop runs in this thread, so it ends with the folder's last test.
"""

from __future__ import annotations

import runpy
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from playwright.sync_api import Browser, Page

from tests.pages.browser import Tab, chromium
from tests.pages.seed import write_examples
from tests.running import RunningHub, run_hub, wait_until


@pytest.fixture(scope="package")
def browser() -> Iterator[Browser]:
    with chromium() as running:
        yield running


@pytest.fixture(scope="package")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningHub]:
    """A hub slow enough for a person, or a test, to see answers and training on their way."""
    pace: dict[str, Any] = {
        "HUB_FAKE_TOKENS_PER_SECOND": "20",
        "HUB_FAKE_REPLY_WORDS": "30",
        "HUB_FAKE_STEP_SECONDS": "0.1",
    }
    with run_hub(tmp_path_factory.mktemp("hub"), **pace) as running:
        yield running


@pytest.fixture(scope="package")
def tabs() -> dict[str, Tab]:
    """One for each hub, by its address."""
    return {}


@pytest.fixture
def page(browser: Browser, hub: RunningHub, tabs: dict[str, Tab]) -> Iterator[Page]:
    """A desktop window that remembers nothing; the test fails for anything that went wrong on its pages."""
    if hub.url not in tabs:
        tabs[hub.url] = Tab(browser, hub.url)
    tab = tabs[hub.url]
    yield tab.page
    problems = tab.forget()
    assert not problems, problems


@pytest.fixture(scope="package")
def trained(hub: RunningHub, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The name of a model with the versions 0.1.0 and 0.1.1, made through the pages' forms."""
    folder = write_examples(tmp_path_factory.mktemp("examples"), train=40)
    with httpx.Client(base_url=hub.url, timeout=60, follow_redirects=True) as client:
        submit(client, "/models/starter/")
        base = client.get("/api/bases").json()["items"][0]["id"]
        model = submit(client, "/models/new/", name="paged", base=base, task_type="chat")
        files = [("files", (path.name, path.read_bytes())) for path in folder.iterdir()]
        staged = submit(client, "/datasets/new/", files)
        dataset = submit(client, staged, name="paged-examples", register="")
        for seed in (1, 2):
            chosen = {"model": last_number(model), "dataset": last_number(dataset)}
            settings = {"iters": 12, "warmup": 2, "steps_per_eval": 4, "seed": seed}
            job = submit(client, "/training/new/", **chosen, **settings)
            wait_until(lambda job=job: client.get(f"{job}metrics.json").json()["over"], 90)
        assert "0.1.1" in client.get(model).text
    return "paged"


def submit(client: httpx.Client, path: str, files: Any = None, **fields: Any) -> str:
    """Send a form as a browser does; the path of the page it leads to."""
    client.get("/models/new/")
    data = {"csrfmiddlewaretoken": client.cookies["csrftoken"], **fields}
    answer = client.post(path, data=data, files=files)
    assert answer.is_success, answer.text
    return answer.url.path


def last_number(path: str) -> str:
    return path.rstrip("/").rpartition("/")[2]


@pytest.fixture
def runs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Callable[[str], None]:
    """Run a Python program, which ends well and says something."""

    def run(code: str) -> None:
        program = tmp_path / "asked.py"
        program.write_text(code)
        runpy.run_path(str(program))
        assert capsys.readouterr().out.strip()

    return run
