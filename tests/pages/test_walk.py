"""Every page of a hub that has been used, in a real Chromium and in both themes: what axe finds, what the
browser's console says, and what the Content-Security-Policy stops.

The pages come from the URL configuration, so that a new one is walked without being named here. The
browser's requests are answered by Django in this process: no hub is started.
"""

from __future__ import annotations

import re
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import cycle
from typing import Any, Literal

import pytest
from axe_playwright_python.base import AXE_SCRIPT
from django.core.files.uploadedfile import SimpleUploadedFile
from django.db import connection, connections
from django.test import Client
from django.urls import get_resolver, reverse
from django.utils import timezone
from playwright.sync_api import Browser, Page, ViewportSize, expect
from pytest_django import Settings

from inference.models import ApiToken, Conversation, InferenceRequest, Replay
from registry import audit
from registry.mlflow import tracking
from registry.models import BundleImport, DatasetTask, Model
from tests.hub.test_documented import addresses
from tests.pages.browser import DESKTOP, IN_BROWSER, Watch, chromium, overflow
from tests.pages.seed import Seeded, make_sweep
from tests.running import wait_until
from training.models import Setup, TrainingJob

pytestmark = IN_BROWSER

HERE = {"host": "127.0.0.1:8000"}
NO_PAGES = ("/api/", "/v1/", "/ollama", "/mcp", "/metrics", "/health", "/admin/")
NOT_FOUND = {  # by this walk: files that this version has not, and what is only there to be posted to
    "/models/ID/VERSION/ACTION/",
    "/models/ID/VERSION/code.diff",
    "/models/ID/VERSION/exports/FORM/",
    "/styleguide/",  # without HUB_DEBUG
}
AXE_PATH = "/static/axe.js"
PARSED_ONCE = """{  // axe reads each of a page's few colours some thousand times, with a library for all colour spaces
  const { Color } = axe.commons.color, { parseString } = Color.prototype, known = new Map();
  Color.prototype.parseString = function (text) {
    if (!known.has(text)) known.set(text, parseString.call(new Color(), text));
    const { r, g, b, alpha } = known.get(text);
    return Object.assign(this, { r, g, b, alpha });
  };
  axe.configure({ noHtml: true });  // it would write down the HTML of all that is well, too
}"""
AXE = """async ([rules, without]) => {
  const only = rules && { runOnly: { type: "rule", values: rules } };
  const options = { ...only, preload: false, resultTypes: ["violations"] };
  const found = await axe.run({ exclude: without }, options);
  return found.violations.map(({ id, help, nodes }) => {
    const html = ({ target }) => document.querySelector(target)?.outerHTML.slice(0, 160);
    const where = nodes.slice(0, 4).map((n) => `${n.target} ${html(n)}`);
    return `${id}: ${help} ${where.join(" | ")}`;
  });
}"""
MORE = ("/settings/?in=browser", "/settings/?in=backups", "/nothing-here/", "/styleguide/")
FRAMES = "() => new Promise((r) => requestAnimationFrame(() => requestAnimationFrame(r)))"
OTHER_THEME = ["color-contrast", "link-in-text-block"]  # all else is the same in both
SHELL = [".topbar", ".sidebar", "#shortcuts"]  # the same on every page


Theme = Literal["light", "dark"]
PHONE: ViewportSize = {"width": 375, "height": 800}
THEMES: tuple[tuple[Theme, Theme], ...] = (("light", "dark"), ("dark", "light"))
Parts = dict[str, list[str]]
Answer = tuple[int, dict[str, str], bytes]  # status, headers, body


@pytest.fixture(autouse=True)
def loop_in_this_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    """Playwright's, where Django would refuse to ask the database."""
    monkeypatch.setenv("DJANGO_ALLOW_ASYNC_UNSAFE", "true")


