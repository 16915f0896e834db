"""A real Chromium for tests and screenshots; the pages use nothing but this machine."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import pytest
from playwright.sync_api import (
    Browser,
    ConsoleMessage,
    Page,
    Request,
    Response,
    ViewportSize,
    sync_playwright,
)

SHELL = "chromium-headless-shell"  # loads a page at half the cost of a whole browser
WHOLE = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--js-flags=--no-opt --no-maglev",  # no page lives long enough to be worth its compilation
)


def executable(names: Sequence[str] = (SHELL, *WHOLE)) -> str | None:
    """The installed Chromium, or None. `HUB_TEST_CHROMIUM` names another one."""
    named = os.environ.get("HUB_TEST_CHROMIUM", "")
    return named or next((path for name in names if (path := shutil.which(name))), None)


@contextmanager
def chromium(names: Sequence[str] = (SHELL, *WHOLE)) -> Iterator[Browser]:
    """A running browser, the first installed one of `names`; raises RuntimeError without any."""
    path = executable(names)
    if path is None:
        raise RuntimeError(f"No Chromium is installed: none of {', '.join(names)} was found.")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=list(FLAGS))
        try:
            yield browser
        finally:
            browser.close()


IN_BROWSER = [
    pytest.mark.any_database,
    pytest.mark.skipif(executable() is None, reason="no Chromium is installed"),
]
"""The marks of files whose tests open a browser."""

DESKTOP: ViewportSize = {"width": 1280, "height": 860}

_REPEATED = (
    "Failed to load resource",
    "htmx:afterRequest",
    "htmx:sendError",
    "htmx:sendAbort",
)


class Watch:
    """What went wrong on a page: console errors, exceptions, requests to other hosts or without an
    answer, and answers of 400 and more, other than to a page that was asked for itself."""

    def __init__(self, page: Page, origin: str) -> None:
        self.problems: list[str] = []
        page.on("console", lambda m: self._add(f"console: {m.text}", _is_mistake(m)))
        page.on("pageerror", lambda error: self._add(f"exception: {error}"))
        page.on(
            "request",
            lambda request: self._add(
                f"request to another host: {request.url}",
                not request.url.startswith(
                    (origin, origin.replace("http", "ws"), "data:", "blob:")
                ),
            ),
        )
        page.on("requestfailed", lambda r: self._add(f"{r.failure}: {r.url}", _is_failure(r)))
        page.on("response", lambda r: self._add(f"{r.status}: {r.url}", _is_refusal(r)))

    def _add(self, text: str, wrong: bool = True) -> None:
        if wrong:
            self.problems.append(text)


@contextmanager
def window(browser: Browser, url: str) -> Iterator[Page]:
    """A fresh desktop window on the hub at `url`; the test fails for anything that went wrong on its pages."""
    tab = Tab(browser, url)
    yield tab.page
    tab.page.context.close()
    assert not tab.watch.problems, tab.watch.problems


class Tab:
    """A desktop window on the hub at `url`. A new one starts a process, which takes as long as three
    pages."""

    def __init__(self, browser: Browser, url: str) -> None:
        context = browser.new_context(base_url=url, viewport=DESKTOP)
        context.set_default_timeout(20_000)
        self.page = context.new_page()
        self.watch = Watch(self.page, url)

    def forget(self) -> list[str]:
        """Be as new again, but for the browser's cache; what went wrong until now."""
        problems, page = list(self.watch.problems), self.page
        page.unroute_all(behavior="ignoreErrors")
        page.goto("/static/js/figures.js")  # where no script runs that would keep something
        page.evaluate("localStorage.clear(); sessionStorage.clear();")
        page.context.clear_cookies()
        page.context.clear_permissions()
        page.set_viewport_size(DESKTOP)
        page.emulate_media(color_scheme="null", reduced_motion="null")
        self.watch.problems.clear()
        return problems


def _is_mistake(message: ConsoleMessage) -> bool:
    """Chromium and htmx repeat refused and failed requests on the console; those are seen as
    responses and failures."""
    return message.type == "error" and not message.text.startswith(_REPEATED)


def _is_failure(request: Request) -> bool:
    """A page that is left gives its requests up."""
    return "ERR_ABORTED" not in (request.failure or "")


def _is_refusal(response: Response) -> bool:
    return response.status >= (500 if response.request.resource_type == "document" else 400)


CONTRAST = """() => {  // texts whose colour is too close to what is behind them
  const canvas = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
  const rgb = (css) => {
    canvas.clearRect(0, 0, 1, 1); canvas.fillStyle = css; canvas.fillRect(0, 0, 1, 1);
    return [...canvas.getImageData(0, 0, 1, 1).data];
  };
  const light = ([r, g, b]) => [r, g, b].map((v) => v / 255)
    .map((v) => (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4))
    .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
  const behind = (element) => {
    for (let e = element; e; e = e.parentElement) {
      const colour = rgb(getComputedStyle(e).backgroundColor);
      if (colour[3] === 255) return colour;
    }
    return rgb("white");
  };
  const poor = [];
  for (const element of document.querySelectorAll("body *")) {
    const own = [...element.childNodes].some((n) => n.nodeType === 3 && n.textContent.trim());
    if (!own || !element.checkVisibility() || element.closest("svg, option, .u-legend")) continue;
    const [a, b] = [light(rgb(getComputedStyle(element).color)), light(behind(element))];
    const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    if (ratio < 4.5) poor.push([element.tagName, element.className, element.textContent.trim().slice(0, 30), ratio.toFixed(2)]);
  }
  return poor;
}"""


def overflow(page: Page) -> int:
    """Pixels by which the page is wider than the window; 0 is right."""
    wide = page.evaluate("document.documentElement.scrollWidth - window.innerWidth")
    return max(0, int(wide))
