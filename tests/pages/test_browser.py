"""The pages in a real Chromium against the real processes, with the fake backend."""

from __future__ import annotations

import os
import re
import runpy
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import httpx
import pytest
from django.template.loader import render_to_string
from django.utils.safestring import SafeString
from playwright.sync_api import Browser, Locator, Page, Route, expect

from tests.pages.browser import Watch, chromium, executable, overflow
from tests.pages.seed import write_examples
from tests.running import RunningHub, run_hub, wait_until

pytestmark = [
    pytest.mark.any_database,
    pytest.mark.skipif(executable() is None, reason="no Chromium is installed"),
]

PROMPT = "Lunch with Ada on Friday at noon"


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """One browser for this module alone: while it lives, its event loop runs in this thread."""
    with chromium() as running:
        yield running


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningHub]:
    """A hub slow enough for a person, or a test, to see answers and training on their way."""
    pace: dict[str, Any] = {
        "HUB_FAKE_TOKENS_PER_SECOND": "20",
        "HUB_FAKE_REPLY_WORDS": "30",
        "HUB_FAKE_STEP_SECONDS": "0.1",
    }
    with run_hub(tmp_path_factory.mktemp("hub"), **pace) as running:
        yield running


@pytest.fixture
def page(browser: Browser, hub: RunningHub) -> Iterator[Page]:
    with window(browser, hub) as page:
        yield page


@contextmanager
def window(browser: Browser, hub: RunningHub) -> Iterator[Page]:
    """A fresh desktop window; the test fails for anything that went wrong on its pages."""
    context = browser.new_context(base_url=hub.url, viewport={"width": 1280, "height": 860})
    context.set_default_timeout(20_000)
    page = context.new_page()
    watch = Watch(page, hub.url)
    yield page
    context.close()
    assert watch.problems == []


@pytest.fixture
def first_page(browser: Browser, tmp_path: Path) -> Iterator[Page]:
    """A window on a hub that nobody has used."""
    with run_hub(tmp_path) as hub, window(browser, hub) as page:
        yield page