@pytest.fixture
def mlflow(monkeypatch: pytest.MonkeyPatch) -> None:
    """Starts when it is asked first, and then has a run that ended and one that goes on. Its process would
    take longer than five pages, and show either as it happens."""
    asked: list[Model] = []
    now = timezone.now()
    run: dict[str, Any] = {"run_id": "0123456789ab", "name": "0.1.0", "started_at": now}

    def history(model: Model, *limits: float) -> list[dict[str, Any]]:
        asked.append(model)
        if len(asked) == 1:
            raise tracking.MLflowStarting("MLflow is starting. Try again in a few seconds.")
        ended = {
            "status": "FINISHED",
            "ended_at": now,
            "metrics": {"train_loss": 0.5, "val_loss": None},
        }
        return [run | ended, run | {"status": "RUNNING", "ended_at": None, "metrics": {}}]

    monkeypatch.setattr(tracking, "history", history)


@pytest.fixture
def parts(seeded: Seeded, client: Client) -> Parts:
    """What stands in an address where it varies, by its beginning or by the part. There is a row for every
    page that needs one."""
    first, second, _ = seeded.versions
    now = timezone.now()
    rows = "question,answer\n" + "".join(f"How is {n} reset?,Press {n}.\n" for n in range(30))
    file = SimpleUploadedFile("tickets.csv", rows.encode())
    upload = client.post("/datasets/new/", {"files": file}, headers=HERE)["Location"]
    Conversation.objects.create(title="Lunch", columns=[{"model": "calendar", "exchanges": []}])
    ApiToken.issue("laptop", ApiToken.Scope.INFERENCE)
    audit.audit(audit.Action.KEY_CREATED, "laptop", "inference")
    ids = {
        "/bases/ID/": seeded.base,
        "/datasets/ID/": seeded.dataset,
        "/datasets/tasks/ID/": DatasetTask.objects.create(kind="register", name="many"),
        "/models/ID/": seeded.model,
        "/models/import/ID/": BundleImport.objects.create(name="helper@0.1.0", source="a.tar"),
        "/playground/try/ID/": seeded.model,
        "/requests/replays/ID/": Replay.objects.create(
            source=first, target=second, since=now, until=now
        ),
        "/start/data/ID/": seeded.dataset,
        "/start/setup/ID/": Setup.objects.create(name="tickets"),
        "/training/ID/": seeded.running,
        "/training/sweeps/ID/": make_sweep(seeded.model, seeded.dataset),
    }
    return {address: [address.replace("ID", str(row.pk))] for address, row in ids.items()} | {
        "KEY": [upload.rstrip("/").rpartition("/")[2]],
        "TAB": ["scores", "training", "lineage", "files"],
        "VERSION": [second.version],
        "SPLIT/LINE": ["train/1"],
        "NAME": ["model", "dataset"],
        "REQUEST_ID": [InferenceRequest.objects.values_list("request_id", flat=True)[0]],
        "ID": ["1"],  # of what can only be posted to
    }


def paths(address: str, parts: Parts) -> list[str]:
    found = [address]
    for part, values in parts.items():
        if address.startswith(part) if part.startswith("/") else part in address:
            found = [path.replace(part, value) for path in found for value in values]
    return found


