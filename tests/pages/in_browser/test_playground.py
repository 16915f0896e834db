"""The playground in a real Chromium, with a model that answers every question with hostile Markdown."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from playwright.sync_api import Browser, Locator, Page, expect

from tests.pages.browser import IN_BROWSER, overflow
from tests.running import RunningHub, run_hub

pytestmark = IN_BROWSER

HOSTILE = r"""# Plan

Energy is $E = mc^2$; it costs $5 or $6, or $\href{javascript:window.hurt=8}{x}$ and
$\fcolorbox{red}{blue}{y}$.

$$
\frac{a_1}{b_2} * c * d
$$

Some **bold** words and `code`.

```python
print("hello")
```

| day | hour |
| --- | --: |
| Mon | 9 |

<img src=x onerror="window.hurt = 1"><script>window.hurt = 2</script>
<a href="javascript:window.hurt=3" onclick="window.hurt=4">raw</a>

[bad](javascript:window.hurt=5) [worse](data:text/html,<script>window.hurt=6</script>)
![pixel](https://tracker.example/p.png) <iframe srcdoc="<script>parent.hurt=7</script>"></iframe>

- [good](https://good.example/)
"""
SLOW_FETCH = """() => {
  const quick = window.fetch;
  window.fetch = async (...asked) => {
    await new Promise((over) => setTimeout(over, 1000));
    return quick(...asked);
  };
}"""
BASE = "base:SmolLM2-135M-Instruct"


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningHub]:
    pace: dict[str, Any] = {"HUB_FAKE_TOKENS_PER_SECOND": "500", "HUB_FAKE_REPLY": HOSTILE}
    with run_hub(tmp_path_factory.mktemp("hub"), **pace) as running:
        with httpx.Client(base_url=running.url, timeout=60, follow_redirects=True) as client:
            client.get("/models/new/")
            data = {"csrfmiddlewaretoken": client.cookies["csrftoken"]}
            assert client.post("/models/starter/", data=data).is_success
        yield running


def ask(page: Page, text: str) -> None:
    page.get_by_label("Prompt", exact=True).fill(text)
    page.keyboard.press("Enter")


def finished(page: Page, answers: int) -> Locator:
    """The answers, once there are so many and all have ended."""
    ended = page.locator(".msg.assistant .timings:visible")
    expect(ended).to_have_count(answers, timeout=20_000)
    return page.locator(".msg.assistant")


def test_thoughts_are_folded_once_the_answer_begins(page: Page, hub: RunningHub) -> None:
    page.goto("/playground/")
    page.get_by_label("Thinking", exact=True).select_option("On")
    ask(page, "What do you think of it?")
    thoughts = page.locator(".thoughts")
    [answer] = finished(page, 1).all()
    expect(answer.locator(".text").get_by_role("heading", name="Plan")).to_be_visible()
    expect(thoughts.locator(".inner")).to_be_hidden()
    thoughts.get_by_text("Thoughts").click()
    expect(thoughts.locator(".inner")).to_contain_text("adapter amber anchor")
    # They are kept with the answer, and a budget cuts them.
    page.get_by_role("button", name="Save", exact=True).click()
    page.wait_for_url("**/playground/?conversation=*")
    page.reload()
    page.locator(".thoughts").get_by_text("Thoughts").click()
    expect(page.locator(".thoughts .inner")).to_contain_text("adapter amber anchor")
    expect(page.get_by_label("Thinking", exact=True)).to_have_value("on")
    kept = page.url.partition("conversation=")[2]
    httpx.delete(f"{hub.url}/api/playground/conversations/{kept}", timeout=60).raise_for_status()


def test_the_walk(page: Page) -> None:
    # One column asks; its answer is Markdown, and nothing in it runs or loads.
    page.goto("/playground/")
    ask(page, "What is the plan?")
    [answer] = finished(page, 1).all()
    text = answer.locator(".text")
    expect(text.get_by_role("heading", name="Plan")).to_be_visible()
    expect(text.locator("strong")).to_have_text("bold")
    expect(text.locator("table td")).to_have_text(["Mon", "9"])
    expect(text.locator("td").last).to_have_css("text-align", "right")
    expect(text.locator(".code")).to_contain_text("python")
    # Code has colours and formulas are set, by libraries that only now were loaded.
    expect(text.locator(".code .hljs-string")).to_have_text('"hello"')
    expect(text.locator("math")).to_have_count(4)
    expect(text.locator("math[display=block] mfrac")).to_have_count(1)
    expect(text).to_contain_text("it costs $5 or $6, or")
    assert text.locator("[style], math [href]").count() == 0
    assert text.locator("script, img, iframe, [onclick], [onerror]").count() == 0
    links = text.locator("a").evaluate_all("links => links.map((link) => link.href)")
    # What would have been loaded as an image is a link that a person may follow.
    assert links == ["https://tracker.example/p.png", "https://good.example/"]
    expect(text).to_contain_text('<a href="javascript:')  # told, not obeyed
    assert page.evaluate("window.hurt") is None
    expect(answer.locator(".timings")).to_contain_text(re.compile(r"\d+ ms · .*tokens/s"))
    expect(answer.locator(".timings")).to_contain_text(re.compile(r"\d+ of [\d,]+ in context"))

    # Kept on purpose, and then kept up to date.
    page.get_by_role("button", name="Save", exact=True).click()
    expect(page.get_by_role("heading", level=1)).to_have_text("What is the plan?")
    page.wait_for_url("**/playground/?conversation=*")
    page.get_by_role("button", name="Add a model").click()
    page.get_by_role("combobox", name="Model").nth(1).fill("smol")
    expect(page.get_by_role("option", name=BASE)).to_be_visible()
    page.keyboard.press("Enter")
    ask(page, "And then?")
    finished(page, 4)  # the new column began with the first one's answer
    expect(page.locator("#kept")).to_contain_text("Saved")

    # Change the last message, in both columns: another branch begins there, and the old one stays.
    page.get_by_label("Prompt", exact=True).press("ArrowUp")
    expect(page.get_by_label("Prompt", exact=True)).to_have_value("And then?")
    with page.expect_response(lambda r: r.request.method == "PUT" and r.ok):
        ask(page, "And after that?")
        finished(page, 4)
    assert page.get_by_text("And then?").count() == 0
    first = page.locator(".column").first
    first.get_by_role("button", name="Edit this message").first.click()
    with page.expect_response(lambda r: r.request.method == "PUT" and r.ok):
        ask(page, "What is the other plan?")
        finished(page, 2)
    assert page.locator(".msg.user .text").all_inner_texts() == ["What is the other plan?"] * 2
    with page.expect_response(lambda r: r.request.method == "PUT" and r.ok):
        first.get_by_role("button", name="Previous branch").click()
    expect(first.locator(".msg.user .text")).to_have_text(["What is the plan?", "And after that?"])
    expect(first.locator(".branches:visible span")).to_have_text(["1 / 2", "2 / 2"])
    expect(first.get_by_role("button", name="Next branch").first).to_be_focused()
    with page.expect_response(lambda r: r.request.method == "PUT" and r.ok):
        page.locator(".column").nth(1).get_by_role("button", name="Previous branch").click()

    # Opened again it is all there, and still harmless.
    page.reload()
    expect(page.locator(".column")).to_have_count(2)
    expect(page.get_by_text("And after that?")).to_have_count(2)
    last = first.locator(".exchange").last
    last.get_by_role("button", name="Previous branch").click()
    expect(last.locator(".msg.user .text")).to_have_text("And then?")
    last.get_by_role("button", name="Next branch").click()
    assert page.locator(".text script, .text img").count() == 0
    assert page.evaluate("window.hurt") is None

    # Renamed and deleted in the list.
    page.get_by_role("button", name="Chats").click()
    page.get_by_label("Rename What is the plan?").click()
    page.get_by_label("New title").fill("The plan")
    page.keyboard.press("Enter")
    expect(page.locator("#title")).to_have_text("The plan")
    page.once("dialog", lambda dialog: dialog.accept())
    page.get_by_role("button", name="Delete The plan").click()
    expect(page.get_by_text("Nothing is kept yet")).to_be_visible()
    expect(page.locator("#title")).to_have_text("Playground")


def test_an_answer_is_rated_and_edited_with_its_request(page: Page, hub: RunningHub) -> None:
    page.goto(f"/playground/?model={BASE}")
    ask(page, "Rate me")
    [answer] = finished(page, 1).all()
    expect(answer.locator(".timings")).to_contain_text(re.compile(r"tokens · .*finished"))
    with page.expect_response(lambda r: r.url.endswith("/feedback") and r.ok):
        answer.get_by_role("button", name="Bad answer").click()
    expect(answer.get_by_role("button", name="Bad answer")).to_have_attribute(
        "aria-pressed", "true"
    )
    expect(answer.get_by_text("Edit the answer to say what it should be.")).to_be_visible()
    answer.get_by_role("button", name="Edit answer").click()
    expect(answer.get_by_role("button", name="Keep", exact=True)).to_be_in_viewport()
    better = answer.get_by_label("The answer as it should be")
    expect(better).to_be_focused()
    expect(better).to_have_value(re.compile("# Plan"))
    better.fill("Much better.")
    answer.get_by_role("button", name="Keep", exact=True).click()
    answer.get_by_text("Better answer").click()
    expect(answer.locator(".better .inner")).to_have_text("Much better.")
    # The hub logs no prompts, but what was rated is kept: a pair to learn from.
    sent = {"kind": "preferences"}
    made = httpx.post(f"{hub.url}/api/feedback/examples", json=sent, timeout=60).json()
    [pair] = made["examples"]
    assert pair["prompt"] == [{"role": "user", "content": "Rate me"}]
    assert pair["chosen"] == [{"role": "assistant", "content": "Much better."}]
    assert pair["rejected"][0]["content"].startswith("# Plan")
    answer.get_by_role("link", name="Request").click()
    expect(page.get_by_role("heading", name="answered with")).to_be_visible()
    expect(page.get_by_role("button", name="Bad")).to_have_attribute("aria-pressed", "true")
    expect(page.locator(".phases li")).not_to_have_count(0)
    page.get_by_role("link", name="All rated answers").click()
    expect(page.get_by_text("Much better.")).to_be_visible()


def test_json_and_calls_of_tools_are_trees_that_fold(page: Page, hub: RunningHub) -> None:
    deep = {"a": {"b": {"c": {"d": 1}}}, "list": [1, "two", None]}
    calls = [{"name": "find", "arguments": '{"q": "noon"}'}]
    exchange = {"user": "As JSON", "answer": json.dumps(deep), "tool_calls": calls}
    column = {"model": BASE, "exchanges": [exchange]}
    path = f"{hub.url}/api/playground/conversations"
    kept = httpx.post(path, json={"columns": [column]}, timeout=60).json()
    page.goto(f"/playground/?conversation={kept['id']}")
    answer = page.locator(".text .tree")
    expect(answer).to_contain_text('"two"')
    expect(answer.get_by_text("d:")).to_be_hidden()
    answer.get_by_text("c: 1 field").click()
    expect(answer.locator(".leaf", has_text="d:")).to_be_visible()
    expect(page.locator(".calls .code")).to_contain_text("calls find")
    expect(page.locator(".calls .tree")).to_contain_text('q: "noon"')
    httpx.delete(f"{path}/{kept['id']}", timeout=60)


def test_a_request_is_asked_again_with_what_no_field_shows(page: Page) -> None:
    """As a request of the log is opened: its settings stay, and its answer becomes a branch."""
    sampling = {"max_tokens": None, "logit_bias": {"5": -1}, "regex": "a+", "temperature": 0.5}
    exchange = {"user": "Again", "answer": "First"}
    body = {"sampling": sampling, "columns": [{"model": BASE, "exchanges": [exchange]}]}
    path = "/api/playground/conversations"
    kept = page.request.post(path, data=body).json()
    page.goto(f"/playground/?conversation={kept['id']}")
    expect(page.locator("#also")).to_contain_text('"logit_bias":{"5":-1}')
    expect(page.get_by_label("Regular expression of the answer")).to_have_value("a+")
    expect(page.get_by_label("Maximum answer length")).to_have_value("")
    page.get_by_label("JSON schema of the answer").fill("{}")
    assert "either a schema or" in page.locator("#json_schema").evaluate("f => f.validationMessage")
    page.get_by_label("JSON schema of the answer").fill("")
    page.get_by_label("Regular expression of the answer").fill("")
    with page.expect_response(lambda r: r.request.method == "PUT" and r.ok) as saved:
        page.locator("#columns [data-do=regenerate]").click()
        finished(page, 1)
    assert saved.value.json()["sampling"] == {
        "logit_bias": {"5": -1.0},
        "max_tokens": None,
        "temperature": 0.5,
        "top_p": 1.0,
        "min_p": 0.0,
        "top_k": 0,
        "repetition_penalty": 1.0,
        "presence_penalty": 0.0,
        "frequency_penalty": 0.0,
    }
    expect(page.locator(".branches span")).to_have_text("2 / 2")
    page.get_by_role("button", name="Previous branch").click()
    expect(page.locator(".msg.assistant .text")).to_have_text("First")
    page.request.delete(f"{path}/{kept['id']}")


def test_no_button_is_dead_without_scripts(browser: Browser, hub: RunningHub) -> None:
    context = browser.new_context(base_url=hub.url, java_script_enabled=False)
    page = context.new_page()
    page.goto("/playground/")
    expect(page.locator("main .notice")).to_be_visible()
    assert page.locator("main").get_by_role("button").count() == 0
    context.close()


def test_tokens_have_probabilities_and_rivals(page: Page) -> None:
    page.goto("/playground/")
    page.get_by_role("button", name="Tokens").click()
    ask(page, "Show them")
    finished(page, 1)
    tokens = page.locator(".tokens > .token")
    assert "".join(tokens.all_inner_texts()).startswith("# Plan")
    assert page.locator(".tokens > .level-1").count() > 0
    tokens.nth(0).focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    expect(tokens.nth(2)).to_be_focused()
    tip = page.get_by_role("tooltip")
    expect(tip).to_contain_text("Plan")
    expect(tip.locator(".alternative")).to_have_count(5)
    expect(tip.locator(".chosen")).to_contain_text(re.compile(r"\d %"))
    page.get_by_role("button", name="Tokens").click()
    expect(page.get_by_role("heading", name="Plan")).to_be_visible()


def test_what_goes_wrong_is_one_sentence_in_its_column(page: Page) -> None:
    page.goto(f"/playground/?model={BASE}&compare=no-such-model")
    ask(page, "Hello")
    wrong = page.locator(".column").nth(1)
    expect(wrong.get_by_role("alert")).to_contain_text("There is no model 'no-such-model'.")
    finished(page, 1)
    expect(wrong.get_by_role("button", name="Try again")).to_be_visible()
    # Quicker than the list of models comes: the name given last is asked all the same.
    page.evaluate(SLOW_FETCH)
    page.get_by_role("combobox").nth(1).fill(BASE)
    page.keyboard.press("Enter")
    wrong.get_by_role("button", name="Try again").click()
    finished(page, 2)


def test_an_answer_stays_when_no_other_one_comes_in_its_place(page: Page, hub: RunningHub) -> None:
    page.goto(f"/playground/?model={BASE}")
    ask(page, "Once")
    finished(page, 1)
    page.get_by_role("button", name="Save", exact=True).click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Once")
    page.get_by_role("combobox", name="Model").fill("no-such-model")
    page.keyboard.press("Enter")
    prompt = page.get_by_label("Prompt", exact=True)

    def ask_again(text: str) -> None:
        prompt.press("ArrowUp")
        ask(page, text)

    for act in (
        lambda: page.get_by_role("button", name="Regenerate").click(),
        lambda: ask_again("Twice"),
    ):
        with page.expect_response(lambda r: r.request.method == "PUT" and r.ok):
            act()
        expect(page.get_by_role("alert")).to_contain_text("no-such-model")
        expect(page.locator(".msg.user")).to_have_text(re.compile("Once"))
        expect(page.get_by_role("heading", name="Plan")).to_be_visible()
    page.reload()
    expect(page.get_by_role("heading", name="Plan")).to_be_visible()
    kept = page.url.rpartition("=")[2]
    assert httpx.delete(f"{hub.url}/api/playground/conversations/{kept}").is_success


def test_a_model_is_chosen_by_the_arrow_keys(page: Page) -> None:
    options = "".join(f'<p role="option" data-name="{name}">{name}</p>' for name in (BASE, "other"))
    page.route("**/playground/models/**", lambda route: route.fulfill(body=options))
    page.goto(f"/playground/?model={BASE}")
    model = page.get_by_role("combobox", name="Model")
    model.click()
    expect(page.get_by_role("option", name=BASE)).to_have_attribute("aria-selected", "true")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")
    expect(model).to_have_value("other")


def test_a_model_is_chosen_though_one_goes_on_at_once(page: Page) -> None:
    page.goto("/playground/?model=no-such-model")
    page.get_by_role("combobox", name="Model").fill("smol")
    page.keyboard.press("Enter")
    ask(page, "Hello")
    expect(page.get_by_role("combobox", name="Model")).to_have_value(BASE)


def test_the_request_is_shown_as_code_with_its_settings(page: Page) -> None:
    page.goto(f"/playground/?model={BASE}")
    page.get_by_label("System prompt", exact=True).fill("It's exact")
    page.get_by_label("Top k").fill("40")
    page.get_by_text("Penalties and stop sequences").click()
    page.get_by_label("Stop sequences").fill("END\n\\n")
    page.get_by_label("Prompt", exact=True).fill('Say "hi"')
    page.get_by_role("button", name="Code").click()
    code = page.locator("#code-python")
    expect(code).to_contain_text(f'model="{BASE}"')
    for part in ("It's exact", 'Say \\"hi\\"', '"top_k": 40', '"END"', '"\\n"'):
        assert part in code.inner_text(), part
    compile(code.inner_text(), "snippet", "exec")
    assert 'Say \\"hi\\"' in page.locator("#code-curl").inner_text()


def test_a_preset_is_saved_and_used_again(page: Page) -> None:
    page.goto(f"/playground/?model={BASE}")
    system = page.get_by_label("System prompt", exact=True)
    system.fill("Be brief.")
    page.get_by_label("Top k").fill("40")
    page.get_by_text("Answer format and tools").click()
    schema = page.get_by_label("JSON schema of the answer")
    schema.fill("{")
    page.get_by_text("Save these settings").click()
    page.get_by_label("Name of the preset").fill("Terse")
    page.keyboard.press("Enter")
    assert "no JSON yet" in schema.evaluate("field => field.validationMessage")
    schema.fill('{"type": "object"}')
    page.get_by_label("Offered to").select_option("Only this model")
    page.get_by_role("button", name="Save", exact=True).last.click()
    expect(page.get_by_text("“Terse” is saved.")).to_be_visible()
    page.reload()
    page.get_by_label("Preset", exact=True).select_option("Terse")
    expect(system).to_have_value("Be brief.")
    expect(page.get_by_label("Top k")).to_have_value("40")
    expect(schema).to_have_value(re.compile('"type": "object"'))
    page.get_by_role("combobox", name="Model").fill("no-such-model")
    page.keyboard.press("Enter")
    expect(page.get_by_role("option", name="Terse")).to_have_count(0)  # it is another model's
    page.get_by_role("combobox", name="Model").fill(BASE)
    page.keyboard.press("Enter")
    page.get_by_label("Preset", exact=True).select_option("Terse")
    page.once("dialog", lambda dialog: dialog.accept())
    page.locator("#delete-preset").click()
    expect(page.get_by_text("“Terse” is deleted.")).to_be_visible()


def test_a_phone_swipes_from_column_to_column(page: Page) -> None:
    page.set_viewport_size({"width": 390, "height": 800})
    page.goto(f"/playground/?model={BASE}&compare={BASE}&compare={BASE}")
    ask(page, "Hello")
    finished(page, 3)
    assert overflow(page) == 0
    strip = page.get_by_role("navigation", name="Columns").get_by_role("button")
    expect(strip.nth(0)).to_have_attribute("aria-current", "true")
    strip.nth(2).click()
    expect(strip.nth(2)).to_have_attribute("aria-current", "true")
    expect(page.get_by_role("button", name="Send")).to_be_in_viewport()
    page.get_by_role("button", name="Settings").click()
    expect(page.get_by_label("Temperature")).to_be_in_viewport()
    page.keyboard.press("Escape")
    expect(page.get_by_label("Temperature")).to_be_hidden()
    assert json.loads(page.evaluate("JSON.stringify(window.hurt ?? null)")) is None
