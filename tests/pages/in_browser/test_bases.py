"""A file of a model becomes a base."""

from __future__ import annotations

from playwright.sync_api import Page, expect

from tests.pages.browser import IN_BROWSER

pytestmark = IN_BROWSER


def test_a_dropped_model_is_sent_and_becomes_a_base(page: Page) -> None:
    page.goto("/bases/new/")
    expect(page.locator("#here-found")).not_to_contain_text("Looking")
    page.route(
        "**/import", lambda route: route.abort("aborted")
    )  # what has arrived is not lost by that
    page.evaluate(
        """() => {
          const data = new DataTransfer();
          data.items.add(new File(["GGUF dropped"], "dropped.gguf"));
          for (const type of ["dragover", "drop"])
            document.body.dispatchEvent(
              new DragEvent(type, { dataTransfer: data, bubbles: true, cancelable: true }));
        }"""
    )
    expect(page.locator("[data-sent-error]")).to_contain_text("trying again")
    page.get_by_label("Name", exact=True).first.fill("mine")
    page.unroute("**/import")
    page.wait_for_url("**/bases/")
    page.get_by_role("link", name="mine").first.click()
    expect(page.locator(".lead")).to_contain_text("Serves here")