@pytest.fixture(scope="module")
def trained(hub: RunningHub, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The name of a model with the versions 0.1.0 and 0.1.1, made through the pages' forms."""
    folder = write_examples(tmp_path_factory.mktemp("examples"), train=40)
    with httpx.Client(base_url=hub.url, timeout=60, follow_redirects=True) as client:
        submit(client, "/models/starter/")
        base = client.get("/api/bases").json()["items"][0]["id"]
        model = submit(client, "/models/new/", name="paged", base=base, task_type="chat")
        files = [("files", (path.name, path.read_bytes())) for path in folder.iterdir()]
        staged = submit(client, "/datasets/new/", files)
        dataset = submit(client, staged, name="paged-examples", register="")
        for seed in (1, 2):
            chosen = {"model": last_number(model), "dataset": last_number(dataset)}
            settings = {"iters": 12, "warmup": 2, "steps_per_eval": 4, "seed": seed}
            job = submit(client, "/training/new/", **chosen, **settings)
            wait_until(lambda job=job: client.get(f"{job}metrics.json").json()["over"], 90)
        assert "0.1.1" in client.get(model).text
    return "paged"


def submit(client: httpx.Client, path: str, files: Any = None, **fields: Any) -> str:
    """Send a form as a browser does; the path of the page it leads to."""
    client.get("/models/new/")
    data = {"csrfmiddlewaretoken": client.cookies["csrftoken"], **fields}
    answer = client.post(path, data=data, files=files)
    assert answer.is_success, answer.text
    return answer.url.path


def last_number(path: str) -> str:
    return path.rstrip("/").rpartition("/")[2]


def test_register_train_watch_promote_ask_and_compare(
    page: Page, hub: RunningHub, tmp_path: Path
) -> None:
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


def test_what_is_copied_with_the_keyboard_runs(page: Page, trained: str, hub: RunningHub) -> None:
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    page.goto("/models/?q=paged")
    page.get_by_role("link", name=trained, exact=True).click()
    page.get_by_role("link", name="Use from code").first.click()
    run = {
        "Python (openai)": ("python", sys.executable),
        "Python (anthropic)": ("anthropic", sys.executable),
        "curl": ("curl", "bash"),
    }
    languages = page.get_by_role("navigation", name="Language")
    for language, (key, program) in run.items():
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
        ran = subprocess.run([program, "-c", copied], capture_output=True, text=True, timeout=120)
        assert ran.returncode == 0, ran.stderr
        assert ran.stdout.strip(), language
    page.goto("/models/?q=paged")
    page.get_by_role("link", name=trained, exact=True).click()
    page.goto(f"{page.url}0.1.0/#reproduction")  # an older link
    expect(page).to_have_url(re.compile("/lineage/#reproduction$"))
    page.locator("summary", has_text="Compare").click()
    page.get_by_label("another version").select_option("0.1.1")
    page.get_by_role("button", name="Compare", exact=True).click()
    expect(page.get_by_role("heading", name="Comparison of 2 versions")).to_be_visible()


COUNT = """addEventListener("pointerdown", () => {
  sessionStorage.clicks = Number(sessionStorage.clicks ?? 0) + 1;
}, true)"""
DROP = """([name, text]) => {
  const dataTransfer = new DataTransfer();
  dataTransfer.items.add(new File([text], name));
  for (const kind of ["dragover", "drop"])
    document.body.dispatchEvent(new DragEvent(kind, { dataTransfer, bubbles: true, cancelable: true }));
}"""
TICKETS = "id,question,answer\n" + "".join(f"{n},How is {n} reset?,Press {n}.\n" for n in range(60))


def runs(code: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The program ends well, and says something."""
    program = tmp_path / "asked.py"
    program.write_text(code)
    runpy.run_path(str(program))
    assert capsys.readouterr().out.strip()


def copied_python(page: Page) -> str:
    expect(page.get_by_role("button", name="Copied")).to_be_visible()
    code: str = page.evaluate("navigator.clipboard.readText()")
    return code


def test_a_dropped_file_becomes_a_model_and_its_python_in_six_clicks(
    first_page: Page, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page = first_page
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    page.add_init_script(COUNT)
    page.goto("/")
    page.evaluate(DROP, ["dropped here.csv", TICKETS])
    page.wait_for_url("**/start/file/*/")
    expect(page.get_by_text("These columns are not used: id.")).to_be_visible()
    expect(page.get_by_label("Model name")).to_have_value("dropped-here")
    assert page.evaluate(CONTRAST) == []
    page.get_by_text("SmolLM2-135M-Instruct").first.click()
    page.get_by_text("Trial", exact=True).click()
    expect(page.locator("dd", has_text=re.compile("^20$"))).to_be_visible()
    page.get_by_role("button", name="Train", exact=True).click()
    page.get_by_role("link", name="Try it").click(timeout=120_000)
    timings = page.locator(".msg .timings")
    expect(timings).to_have_count(2, timeout=60_000)  # asked by itself, beside the base model
    page.get_by_role("button", name="Code", exact=True).first.click()
    expect(page.locator("#code-python")).to_contain_text("OpenAI")
    block = page.locator(".code", has=page.locator("#code-python"))
    block.get_by_role("button", name="Copy").click()
    code = copied_python(page)
    assert int(page.evaluate("sessionStorage.clicks")) <= 6
    runs(code, tmp_path, capsys)


def test_the_same_by_keyboard_on_a_narrow_dark_screen(
    first_page: Page, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page = first_page
    page.set_viewport_size({"width": 390, "height": 860})
    page.emulate_media(color_scheme="dark")
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    file = tmp_path / "typed.csv"
    file.write_text(TICKETS)

    def press(name: str, role: Literal["button", "link"] = "button", timeout: int = 20_000) -> None:
        """Tab to it, and press Enter."""
        target = page.get_by_role(role, name=name, exact=True).first
        expect(target).to_be_visible(timeout=timeout)
        tab_to(target)
        page.keyboard.press("Enter")

    def tab_to(target: Locator) -> None:
        for _ in range(120):
            if target.evaluate("element => element === document.activeElement"):
                return
            page.keyboard.press("Tab")
        raise AssertionError(f"The keyboard does not reach {target}.")

    page.goto("/start/")
    tab_to(page.locator("#start-files"))  # where Enter opens the system's dialog
    page.locator("#start-files").set_input_files(file)
    page.wait_for_url("**/start/file/*/")
    assert overflow(page) == 0
    assert page.evaluate(CONTRAST) == []
    tab_to(page.locator("input[name=preset]:checked"))
    page.keyboard.press("ArrowDown")
    expect(page.locator("input[name=preset][value=trial]")).to_be_checked()
    expect(page.locator("dd", has_text=re.compile("^20$"))).to_be_visible()
    tab_to(page.get_by_label("Model name"))
    page.keyboard.press("Control+A")
    page.keyboard.type("not a name")
    page.keyboard.press("Enter")
    expect(page.get_by_text("is not a valid name")).to_be_visible()  # and the file is still here
    tab_to(page.get_by_label("Model name"))
    page.keyboard.press("Control+A")
    page.keyboard.type("typed")
    page.keyboard.press("Enter")
    press("Try it", "link", timeout=120_000)
    expect(page.locator(".msg .timings")).to_have_count(2, timeout=60_000)
    press("Code")
    expect(page.locator("#code-python")).to_contain_text("typed@0.1.0")
    tab_to(page.locator(".code", has=page.locator("#code-python")).get_by_role("button"))
    page.keyboard.press("Enter")
    runs(copied_python(page), tmp_path, capsys)


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


CONTRAST = """() => {
  const canvas = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
  const rgb = (css) => {
    canvas.clearRect(0, 0, 1, 1); canvas.fillStyle = css; canvas.fillRect(0, 0, 1, 1);
    return [...canvas.getImageData(0, 0, 1, 1).data];
  };
  const light = ([r, g, b]) => [r, g, b].map((v) => v / 255)
    .map((v) => (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4))
    .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
  const behind = (element) => {
    for (let e = element; e; e = e.parentElement) {
      const colour = rgb(getComputedStyle(e).backgroundColor);
      if (colour[3] === 255) return colour;
    }
    return rgb("white");
  };
  const poor = [];
  for (const element of document.querySelectorAll("body *")) {
    const own = [...element.childNodes].some((n) => n.nodeType === 3 && n.textContent.trim());
    if (!own || !element.checkVisibility() || element.closest("svg, option, .u-legend")) continue;
    const [a, b] = [light(rgb(getComputedStyle(element).color)), light(behind(element))];
    const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    if (ratio < 4.5) poor.push([element.tagName, element.className, element.textContent.trim().slice(0, 30), ratio.toFixed(2)]);
  }
  return poor;
}"""


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
