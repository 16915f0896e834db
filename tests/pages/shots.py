"""Screenshots of every page of a running hub: light, dark, and at the width of a phone.

uv run python -m tests.pages.shots FOLDER [ADDRESS] [PATH …]
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Literal

from tests.pages.browser import Watch, chromium, overflow

LOOKS = (("light", 1360, 900), ("dark", 1360, 900), ("phone", 375, 800))
PATHS = (
    "/",
    "/models/",
    "/datasets/",
    "/training/",
    "/training/new/",
    "/playground/",
    "/requests/",
    "/system/",
    "/system/models/",
)


def name_of(path: str) -> str:
    plain = "".join(letter if letter.isalnum() else "-" for letter in path).strip("-")
    return plain or "dashboard"


def take(folder: Path, origin: str, paths: tuple[str, ...]) -> list[str]:
    """Write the pictures; the problems that were seen on the way."""
    problems = []
    folder.mkdir(parents=True, exist_ok=True)
    with chromium() as browser:
        for look, width, height in LOOKS:
            scheme: Literal["dark", "light"] = "dark" if look == "dark" else "light"
            page = browser.new_page(
                viewport={"width": width, "height": height}, color_scheme=scheme
            )
            watch = Watch(page, origin)
            for path in paths:
                page.goto(origin + path)
                page.wait_for_timeout(700)
                page.screenshot(path=folder / f"{name_of(path)}-{look}.png", full_page=True)
                if wide := overflow(page):
                    problems.append(f"{path} is {wide} px too wide ({look})")
            problems += watch.problems
            page.close()
    return problems


if __name__ == "__main__":
    address = sys.argv[2] if len(sys.argv) > 2 else "http://127.0.0.1:8000"
    for problem in take(Path(sys.argv[1]), address.rstrip("/"), tuple(sys.argv[3:]) or PATHS):
        print(problem)
