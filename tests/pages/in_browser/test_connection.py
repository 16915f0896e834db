"""What is streamed, and what pages do while the hub is gone."""

from __future__ import annotations

import os
import re
import signal

import httpx
from playwright.sync_api import Browser, Page, expect

from tests.pages.browser import IN_BROWSER
from tests.running import RunningHub, wait_until

pytestmark = IN_BROWSER


def test_two_versions_stream_side_by_side_and_are_stopped(page: Page, trained: str) -> None:
    page.goto(f"/playground/?model={trained}@0.1.0&compare={trained}@0.1.1")
    box = page.get_by_label("Prompt", exact=True)
    box.fill("one two three")
    page.get_by_role("button", name="Send").click()
    streaming = page.locator(".msg.streaming .text")
    expect(streaming).to_have_count(2)
    expect(streaming.nth(0)).not_to_be_empty()
    expect(streaming.nth(1)).not_to_be_empty()  # both at once, on one socket
    timings = page.locator(".msg .timings")
    expect(timings).to_have_count(2)
    expect(timings.nth(0)).to_contain_text("tokens/s")
    expect(timings.nth(1)).to_contain_text("tokens/s")

    box.fill("a second turn")
    page.keyboard.press("Enter")
    expect(streaming.nth(0)).not_to_be_empty()
    page.keyboard.press("Escape")
    expect(timings).to_have_count(4)
    expect(page.locator(".column").nth(1).locator(".timings").last).to_contain_text("stopped")


def test_each_column_stops_and_is_asked_again(page: Page, trained: str) -> None:
    page.goto(f"/playground/?model={trained}&compare={trained}")
    page.get_by_label("Temperature").fill("0.8")
    page.get_by_label("Prompt", exact=True).fill("Slowly, please")
    page.keyboard.press("Enter")
    first, second = page.locator(".column").all()
    expect(second.locator(".text p").first).to_be_visible()
    first.get_by_role("button", name="Stop").click()
    expect(first.locator(".timings")).to_contain_text("stopped")
    expect(second.locator(".timings")).to_contain_text("seed")
    expect(second.locator(".timings")).not_to_contain_text("stopped")
    seeds = [re.findall(r"seed \d+", c.locator(".timings").inner_text()) for c in (first, second)]
    assert seeds[0] == seeds[1] != []
    first.get_by_role("button", name="Regenerate").click()
    expect(first.locator(".timings")).not_to_contain_text("stopped")
    page.locator("#regenerate").click()
    expect(page.locator(".msg.streaming .text p")).to_have_count(2)
    page.keyboard.press("Escape")
    expect(page.locator(".timings", has_text="stopped")).to_have_count(2)


def test_escape_closes_a_list_of_models_and_stops_no_answer(page: Page, trained: str) -> None:
    page.goto(f"/playground/?model={trained}")
    page.get_by_label("Prompt", exact=True).fill("Slowly, please")
    page.keyboard.press("Enter")
    page.get_by_role("combobox", name="Model").click()
    expect(page.get_by_role("listbox")).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.get_by_role("listbox")).to_be_hidden()
    answer = page.locator(".msg.assistant .timings:visible")
    expect(answer).to_have_count(1)
    expect(answer).not_to_contain_text("stopped")


def test_a_lost_hub_is_told_on_every_page_and_found_again_without_a_reload(
    browser: Browser, hub: RunningHub, trained: str
) -> None:
    with httpx.Client(base_url=hub.url, timeout=60) as client:
        earlier = client.get("/api/training/jobs").json()["items"][0]
        chosen = {key: earlier[key] for key in ("model_id", "dataset_id")}
        job = client.post("/api/training/jobs", json={**chosen, "config": {"iters": 2000}}).json()[
            "id"
        ]
        context = browser.new_context(base_url=hub.url)
        context.set_default_timeout(60_000)
        page, playground = context.new_page(), context.new_page()
        said: list[str] = []
        page.on("console", lambda message: said.append(message.text))
        playground.goto("/playground/")
        page.goto(f"/training/{job}/")
        page.bring_to_front()
        expect(page.locator("body[data-streaming]")).to_have_count(1, timeout=60_000)
        page.evaluate("window.same = true")

        web = hub.pid("web")
        assert web
        os.kill(web, signal.SIGSTOP)  # it stalls: connections are taken and nothing is answered
        try:
            banner = page.locator("#connection p")
            expect(banner).to_contain_text("No connection to the hub since", timeout=20_000)
            expect(playground.locator("#connection p")).to_have_text(
                banner.inner_text(), timeout=20_000
            )
            pause = page.get_by_role("button", name="Pause", exact=True)
            expect(pause).to_be_disabled()
            pause.click(force=True)
            assert page.evaluate("window.same")  # nothing was sent
            playground.get_by_label("Prompt", exact=True).fill("kept")
            playground.keyboard.press("Enter")
            expect(playground.get_by_label("Prompt", exact=True)).to_have_value("kept")
            expect(playground.locator(".msg")).to_have_count(0)
        finally:
            os.kill(web, signal.SIGKILL)  # `up` starts another one

        expect(page.locator("html[data-lost]")).to_have_count(0, timeout=60_000)
        expect(playground.locator("html[data-lost]")).to_have_count(0, timeout=60_000)
        expect(page.locator("body[data-streaming]")).to_have_count(1)
        step = page.locator("[data-live=iteration]")
        expect(step).not_to_have_text(step.inner_text())
        expect(pause).to_be_enabled()
        assert page.evaluate("window.same")
        assert len(said) < 25, said
        context.close()
        client.post(f"/api/training/jobs/{job}/cancel")
        wait_until(lambda: client.get(f"/training/{job}/metrics.json").json()["over"], 60)
