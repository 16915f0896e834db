"""From a base model to answers in production, in one sitting."""

from __future__ import annotations

import re
from pathlib import Path

from playwright.sync_api import Page, expect

from tests.pages.browser import IN_BROWSER
from tests.pages.seed import write_examples

pytestmark = IN_BROWSER


PROMPT = "Lunch with Ada on Friday at noon"


def test_register_train_watch_promote_ask_and_compare(page: Page, tmp_path: Path) -> None:
    # Register a model on the bundled base.
    page.goto("/models/new/")
    starter = page.get_by_role("button", name="Import the bundled base model")
    if starter.count():
        starter.click()
    page.get_by_label("Name").fill("walked")
    page.get_by_role("button", name="Register").click()
    expect(page.get_by_role("heading", name="walked", level=1)).to_be_visible()

    # Upload examples.
    folder = write_examples(tmp_path / "examples", train=40)
    page.goto("/datasets/new/")
    page.get_by_label("Files", exact=True).set_input_files(sorted(folder.iterdir()))
    page.get_by_role("button", name="Preview", exact=True).click()
    page.get_by_label("Name").fill("walked-examples")
    page.get_by_role("button", name="Register", exact=True).click()
    expect(page.get_by_text("Set up", exact=False).first).to_be_visible()
    page.get_by_role("link", name="test", exact=True).click()
    expect(page.get_by_text("test 1", exact=True)).to_be_visible()

    # Train, and watch it without touching anything.
    page.get_by_role("link", name="Train on it").click()
    page.get_by_role("link", name="new training job").click()
    page.get_by_label("Model", exact=True).select_option(label="walked")
    page.get_by_role("link", name=re.compile("Trial")).click()
    expect(page.get_by_label("Steps", exact=True)).to_have_value("20")
    page.get_by_label("Steps", exact=True).fill("100")
    page.get_by_label("Model", exact=True).select_option(label="walked")
    page.get_by_label("Data set", exact=True).select_option(label="walked-examples")
    page.get_by_role("button", name="Queue the job").click()
    chart = page.locator("[data-chart=loss]")
    expect(page.get_by_role("status")).to_have_text("Running", timeout=60_000)
    expect(chart.locator("canvas")).to_be_visible(timeout=30_000)
    early = chart.get_attribute("aria-label") or ""
    expect(page.locator("body[data-streaming]")).to_have_count(1)
    expect(page.get_by_role("status")).to_have_text("Completed", timeout=60_000)
    expect(chart).to_have_attribute("aria-label", re.compile(r"Train \d.*Validation \d"))
    expect(chart).not_to_have_attribute("aria-label", early)
    page.get_by_role("link", name="Version 0.1.0").click()
    expect(page.get_by_role("heading", name=re.compile("the base"))).to_be_visible()
    parts = page.get_by_role("navigation", name="Parts of this version")
    parts.get_by_role("link", name="Training").click()  # without a reload, and with its chart
    expect(page.locator("[data-chart=loss] canvas")).to_be_visible()
    parts.get_by_role("link", name="Files").click()
    expect(page.get_by_text("adapters.safetensors")).to_be_visible()

    # Promote it, where one stands.
    page.get_by_role("link", name="Promote").click()
    page.get_by_label("Reason").fill("The first one")
    page.get_by_role("button", name="Promote version").click()
    expect(page.get_by_text("walked@production is now version 0.1.0.")).to_be_visible()
    page.get_by_role("link", name="walked", exact=True).click()
    expect(page.get_by_text("The first one")).to_be_visible()

    # Ask it beside its base model.
    page.get_by_role("link", name="Try", exact=True).click()
    page.get_by_label("Prompt", exact=True).fill(PROMPT)
    page.keyboard.press("Enter")
    columns = page.locator(".column")
    for index, answerer in ((0, "walked@0.1.0"), (1, "base:")):
        answer = columns.nth(index).locator(".msg.assistant")
        expect(answer.locator(".role")).to_contain_text(answerer)
        expect(answer.locator(".timings")).to_contain_text(re.compile(r"first token \d+ ms"))
        assert answer.locator(".text").inner_text()

    # It is in the log, without its text.
    page.goto("/requests/?q=walked")
    expect(page.get_by_role("link", name="walked@0.1.0").first).to_be_visible()
    assert PROMPT not in page.content()
