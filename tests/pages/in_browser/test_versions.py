"""The pages of a version: its charts, and its code to copy."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable
from pathlib import Path

from playwright.sync_api import Page, expect

from tests.pages.browser import CONTRAST, IN_BROWSER

pytestmark = IN_BROWSER


def test_a_chart_is_smoothed_zoomed_overlaid_read_and_saved(
    page: Page, trained: str, tmp_path: Path
) -> None:
    page.goto(f"/models/?q={trained}")
    page.get_by_role("link", name=trained, exact=True).click()
    page.get_by_role("link", name="0.1.0", exact=True).first.click()
    page.get_by_role("link", name="Training", exact=True).last.click()
    chart = page.locator("[data-chart=loss]")
    expect(chart.locator("canvas")).to_be_visible()

    # By keyboard, and read out.
    chart.focus()
    page.keyboard.press("Home")
    page.keyboard.press("ArrowRight")
    expect(chart.locator("[aria-live]")).to_have_text(re.compile(r"Step 2: Train \d"))
    tip = chart.locator(".chart-tip")
    expect(tip).to_contain_text("smoothed")
    page.get_by_label("Smoothing").fill("0")
    chart.focus()
    page.keyboard.press("End")
    expect(tip).to_contain_text("Validation")
    expect(tip).not_to_contain_text("smoothed")
    page.keyboard.press("+")
    expect(page.get_by_role("button", name="Reset zoom")).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.get_by_role("button", name="Reset zoom")).to_have_count(0)
    page.get_by_label("Log scale").check()
    assert page.evaluate(CONTRAST) == []

    # Zoomed with the mouse; what is saved is what is seen.
    over = chart.locator(".u-over")
    over.scroll_into_view_if_needed()
    box = over.bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + box["width"] * 0.5, box["y"] + 50)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] * 0.9, box["y"] + 50, steps=3)
    page.mouse.up()
    with page.expect_download() as saved:
        page.get_by_role("button", name="Download Loss as CSV").click()
    assert saved.value.suggested_filename.endswith(".csv")
    head, *lines = saved.value.path().read_text().splitlines()
    assert head == "iteration,Train,Validation"
    assert [line.split(",")[0] for line in lines] == ["7", "8", "9", "10"]
    page.get_by_role("button", name="Reset zoom").click()
    expect(page.get_by_role("button", name="Reset zoom")).to_have_count(0)
    with page.expect_download() as saved:
        page.get_by_role("button", name="Download Loss as PNG").click()
    assert saved.value.path().read_bytes().startswith(b"\x89PNG")

    # Another run over it, without a reload; choices are kept.
    page.evaluate("window.kept = true")
    page.get_by_text("Compare with other runs").click()
    page.locator("[data-run]").first.check()
    expect(chart).to_have_attribute("aria-label", re.compile(r"0\.1\.0 train.*Job \d+ train"))
    assert page.evaluate("window.kept") is True
    page.locator("[data-run]").first.uncheck()
    expect(chart).not_to_have_attribute("aria-label", re.compile("Job"))
    page.goto("/training/")
    page.get_by_role("link", name=re.compile("^Job")).first.click()
    expect(page.get_by_label("Log scale")).to_be_checked()
    expect(page.get_by_label("Smoothing")).to_have_value("0")

    # The charts of a page have one cursor.
    expect(page.locator("[data-chart=tokens] canvas")).to_be_visible()
    page.locator("[data-chart=loss]").focus()
    page.keyboard.press("End")
    expect(page.locator("[data-chart=tokens] .chart-legend")).to_have_text(re.compile(r"\d"))


def test_what_is_copied_with_the_keyboard_runs(
    page: Page, trained: str, runs: Callable[[str], None]
) -> None:
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    page.goto("/models/?q=paged")
    page.get_by_role("link", name=trained, exact=True).click()
    page.get_by_role("link", name="Use from code").first.click()
    keys = {"Python (openai)": "python", "Python (anthropic)": "anthropic", "curl": "curl"}
    languages = page.get_by_role("navigation", name="Language")
    for language, key in keys.items():
        languages.get_by_role("link", name=language, exact=True).focus()
        page.keyboard.press("Enter")
        expect(page).to_have_url(re.compile(rf"\?in={key}$"))
        expect(page.locator(".htmx-request, .htmx-swapping, .htmx-settling")).to_have_count(0)
        code = page.get_by_label(language, exact=True)
        expect(code).to_contain_text("Turn the request into calendar JSON.")
        code.focus()
        page.keyboard.press("Control+c")
        copied = page.evaluate("navigator.clipboard.readText()")
        assert copied == code.text_content()
        if key != "curl":
            runs(copied)
            continue
        ran = subprocess.run(["bash", "-c", copied], capture_output=True, text=True, timeout=120)
        assert ran.returncode == 0, ran.stderr
        assert ran.stdout.strip()
    page.goto("/models/?q=paged")
    page.get_by_role("link", name=trained, exact=True).click()
    page.goto(f"{page.url}0.1.0/#reproduction")  # an older link
    expect(page).to_have_url(re.compile("/lineage/#reproduction$"))
    page.locator("summary", has_text="Compare").click()
    page.get_by_label("another version").select_option("0.1.1")
    page.get_by_role("button", name="Compare", exact=True).click()
    expect(page.get_by_role("heading", name="Comparison of 2 versions")).to_be_visible()
