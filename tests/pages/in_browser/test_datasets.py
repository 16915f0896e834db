"""Data sets: the preview of a file, and rows that are checked and fixed."""

from __future__ import annotations

from pathlib import Path

import httpx
from playwright.sync_api import Browser, Page, expect

from tests.pages.browser import IN_BROWSER, overflow
from tests.running import RunningHub

pytestmark = IN_BROWSER


def test_columns_are_chosen_on_the_preview_of_a_file(page: Page, tmp_path: Path) -> None:
    file = tmp_path / "asked in columns.csv"
    file.write_text('ask;"say";id\n' + "".join(f"q{n};a{n};{n}\n" for n in range(30)))
    page.goto("/datasets/new/")
    page.get_by_label("Files", exact=True).set_input_files(file)
    page.get_by_role("button", name="Preview").click()
    expect(page.get_by_role("alert")).to_contain_text("map its columns yourself: ask, say, id")
    register = page.get_by_role("button", name="Register", exact=True)
    expect(register).to_be_disabled()
    page.get_by_label("Description").fill("Kept while columns are chosen")
    page.get_by_label("ask", exact=True).select_option("prompt")
    expect(page.get_by_role("alert")).to_contain_text('no "completion"')
    page.get_by_label("say", exact=True).select_option("completion")
    expect(page.get_by_role("alert")).to_have_count(0)
    expect(page.locator(".msg.assistant").first).to_contain_text("a0")
    expect(page.get_by_text("These columns are not used: id.")).to_be_visible()
    page.get_by_label("Name").fill("not a name")
    register.click()
    expect(page.get_by_text("is not a valid name")).to_be_visible()  # and the file is still here
    page.get_by_label("Name").fill("asked-in-columns")
    page.get_by_role("button", name="Register", exact=True).click()
    expect(page.get_by_role("heading", name="asked-in-columns", level=1)).to_be_visible()
    expect(page.get_by_text("Kept while columns are chosen")).to_be_visible()
    expect(page.get_by_text("Prompt and completion").first).to_be_visible()


def test_rows_are_checked_opened_and_fixed(page: Page, hub: RunningHub, trained: str) -> None:
    pairs = [{"prompt": f"question {n}", "completion": f"answer {n}"} for n in range(30)]
    pairs += [{"prompt": "write to", "completion": f"ana{n}@example.org"} for n in range(9)]
    body = {"name": "checked-rows", "examples": pairs}
    made = httpx.post(f"{hub.url}/api/datasets", json=body, timeout=60).json()
    page.goto(f"/datasets/{made['id']}/")
    page.get_by_role("link", name="Rows", exact=True).click()
    page.get_by_role("button", name="Check 39 rows").click()
    expect(page.get_by_role("heading", name="39 rows")).to_be_visible(timeout=120_000)

    # Filters and ticks.
    page.get_by_label("Issue", exact=True).select_option("mail")
    expect(page.get_by_role("heading", name="9 rows", exact=True)).to_be_visible()
    page.get_by_label("Tick all shown").check()
    assert page.locator("input[name=row]:checked").count() == 9

    # One row, token for token.
    page.locator(".ticks a").first.click()
    expect(page.locator(".tokens mark").first).to_be_visible(timeout=60_000)
    page.set_viewport_size({"width": 375, "height": 800})
    assert overflow(page) == 0
    page.goto(f"/datasets/{made['id']}/rows/?issue=mail")
    assert overflow(page) == 0

    # All that match are redacted, which makes a revision whose rows are checked again.
    page.get_by_label("All that match (9)").check()
    page.get_by_label("Message", exact=True).fill("No addresses")
    page.get_by_role("button", name="Redact personal data").click()
    expect(page.get_by_role("heading", name="39 rows")).to_be_visible(timeout=120_000)
    expect(page.get_by_text("Mail address")).not_to_be_visible()
    page.get_by_role("link", name="checked-rows").click()
    page.get_by_role("link", name="See each row").click()
    expect(page.locator("ins").first).to_have_text("[mail address]")
    assert overflow(page) == 0


def test_a_preview_works_on_a_phone_without_javascript(
    browser: Browser, hub: RunningHub, tmp_path: Path
) -> None:
    file = tmp_path / "without-script.csv"
    file.write_text("ask,say\n" + "".join(f"q{n} {'long ' * 40},a{n}\n" for n in range(30)))
    context = browser.new_context(
        base_url=hub.url, java_script_enabled=False, viewport={"width": 375, "height": 800}
    )
    page = context.new_page()
    page.goto("/datasets/new/")
    page.get_by_label("Files", exact=True).set_input_files(file)
    page.get_by_role("button", name="Preview").click()
    page.get_by_label("ask", exact=True).select_option("prompt")
    page.get_by_label("say", exact=True).select_option("completion")
    page.get_by_role("button", name="Update the preview").click()
    expect(page.locator(".msg.assistant").first).to_contain_text("a0")
    assert overflow(page) == 0
    page.get_by_role("button", name="Register", exact=True).click()
    expect(page.get_by_role("heading", name="without-script", level=1)).to_be_visible()
    context.close()
