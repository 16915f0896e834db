"""The API's documentation in a real browser: it works offline and under our own CSP."""

from __future__ import annotations

import pytest

from tests.pages.browser import chromium, executable
from tests.running import RunningHub

pytestmark = pytest.mark.any_database


@pytest.mark.skipif(executable() is None, reason="no Chromium is installed")
def test_swagger_runs_from_our_own_files(running_hub: RunningHub) -> None:
    with chromium() as browser:
        page = browser.new_page()
        complaints: list[str] = []
        asked: list[str] = []
        page.on("console", lambda message: complaints.append(message.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("request", lambda request: asked.append(request.url))
        page.goto(f"{running_hub.url}/api/docs")
        page.wait_for_selector(".opblock", timeout=20_000)
        assert complaints == []
        assert all(url.startswith((running_hub.url, "data:")) for url in asked)
