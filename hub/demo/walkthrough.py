"""The demo: register, train, version and serve, as a client of the running hub.

It takes no shortcuts: the processes are those of `manage.py up`, and every step after importing the
starter model is a request to the hub's own API.
"""

from __future__ import annotations

import asyncio
import json
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import httpx
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn
from rich.table import Table

from backends.base import Message
from hub.demo.evaluation import Answer, evaluate, http_ask
from hub.demo.evaluation import Report as EvaluationReport
from registry.bases.registration import register_starter
from registry.datasets.snapshots import register_starter_dataset
from registry.errors import HubError
from registry.storage.sizes import human

MODEL = "calendar"
REGISTRATION = {
    "name": MODEL,
    "task_type": "extraction",
    "description": "Requests in plain language become calendar entries as exact JSON.",
    "tags": ["demo"],
}
CONFIG = Path(__file__).with_name("config.json")
SHOWN = 3  # held-out requests whose answers are printed, one for each 20 s that are allowed
STREAMS = 32
SAY_EVERY_S = 10.0  # without a terminal, which would show bars
FEWEST_ITERS, FEWEST_QUESTIONS = 4, 2  # perplexity 14 becomes 1.4
START_S = 15.0  # of a job, and of a model that is loaded to answer
MAX_TOKENS = 40  # expected answers are shorter; an untuned base would keep going


class DemoFailed(HubError):
    """A step of the demo failed; the text says which one and what to do."""


@dataclass
class Api:
    """A minimal client of the hub's JSON API."""

    url: str
    client: httpx.Client = field(init=False)

    def __post_init__(self) -> None:
        self.client = httpx.Client(base_url=self.url, timeout=120)

    def get(self, path: str) -> Any:
        return self._answer(self.client.get(path))

    def post(self, path: str, body: dict[str, Any] | None = None) -> Any:
        return self._answer(self.client.post(path, json=body or {}))

    @staticmethod
    def _answer(response: httpx.Response) -> Any:
        if response.is_success:
            return response.json()
        try:
            message = response.json()["error"]["message"]
        except (ValueError, KeyError, TypeError):
            message = response.text[:300]
        raise DemoFailed(f"{response.request.method} {response.request.url.path}: {message}")


@dataclass
class Figures:
    """Everything the demo measured; `--report` writes it."""

    url: str
    model: str = MODEL
    version: str = ""
    job: int = 0
    training: dict[str, float | None] = field(default_factory=dict)
    base: dict[str, float | None] = field(default_factory=dict)
    tuned: dict[str, float | None] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Answers:
    """One model's answers: to a few requests one at a time, and to all others concurrently."""

    streamed: EvaluationReport
    together: EvaluationReport

    @property
    def total(self) -> int:
        return self.streamed.total + self.together.total

    @property
    def exact_matches(self) -> int:
        return self.streamed.exact_matches + self.together.exact_matches

    @property
    def exact_match(self) -> float:
        """Fraction of exact matches, 0 to 1."""
        return self.exact_matches / self.total

    def figures(self, perplexity: float | None) -> dict[str, float | None]:
        return {
            "exact_match": self.exact_match,
            "examples": self.total,
            "perplexity": perplexity,
            "first_token_ms": self.streamed.first_token_ms_p50,
            "tokens_per_second": _rate(self.streamed),
            f"tokens_per_second_{STREAMS}_streams": self.together.tokens_per_second,
        }