class Answers(ThreadingHTTPServer):
    """Django's answers to the browser, headers and all; a stream of events is refused. `pages` are answers
    that are there already, for the first who asks."""

    def __init__(self, client: Client, pages: dict[str, Answer] | None = None) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.client = client
        self.pages = dict(pages or {})
        script = {"Content-Type": "text/javascript"}
        self.static: dict[str, Answer] = {
            AXE_PATH: (200, script, f"{AXE_SCRIPT}\n{PARSED_ONCE}".encode())
        }
        self.one_at_a_time = threading.Lock()

    @property
    def origin(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def handle_error(self, request: Any, client_address: Any) -> None:
        """The browser gives up what a page that it leaves has asked for."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)

    def answer(self, path: str, asked: Mapping[str, str], body: bytes | None) -> Answer:
        if "text/event-stream" in asked.get("accept", ""):
            return 204, {}, b""
        is_static = path.startswith("/static/")
        known = self.static.get(path) if is_static else None
        if asked.get("sec-fetch-dest") == "document":
            known = self.pages.pop(path, None)
        if known is None:
            headers = HERE | {k: v for k, v in asked.items() if k.startswith(("hx-", "accept"))}
            if body is None:
                answer = self.client.get(path, headers=headers)
            else:
                kind = asked["content-type"]
                answer = self.client.post(path, body, content_type=kind, headers=headers)
            known = whole(answer)
            connection.close()  # each of the browser's connections has a thread, and that one of its own
        if is_static:
            self.static[path] = known
            return known[0], known[1] | {"Cache-Control": "max-age=600"}, known[2]
        return known


class Handler(BaseHTTPRequestHandler):
    """Reads and writes what `Answers` answers."""

    protocol_version = "HTTP/1.1"
    server: Answers

    def do_GET(self) -> None:
        self.respond(None)

    def do_HEAD(self) -> None:
        self.respond(None)

    def do_POST(self) -> None:
        self.respond(self.rfile.read(int(self.headers["Content-Length"])))

    def respond(self, sent: bytes | None) -> None:
        asked = {name.lower(): value for name, value in self.headers.items()}
        with self.server.one_at_a_time:
            status, headers, body = self.server.answer(self.path, asked, sent)
        self.send_response_only(status)
        for name, value in headers.items():
            if name.lower() != "content-length":
                self.send_header(name, value)
        if status != 204:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Says nothing."""


@contextmanager
def answering(client: Client, pages: dict[str, Answer] | None = None) -> Iterator[str]:
    """The address at which `Answers` answers: a browser keeps files that come from a server, and none
    of what Playwright intercepts."""
    with Answers(client, pages) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield server.origin
        finally:
            server.shutdown()
            thread.join()


def whole(answer: Any) -> Answer:
    return answer.status_code, dict(answer.items()), answer.getvalue()


def every_page(client: Client, parts: Parts) -> dict[str, Answer]:
    """Their addresses, each with its answer."""
    found = {}
    for address in sorted(set(addresses(get_resolver()))):
        if address.startswith(NO_PAGES):
            continue
        for path in paths(address, parts):
            answer = client.get(path, headers=HERE)
            if answer.status_code == 404:
                assert address in NOT_FOUND, f"{path}: no such page in this walk"
            elif answer.status_code == 200 and b"<main" in answer.getvalue():
                found[path] = whole(answer)
    return found


@contextmanager
def browsing() -> Iterator[Browser]:
    """While a browser runs, its event loop does, and the database's connections are those of its context,
    which later tests would inherit."""
    with chromium() as browser:
        try:
            yield browser
        finally:
            connections.close_all()


@pytest.mark.django_db(transaction=True)
def test_axe_the_console_and_the_policy_find_nothing(
    seeded: Seeded, parts: Parts, mlflow: None, client: Client, settings: Settings
) -> None:
    compared = f"{seeded.model.get_absolute_url()}?" + "&".join(
        f"compare={version.version}" for version in seeded.versions[:2]
    )
    answers = every_page(client, parts)
    runs = reverse("model_runs", args=[seeded.model.pk])  # for the second time
    pages = [*answers, *MORE, compared, runs]
    found = []
    with answering(client, answers) as origin, browsing() as browser:
        context = browser.new_context(base_url=origin, viewport=DESKTOP, reduced_motion="reduce")
        page = context.new_page()
        watch = Watch(page, origin)
        for path, themes in zip(pages, cycle(THEMES), strict=False):
            settings.DEBUG = path == "/styleguide/"
            known = [] if path in pages[:2] else SHELL
            found += [f"{path}: {problem}" for problem in problems(page, path, *themes, known)]
            found += [f"{path}: {problem}" for problem in watch.problems]
            watch.problems.clear()
    assert not found, "\n".join(found)
    assert len(pages) > 50


def problems(page: Page, path: str, theme: Theme, other: Theme, known: list[str]) -> Iterator[str]:
    """What is wrong with the page at this address, in words; in the `other` theme without what is
    `known`. The next page begins in the theme and the width in which this one ends: to change them back
    would draw this one again for nobody."""
    page.emulate_media(color_scheme=theme)
    answer = page.goto(path)
    if answer is None or answer.status != (404 if "nothing" in path else 200):
        yield f"another page than before: {answer and answer.status}"
    if theme == "dark":
        yield from too_wide(page)
        resize(page, DESKTOP)
    page.add_script_tag(url=AXE_PATH)
    yield from page.evaluate(AXE, [None, []])
    page.emulate_media(color_scheme=other)
    yield from (f"{text}, {other}" for text in page.evaluate(AXE, [OTHER_THEME, known]))
    if theme == "light":
        resize(page, PHONE)
        yield from too_wide(page)


def resize(page: Page, size: ViewportSize) -> None:
    page.set_viewport_size(size)
    page.evaluate(FRAMES)  # in which charts take their new width


def too_wide(page: Page) -> Iterator[str]:
    if wide := overflow(page):
        yield f"{wide} pixels wider than a phone"


ASKED = """window.Notification = class extends EventTarget {
  static permission = "default";
  static async requestPermission() { return (this.permission = "granted"); }
  constructor(title, { body }) { super(); document.body.dataset.shown = `${title}: ${body}`; }
};"""
HIDDEN = "Object.defineProperty(document, 'hidden', { get: () => true })"


@pytest.mark.django_db(transaction=True)
def test_messages_times_and_the_notification_at_a_jobs_end(seeded: Seeded, client: Client) -> None:
    job = seeded.running
    key, _ = ApiToken.issue("laptop", ApiToken.Scope.INFERENCE)
    revoke = reverse("key_revoke", args=[key.pk])
    with answering(client) as origin, browsing() as browser:
        context = browser.new_context(base_url=origin, timezone_id="Asia/Tokyo")
        page = context.new_page()
        page.add_init_script(ASKED)
        page.clock.install()

        # A message of a form that htmx sends, and of one that the browser sends.
        page.goto("/system/keys/")
        page.evaluate("path => { htmx.ajax('POST', path, { swap: 'none' }); }", revoke)
        toast = page.locator("#toasts")
        expect(toast).to_have_text(re.compile("laptop is revoked."))
        page.clock.fast_forward(9000)
        expect(toast).to_have_text(re.compile(r"^\s*$"))
        page.goto("/settings/?in=backups")
        page.get_by_label("Backups kept").fill("0")
        page.get_by_role("button", name="Save").click()
        expect(page.get_by_role("alert")).to_contain_text("must be greater than or equal to 1")
        page.get_by_label("Backups kept").fill("7")
        page.get_by_role("button", name="Save").click()
        expect(toast).to_contain_text("Nothing was changed.")
        page.wait_for_load_state()  # with what the button does
        toast.get_by_role("button", name="Close this message").click()
        expect(toast).to_have_text(re.compile(r"^\s*$"))

        # Times are the reader's.
        page.get_by_role("link", name="This browser").click()
        expect(page.locator("[data-zone]")).to_have_text("Asia/Tokyo")
        page.goto("/requests/")
        expect(page.locator("time").first).to_have_attribute("title", re.compile(r"GMT\+9|Japan"))

        # The job ends while its tab is in the background.
        page.goto(job.get_absolute_url())
        page.get_by_role("button", name="Notify me when it ends").click()
        expect(page.get_by_role("button", name="Notifications on")).to_be_visible()
        page.evaluate(HIDDEN)
        page.clock.fast_forward(6000)
        assert page.locator("[data-shown]").count() == 0
        TrainingJob.objects.filter(pk=job.pk).update(status="completed")
        said = f"Job {job.pk} is completed: calendar on {job.dataset}"

        def is_told() -> bool:
            page.clock.fast_forward(6000)  # once more where the page still waited for an answer
            return page.locator("body").get_attribute("data-shown") == said

        wait_until(is_told)
