"""Keys and focus."""

from __future__ import annotations

from playwright.sync_api import Page, expect

from tests.pages.browser import IN_BROWSER

pytestmark = IN_BROWSER


def test_the_keyboard_reaches_everything(page: Page, trained: str) -> None:
    page.goto("/")
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Skip to the content")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.locator("main")).to_be_focused()
    for key, path in (
        ("m", "/models/"),
        ("d", "/datasets/"),
        ("t", "/training/"),
        ("s", "/system/"),
    ):
        page.keyboard.press("g")
        page.keyboard.press(key)
        page.wait_for_url(f"**{path}")
    page.keyboard.press("?")
    expect(page.get_by_role("dialog", name="Keyboard shortcuts")).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.get_by_role("dialog")).to_have_count(0)
    page.keyboard.press("Control+k")
    palette = page.get_by_role("dialog", name="Search everything")
    expect(palette.get_by_role("option").first).to_be_visible()
    page.keyboard.type(trained)
    chosen = palette.get_by_role("option", selected=True)
    expect(palette.get_by_role("option", name=f"Requests to “{trained}”")).to_be_visible()
    expect(chosen.locator(".label")).to_have_text(trained)
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")
    page.wait_for_url("**/models/*/0.*.*/")
    page.keyboard.press("Control+k")
    expect(palette.get_by_text("Opened recently")).to_have_count(0)  # but for this very page
    page.keyboard.press("Escape")
    expect(page.get_by_role("dialog")).to_have_count(0)
    page.keyboard.press("g")
    page.keyboard.press("p")
    page.wait_for_url("**/playground/")
    page.keyboard.press("Control+k")
    expect(palette.get_by_text("Opened recently")).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.get_by_label("Prompt", exact=True)).to_be_focused()


def test_focus_survives_the_refresh_of_what_is_polled(page: Page, trained: str) -> None:
    page.goto("/")
    link = page.get_by_role("link", name="All requests")
    link.focus()
    link.evaluate("element => element.same = true")
    with page.expect_response(lambda r: r.request.headers.get("hx-request") == "true"):
        pass
    page.wait_for_timeout(300)
    expect(link).to_be_focused()
    assert link.evaluate("element => element.same")  # morphed, not replaced
