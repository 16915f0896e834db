"""Pictures of every page in its states, from hubs of their own with the fake backend.

    uv run python -m tests.pages.shots FOLDER [STATE …]

The states are `empty` (a new hub), `full` (used for a while; also at the width of a phone, in the dark),
`long` (the longest names and texts), `error` (what was refused or failed) and `lost` (the hub is gone
while the page is open). Prints what the browser found wrong on the way.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

from playwright.sync_api import Browser, FloatRect, Page, ViewportSize

from tests.pages.browser import WHOLE, Watch, chromium, overflow
from tests.running import ROOT, RunningHub, run_hub

WIDE, PHONE = ViewportSize(width=1280, height=860), ViewportSize(width=390, height=844)
TALLEST = 1800  # pixels of a picture
LOST_S = 8.0  # until a page says that the hub is gone
EMPTY = (
    "/",
    "/start/",
    "/models/",
    "/models/new/",
    "/bases/",
    "/bases/new/",
    "/datasets/",
    "/datasets/new/",
    "/training/",
    "/training/new/",
    "/training/sweeps/",
    "/playground/",
    "/requests/",
    "/requests/feedback/",
    "/requests/replays/",
    "/compare/",
    "/system/",
    "/system/models/",
    "/system/keys/",
    "/system/audit/",
    "/system/speed/",
    "/settings/",
)
VERSION = "/models/1/0.2.0/"
FULL = (
    *(page for page in EMPTY if not page.startswith(("/models/new", "/bases/new"))),
    "/models/1/",
    "/models/1/use/",
    VERSION,
    f"{VERSION}scores/",
    f"{VERSION}training/",
    f"{VERSION}lineage/",
    f"{VERSION}files/",
    f"{VERSION}use/",
    "/bases/1/",
    "/datasets/1/",
    "/training/1/",
    "/training/3/",
    "/compare/?v=calendar@0.1.0&v=calendar@0.2.0",
    "/find/?q=cal",
)
PHONES = ("/", "/models/", "/models/1/", VERSION, "/training/", "/training/3/", "/requests/")
LONG = ("/", "/models/", "/models/1/", VERSION, "/datasets/1/", "/training/", "/training/2/")
ERROR = ("/nothing-here/", "/training/2/", "/models/1/0.2.1/", "/requests/?status=failed")
LOST = ("/", "/training/3/", "/playground/")

SEED = "from pathlib import Path; from tests.pages.seed import seed; seed(Path({folder!r}))"
LENGTHEN = """
from registry.models import Dataset, Model
from training.models import TrainingJob
name, words = "a-name-as-long-as-names-may-be-" * 9, "It has a description that goes on and on. " * 30
longest = Model._meta.get_field("name").max_length
Model.objects.filter(pk=1).update(name=name[:longest], description=words, tags=["a-long-tag"] * 12)
longest = Dataset._meta.get_field("name").max_length
Dataset.objects.filter(pk=1).update(name=name[:longest], description=words)
TrainingJob.objects.filter(status="failed").update(error_message="Example 12 cannot be read. " * 40)
"""


class Camera:
    """Takes pictures of one hub's pages and remembers what was wrong with them."""

    def __init__(
        self, browser: Browser, hub: RunningHub, folder: Path, problems: list[str]
    ) -> None:
        self._hub, self._folder, self._problems = hub, folder, problems
        folder.mkdir(parents=True, exist_ok=True)
        self.page = browser.new_page(viewport=WIDE)
        self.watch = Watch(self.page, hub.url)

    def take(self, path: str, name: str = "", act: Callable[[Page], object] | None = None) -> None:
        """Open the page, do something with it, and keep how it looks."""
        self.page.goto(self._hub.url + path)
        self.page.wait_for_timeout(700)
        if act is not None:
            act(self.page)
            self.page.wait_for_timeout(700)
        self.keep(name or name_of(path))
        if wide := overflow(self.page):
            self._problems.append(f"{path} is {wide} px too wide")
        self._problems += [f"{path}: {text}" for text in self.watch.problems]
        self.watch.problems.clear()

    def keep(self, name: str) -> None:
        size = self.page.viewport_size or WIDE
        tall = int(self.page.evaluate("document.documentElement.scrollHeight"))
        clip = FloatRect(x=0, y=0, width=size["width"], height=min(tall, TALLEST))
        self.page.screenshot(
            path=self._folder / f"{name}.jpg",
            type="jpeg",
            quality=45,
            full_page=True,
            clip=clip,
        )


def name_of(path: str) -> str:
    plain = "".join(letter if letter.isalnum() else "-" for letter in path).strip("-")
    return plain or "dashboard"


def shell(hub: RunningHub, code: str) -> None:
    """Run Python on the hub's storage."""
    subprocess.run(
        [sys.executable, str(ROOT / "manage.py"), "shell", "--no-imports", "-c", code],
        cwd=ROOT,
        env={**hub.environment, "PYTHONPATH": str(ROOT)},
        check=True,
    )


def refused(page: Page) -> None:
    """Send the training form with a learning rate that is none."""
    page.locator("[name=learning_rate]").fill("5")
    page.locator("main form[method=post] button[type=submit]").first.click()


def taken(page: Page) -> None:
    """Register a model by a name that is taken."""
    page.locator("[name=name]").fill("calendar")
    page.locator("main form[method=post] button[type=submit]").first.click()


def take_all(folder: Path, states: set[str]) -> list[str]:
    problems: list[str] = []
    with ExitStack() as stack:
        browser = stack.enter_context(chromium(WHOLE))
        made = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        hub = stack.enter_context(run_hub(made))
        if "empty" in states:
            camera = Camera(browser, hub, folder / "empty", problems)
            for path in EMPTY:
                camera.take(path)
        shell(hub, SEED.format(folder=str(made / "sources")))
        if "full" in states:
            camera = Camera(browser, hub, folder / "full", problems)
            for path in FULL:
                camera.take(path)
            camera.page.set_viewport_size(PHONE)
            camera.page.emulate_media(color_scheme="dark")
            for path in PHONES:
                camera.take(path, f"phone-{name_of(path)}")
        if "error" in states:
            camera = Camera(browser, hub, folder / "error", [])  # refusals are meant
            for path in ERROR:
                camera.take(path)
            camera.take("/training/new/", "training-new", refused)
            camera.take("/models/new/", "models-new", taken)
        if "long" in states:
            shell(hub, LENGTHEN)
            camera = Camera(browser, hub, folder / "long", problems)
            for path in LONG:
                camera.take(path)
            camera.page.set_viewport_size(PHONE)
            camera.page.emulate_media(color_scheme="dark")
            for path in LONG:
                camera.take(path, f"phone-{name_of(path)}")
        if "lost" in states:
            cameras = [Camera(browser, hub, folder / "lost", []) for _ in LOST]
            for camera, path in zip(cameras, LOST, strict=True):
                camera.take(path)
            hub.stop()
            for camera, path in zip(cameras, LOST, strict=True):
                camera.page.wait_for_timeout(LOST_S * 1000)
                camera.keep(name_of(path))
    return problems


if __name__ == "__main__":
    every = {"empty", "full", "long", "error", "lost"}
    for problem in take_all(Path(sys.argv[1]), set(sys.argv[2:]) or every):
        print(problem)
