"""From a file to a model and its code, as the first page leads there."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Literal

import pytest
from playwright.sync_api import Browser, Locator, Page, expect

from tests.pages.browser import CONTRAST, IN_BROWSER, overflow, window
from tests.running import run_hub

pytestmark = IN_BROWSER


COUNT = """addEventListener("pointerdown", () => {
  sessionStorage.clicks = Number(sessionStorage.clicks ?? 0) + 1;
}, true)"""
DROP = """([name, text]) => {
  const dataTransfer = new DataTransfer();
  dataTransfer.items.add(new File([text], name));
  for (const kind of ["dragover", "drop"])
    document.body.dispatchEvent(new DragEvent(kind, { dataTransfer, bubbles: true, cancelable: true }));
}"""
TICKETS = "id,question,answer\n" + "".join(f"{n},How is {n} reset?,Press {n}.\n" for n in range(60))


@pytest.fixture
def first_page(browser: Browser, tmp_path: Path) -> Iterator[Page]:
    """A window on a hub that nobody has used."""
    with run_hub(tmp_path) as hub, window(browser, hub.url) as page:
        yield page


def copied_python(page: Page) -> str:
    expect(page.get_by_role("button", name="Copied")).to_be_visible()
    code: str = page.evaluate("navigator.clipboard.readText()")
    return code


def test_a_dropped_file_becomes_a_model_and_its_python_in_six_clicks(
    first_page: Page, runs: Callable[[str], None]
) -> None:
    page = first_page
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    page.add_init_script(COUNT)
    page.goto("/")
    page.evaluate(DROP, ["dropped here.csv", TICKETS])
    page.wait_for_url("**/start/file/*/")
    expect(page.get_by_text("These columns are not used: id.")).to_be_visible()
    expect(page.get_by_label("Model name")).to_have_value("dropped-here")
    assert page.evaluate(CONTRAST) == []
    page.get_by_text("SmolLM2-135M-Instruct").first.click()
    page.get_by_text("Trial", exact=True).click()
    expect(page.locator("dd", has_text=re.compile("^20$"))).to_be_visible()
    page.get_by_role("button", name="Train", exact=True).click()
    page.get_by_role("link", name="Try it").click(timeout=120_000)
    timings = page.locator(".msg .timings")
    expect(timings).to_have_count(2, timeout=60_000)  # asked by itself, beside the base model
    page.get_by_role("button", name="Code", exact=True).first.click()
    expect(page.locator("#code-python")).to_contain_text("OpenAI")
    block = page.locator(".code", has=page.locator("#code-python"))
    block.get_by_role("button", name="Copy").click()
    code = copied_python(page)
    assert int(page.evaluate("sessionStorage.clicks")) <= 6
    runs(code)


def test_the_same_by_keyboard_on_a_narrow_dark_screen(
    page: Page, tmp_path: Path, runs: Callable[[str], None]
) -> None:
    page.set_viewport_size({"width": 390, "height": 860})
    page.emulate_media(color_scheme="dark")
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    file = tmp_path / "typed.csv"
    file.write_text(TICKETS)

    def press(name: str, role: Literal["button", "link"] = "button", timeout: int = 20_000) -> None:
        """Tab to it, and press Enter."""
        target = page.get_by_role(role, name=name, exact=True).first
        expect(target).to_be_visible(timeout=timeout)
        tab_to(target)
        page.keyboard.press("Enter")

    def tab_to(target: Locator) -> None:
        for _ in range(120):
            if target.evaluate("element => element === document.activeElement"):
                return
            page.keyboard.press("Tab")
        raise AssertionError(f"The keyboard does not reach {target}.")

    page.goto("/start/")
    tab_to(page.locator("#start-files"))  # where Enter opens the system's dialog
    page.locator("#start-files").set_input_files(file)
    page.wait_for_url("**/start/file/*/")
    assert overflow(page) == 0
    assert page.evaluate(CONTRAST) == []
    tab_to(page.locator("input[name=preset]:checked"))
    page.keyboard.press("ArrowDown")
    expect(page.locator("input[name=preset][value=trial]")).to_be_checked()
    expect(page.locator("dd", has_text=re.compile("^20$"))).to_be_visible()
    tab_to(page.get_by_label("Model name"))
    page.keyboard.press("Control+A")
    page.keyboard.type("not a name")
    page.keyboard.press("Enter")
    expect(page.get_by_text("is not a valid name")).to_be_visible()  # and the file is still here
    tab_to(page.get_by_label("Model name"))
    page.keyboard.press("Control+A")
    page.keyboard.type("typed")
    page.keyboard.press("Enter")
    press("Try it", "link", timeout=120_000)
    expect(page.locator(".msg .timings")).to_have_count(2, timeout=60_000)
    press("Code")
    expect(page.locator("#code-python")).to_contain_text("typed@0.1.0")
    tab_to(page.locator(".code", has=page.locator("#code-python")).get_by_role("button"))
    page.keyboard.press("Enter")
    runs(copied_python(page))
