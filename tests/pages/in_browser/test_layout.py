"""Every page: its theme, a phone, and no scripts."""

from __future__ import annotations

from playwright.sync_api import Browser, Page, expect

from tests.pages.browser import IN_BROWSER, overflow
from tests.running import RunningHub

pytestmark = IN_BROWSER


def test_the_theme_is_kept(page: Page) -> None:
    page.goto("/")
    button = page.get_by_role("button", name="Theme")
    button.click()
    button.click()
    expect(button).to_contain_text("dark")
    page.goto("/models/")
    assert page.evaluate("document.documentElement.dataset.theme") == "dark"
    dark = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert dark == "rgb(14, 16, 20)"


def test_the_menu_of_a_phone_leads_on(page: Page) -> None:
    """How wide pages are there, `test_walk` asks of all of them."""
    page.set_viewport_size({"width": 375, "height": 800})
    page.goto("/models/")
    page.wait_for_load_state("networkidle")
    assert overflow(page) == 0
    page.get_by_role("button", name="Menu").click()
    page.get_by_role("link", name="Training", exact=True).click()
    page.wait_for_url("**/training/")


def test_pages_work_without_javascript(browser: Browser, hub: RunningHub, trained: str) -> None:
    context = browser.new_context(base_url=hub.url, java_script_enabled=False)
    page = context.new_page()
    page.goto("/models/")
    page.get_by_label("Search", exact=True).fill(trained)
    page.keyboard.press("Enter")
    page.get_by_role("link", name=trained, exact=True).click()
    row = page.locator("tr", has_text="0.1.1")
    row.get_by_label("Menu of 0.1.1").click()
    row.get_by_role("link", name="Promote").click()
    page.get_by_role("button", name="Promote version").click()
    expect(page.get_by_text(f"{trained}@production is now version 0.1.1.")).to_be_visible()
    context.close()