class Demo:
    """One run of register → train → version → serve."""

    def __init__(self, url: str, console: Console, budget_s: float) -> None:
        """`budget_s`: seconds for everything but the start of the hub; a slow machine trains fewer
        steps and answers fewer questions."""
        self.budget_s = budget_s
        self.shown = min(SHOWN, max(1, int(budget_s / 20)))
        self.api = Api(url)
        self.console = console
        self.figures = Figures(url=url)

    def run(self) -> Figures:
        started = time.monotonic()
        base = self._timed("import_base", register_starter)
        dataset = self._timed("import_dataset", register_starter_dataset)
        self._say(f"base model {base.name} ({base.quantization}, {base.parameters / 1e6:.0f} M)")
        splits = ", ".join(f"{count} {split}" for split, count in dataset.splits.items())
        self._say(f"data set {dataset.name} ({splits})")
        model = self._register_model(base.name)
        held_out = self.api.get(f"/api/datasets/{dataset.pk}/examples?split=test&limit=200")[
            "items"
        ]
        before = self._timed("base_answers", lambda: self._answers(f"base:{base.name}", held_out))
        held_out = held_out[: before.total]
        iters = self._fit_iters(before.streamed, time.monotonic() - started)
        job = self._timed("training", lambda: self._train(model, dataset.pk, iters, len(held_out)))
        self._promote(job)
        after = self._timed("tuned_answers", lambda: self._answers(f"{MODEL}@production", held_out))
        self._measure(job, before, after)
        self.figures.seconds["total"] = round(time.monotonic() - started, 1)
        return self.figures

    # ------------------------------------------------------------------ what fits

    def _fit_questions(self, streamed: EvaluationReport, every: int) -> int:
        """How many held-out requests fit: base and tuned model may take two fifths of the budget
        for them. Asked together they take a 4.5th of their time one by one (2 cores, 2026-11)."""
        if not (rate := _rate(streamed)):
            return every
        each_s = MAX_TOKENS / rate
        fitting = self.shown + int((self.budget_s / 5 / each_s - self.shown) * 4.5)
        return min(every, max(FEWEST_QUESTIONS, fitting))

    def _fit_iters(self, streamed: EvaluationReport, spent_s: float) -> int:
        """How many training steps fit into the rest. A step takes as long as 20 tokens of the base
        (2 cores, 2026-11). The learning rate's schedule shrinks with them, so that fewer steps
        still end in a trained model."""
        wanted = int(json.loads(CONFIG.read_text())["iters"])
        if not (rate := _rate(streamed)):
            return wanted
        left_s = self.budget_s - spent_s - self.figures.seconds["base_answers"] - START_S
        iters = min(wanted, max(FEWEST_ITERS, int(left_s * rate / 20)))
        if iters < wanted:
            self._say(f"this machine needs fewer steps to be done in time: {iters} of {wanted}")
        return iters

    # ------------------------------------------------------------------ steps

    def _timed[T](self, name: str, step: Callable[[], T]) -> T:
        started = time.monotonic()
        result = step()
        self.figures.seconds[name] = round(time.monotonic() - started, 1)
        return result

    def _say(self, text: str) -> None:
        self.console.print(f"[green]✓[/] {text}", highlight=False)

    def _register_model(self, base: str) -> dict[str, Any]:
        known = self.api.get(f"/api/models?q={MODEL}")["items"]
        model = next((item for item in known if item["name"] == MODEL), None)
        if model is None:
            model = self.api.post("/api/models", {"base_model": base, **REGISTRATION})
        self._say(f"model [bold]{model['name']}[/]: {self.api.url}/models/{model['id']}/")
        return dict(model)

    def _answers(self, name: str, examples: list[Any]) -> Answers:
        """The first answers one by one, streamed to the terminal, then others that fit concurrently."""
        streamed = self._stream(name, examples[: self.shown])
        others = examples[self.shown : self._fit_questions(streamed, len(examples))]
        answers = Answers(streamed, self._ask_together(name, others))
        self._say(f"{name}: {answers.exact_matches} of {answers.total} exact matches")
        return answers

    def _stream(self, name: str, examples: list[Any]) -> EvaluationReport:
        self.console.print(f"\n[bold]{name}[/] answers:", highlight=False)
        ask = http_ask(self.api.url, name, max_tokens=MAX_TOKENS, on_text=self._type)

        async def ask_aloud(messages: Sequence[Message]) -> Answer:
            self.console.print(f"  [cyan]›[/] {escape(messages[-1]['content'])}", highlight=False)
            answer = await ask(messages)
            self.console.print()
            return answer

        return asyncio.run(evaluate(ask_aloud, examples, concurrency=1))

    def _type(self, piece: str) -> None:
        self.console.print(piece, end="", style="dim", markup=False, highlight=False)

    def _ask_together(self, name: str, examples: list[Any]) -> EvaluationReport:
        ask = http_ask(self.api.url, name, max_tokens=MAX_TOKENS)
        with _bar(self.console) as bar:
            title = f"{name}: {len(examples)} more requests"
            task = bar.add_task(title, total=len(examples), figures="")
            lines = Lines(self.console)

            def answered() -> None:
                bar.advance(task)
                lines.update(title, int(bar.tasks[0].completed), len(examples))

            return asyncio.run(evaluate(ask, examples, concurrency=STREAMS, on_answer=answered))

    def _train(
        self, model: dict[str, Any], dataset_id: int, iters: int, examples: int
    ) -> dict[str, Any]:
        """The finished job. Its losses are measured on as many `examples` as are answered."""
        # The demo scores over HTTP itself, which also measures speed.
        config = json.loads(CONFIG.read_text())
        config |= {"iters": iters, "steps_per_eval": iters, "eval_examples": examples}
        config["warmup"] = min(config["warmup"], iters // 4)  # it must end before the training does
        config |= {"scoring": {"scorer": "none"}}
        body = {"model_id": model["id"], "dataset_id": dataset_id, "config": config}
        queued = self.api.post("/api/training/jobs", body)
        self.figures.job = queued["id"]
        with _bar(self.console) as bar:
            task = bar.add_task("queued", total=iters, figures="")
            lines = Lines(self.console)
            for job in self._watch(queued["id"]):
                text = f"job {job['id']}: {job['stage'] or job['status']}"
                done = job["iteration"]
                bar.update(task, description=text, completed=done, figures=_progress(job))
                lines.update(text, done, iters, job["seconds_left"])
        if job["status"] != "completed":
            raise DemoFailed(
                f"Training job {job['id']} is {job['status']}: {job['error_message']} "
                f"See its log in storage/jobs/{job['id']}."
            )
        self.figures.version = job["version"]
        self._say(f"version [bold]{MODEL}@{job['version']}[/] with its lineage")
        return dict(job)

    def _watch(self, job_id: int) -> Iterator[dict[str, Any]]:
        while True:
            job = self.api.get(f"/api/training/jobs/{job_id}")
            yield job
            if job["status"] not in ("queued", "running"):
                return
            time.sleep(0.5)

    def _promote(self, job: dict[str, Any]) -> None:
        self.api.post(
            f"/api/models/{job['model_id']}/aliases/production",
            {"version": job["version"], "reason": "Newest version of the demo"},
        )
        self._say(f"alias [bold]{MODEL}@production[/] → {job['version']}")

    def _measure(self, job: dict[str, Any], before: Answers, after: Answers) -> None:
        metrics = dict(job["metrics"])
        self.figures.base = before.figures(metrics.get("base_perplexity"))
        self.figures.tuned = after.figures(metrics.get("perplexity"))
        self.figures.training = {
            "iters": job["iteration"],
            "train_loss": metrics.get("train_loss"),
            "val_loss": metrics.get("val_loss"),
            "peak_memory_bytes": job["peak_memory_bytes"],
        }
        matches = {
            "exact_match": after.exact_match,
            "base_exact_match": before.exact_match,
        }
        self.api.post(
            f"/api/models/{job['model_id']}/versions/{job['version']}/metrics",
            {"metrics": matches},
        )

    def show(self) -> None:
        """Print base and tuned side by side in a table."""
        table = Table(title="Base vs. tuned on held-out requests")
        table.add_column("")
        table.add_column("base", justify="right")
        table.add_column(f"{MODEL}@{self.figures.version}", justify="right", style="bold")
        for label, key, form in (
            ("exact match", "exact_match", "{:.0%}"),
            ("perplexity of the expected answer", "perplexity", "{:.2f}"),
            ("time to first token, one stream", "first_token_ms", "{:.0f} ms"),
            ("tokens per second, one stream", "tokens_per_second", "{:.0f}"),
            (
                f"tokens per second, {STREAMS} streams",
                f"tokens_per_second_{STREAMS}_streams",
                "{:.0f}",
            ),
        ):
            table.add_row(
                label,
                *(
                    form.format(side[key]) if side.get(key) is not None else "unknown"
                    for side in (self.figures.base, self.figures.tuned)
                ),
            )
        self.console.print(table)
        self.console.print(f"Done in {self.figures.seconds['total']:.0f} s.")


def _rate(report: EvaluationReport) -> float | None:
    """Tokens per second of one stream."""
    rates = [row.tokens_per_second for row in report.rows if row.tokens_per_second]
    return statistics.median(rates) if rates else None


@dataclass
class Lines:
    """Without a terminal, which would show bars: a line of progress every ten seconds."""

    console: Console
    began: float = field(default_factory=time.monotonic)
    said: float = field(default_factory=time.monotonic)

    def update(self, what: str, done: int, total: int, left_s: float | None = None) -> None:
        now = time.monotonic()
        if self.console.is_terminal or now - self.said < SAY_EVERY_S:
            return
        self.said = now
        if left_s is None and done * 10 >= total:  # the first of many says little
            left_s = (now - self.began) * (total - done) / done
        left = "" if left_s is None else f", about {left_s:.0f} s left"
        self.console.print(f"  {what}: {done} of {total}{left}", highlight=False)


def _bar(console: Console) -> Progress:
    return Progress(
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[figures]}"),
        console=console,
        disable=not console.is_terminal,
    )


def _progress(job: dict[str, Any]) -> str:
    parts = []
    if job["train_loss"] is not None:
        parts.append(f"loss {job['train_loss']:.3f}")
    if job["tokens_per_second"]:
        parts.append(f"{job['tokens_per_second']:.0f} tokens/s")
    if job["peak_memory_bytes"]:
        parts.append(f"peak {human(job['peak_memory_bytes'])}")
    if job["seconds_left"] is not None:
        parts.append(f"{job['seconds_left']:.0f} s left")
    return " · ".join(parts) or str(job["wait_reason"])


def write_report(figures: Figures, path: Path) -> None:
    """Write all results as JSON."""
    path.write_text(json.dumps(asdict(figures), indent=2) + "\n")
