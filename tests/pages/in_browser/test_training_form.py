"""The form of a training job and the plan beside it."""

from __future__ import annotations

import re

from django.template.loader import render_to_string
from django.utils.safestring import SafeString
from playwright.sync_api import Page, Route, expect

from tests.pages.browser import IN_BROWSER

pytestmark = IN_BROWSER


def test_a_wrong_setting_is_shown_at_its_field(page: Page, trained: str) -> None:
    page.goto("/training/new/")
    steps = page.get_by_label("Steps", exact=True)
    steps.fill("0")
    expect(page.locator("#id_iters_error")).to_contain_text("Enter a whole number from 1 to")
    expect(steps).to_have_attribute("aria-invalid", "true")
    assert "id_iters_error" in (steps.get_attribute("aria-describedby") or "")
    button = page.get_by_role("button", name="Queue the job")
    expect(button).to_be_disabled()
    expect(button).to_have_accessible_description(re.compile("until the problem above is solved"))
    button.click(force=True)  # leads to what is wrong
    expect(steps).to_be_focused()
    steps.fill("20")
    expect(button).to_be_enabled()
    expect(page.locator("#id_iters_error")).to_have_count(0)
    assert not steps.get_attribute("aria-invalid")


def test_the_plan_follows_changes_that_come_while_it_is_asked_for(page: Page, trained: str) -> None:
    page.goto("/training/new/")
    page.get_by_label("LoRA rank", exact=True).fill("4, 8")
    for size in ("2", "2, 4", "2, 4, 8"):  # each amid the answer to the one before
        page.get_by_label("Batch size", exact=True).fill(size)
        page.wait_for_timeout(310)
    expect(page.get_by_role("button", name="Queue 6 jobs")).to_be_visible()


class ManyModels:
    """The form's field of a model as it is where there are more than it offers."""

    id_for_label, label, html_name = "id_model", "Model", "model"
    many, words, found, errors, offered = 140, "", None, (), (1,)

    def __init__(self, select: str) -> None:
        self._select = select

    def __str__(self) -> str:
        return SafeString(self._select)


def test_a_model_is_searched_for_and_the_plan_follows(page: Page, trained: str) -> None:
    field = re.compile(
        r'<div class="field">\s*<label for="id_model">.*?(<select name="model".*?</select>)'
        r"\s*</div>\s*</div>",
        re.DOTALL,
    )

    def with_many(route: Route) -> None:
        html = route.fetch()
        select = field.search(html.text())
        assert select is not None
        many = render_to_string("training/_rows_field.html", {"field": ManyModels(select[1])})
        route.fulfill(response=html, body=field.sub(lambda _: many, html.text()))

    page.route("**/training/new/", with_many)
    page.goto("/training/new/")
    search = page.get_by_label("Search models")
    search.focus()
    page.evaluate("addEventListener('change', (event) => { window.changed = event.target.id; })")
    with (
        page.expect_response(lambda answer: "find=model&find_model=pag" in answer.url),
        page.expect_response("**/training/new/plan/"),
    ):
        search.press_sequentially("pag")
    page.wait_for_function("window.changed === 'find_model'")  # which the plan listens for
    expect(page.get_by_label("Model", exact=True)).to_have_text(re.compile(trained))
    search.press("Enter")  # sends nothing
    page.wait_for_timeout(200)
    assert page.url.endswith("/training/new/")
    expect(search).to_be_focused()
