"""Lists: searched, filtered, driven by the keyboard, and their actions."""

from __future__ import annotations

import re

from playwright.sync_api import Page, expect

from tests.pages.browser import IN_BROWSER

pytestmark = IN_BROWSER


def test_the_model_list_filters_while_typing_and_keeps_it_in_the_address(
    page: Page, trained: str
) -> None:
    page.goto("/models/")
    page.keyboard.press("/")
    page.keyboard.type("nothing-like-it")
    expect(page.get_by_text("No model matches")).to_be_visible()
    page.wait_for_url("**/models/?q=nothing-like-it*")
    page.reload()
    expect(page.get_by_text("No model matches")).to_be_visible()
    page.get_by_role("link", name="Show all models").click()
    expect(page.get_by_role("link", name=trained, exact=True)).to_be_visible()


def test_a_list_is_driven_by_the_keyboard_and_a_view_is_kept(page: Page, trained: str) -> None:
    page.goto("/models/?sort=name")
    page.keyboard.press("j")
    title = page.locator("#rows tbody th a.strong").first
    expect(title).to_be_focused()
    page.keyboard.press("x")
    expect(page.get_by_text("1 selected")).to_be_visible()
    page.keyboard.press("o")
    summary = page.get_by_role("region", name="Summary")
    expect(summary.get_by_role("heading")).to_have_text(title.inner_text())
    expect(page).to_have_url(re.compile(r"\?sort=name&open=\d+$"))
    expect(page.get_by_text("1 selected")).to_be_visible()
    page.keyboard.press("Escape")
    expect(page).to_have_url(re.compile(r"\?sort=name$"))
    expect(title).to_be_focused()

    # A filter keeps the order and the columns; only what differs is in the address.
    page.get_by_text("Columns", exact=True).click()
    page.get_by_label("Task", exact=True).nth(1).uncheck()
    page.wait_for_url("**/models/?*columns=base*")
    page.keyboard.press("Escape")  # the menu covers the heads
    page.get_by_role("link", name="Versions", exact=True).click()
    page.wait_for_url("**/*sort=versions")
    page.get_by_label("Search", exact=True).fill(trained)
    page.wait_for_url(f"**/*q={trained}*")
    expect(page).to_have_url(re.compile("sort=versions"))
    expect(page.get_by_role("columnheader", name="Task")).to_have_count(0)
    assert "task=" not in page.url
    assert "status=" not in page.url
    page.get_by_text("Views", exact=True).click()
    page.get_by_label("Save this view in this browser as").fill("Mine")
    page.keyboard.press("Enter")
    page.goto("/models/")
    page.get_by_text("Views", exact=True).click()
    page.get_by_role("link", name="Mine", exact=True).click()
    page.wait_for_url(f"**/*q={trained}*")
    expect(page.get_by_role("columnheader", name="Task")).to_have_count(0)
    page.get_by_text("Views", exact=True).click()
    page.get_by_role("button", name="Delete the view Mine").click()
    expect(page.get_by_role("link", name="Mine", exact=True)).to_have_count(0)


def test_a_key_is_revoked_only_after_a_question(page: Page, trained: str) -> None:
    for name in ("laptop", "phone"):
        page.goto("/system/keys/")
        page.get_by_label("Name", exact=True).fill(name)
        page.get_by_role("button", name="Create key").click()
    page.goto("/system/keys/")
    expect(page.get_by_role("button", name="Revoke")).not_to_be_visible()
    page.get_by_label("Select laptop").check()
    page.get_by_label("Select phone").check()
    expect(page.get_by_text("2 selected")).to_be_visible()
    page.get_by_role("button", name="Revoke").click()
    question = page.get_by_role("dialog", name="Revoke 2 keys?")
    expect(question).to_contain_text("rejected immediately")
    question.get_by_role("link", name="Back to the list").click()
    expect(question).not_to_be_visible()
    page.get_by_label("Menu of phone").click()
    page.locator("tr", has_text="phone").get_by_role("button", name="Revoke").click()
    page.get_by_role("button", name="Revoke 1 key").click()
    expect(page.get_by_text("1 key revoked.")).to_be_visible()
