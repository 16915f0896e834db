"""`manage.py jobs`: the queue from the command line."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from typing import Any

from django.core.management.base import CommandError, CommandParser

from backends.base import TrainingConfig
from registry.catalog.registration import find_model
from registry.commands import typed
from registry.datasets.revisions import newest_named
from registry.errors import NotFound
from registry.management.hub_command import HubCommand
from registry.models import Dataset
from training import queue
from training.config.changes import with_changes
from training.models import TrainingJob
from training.queue import sweeps
from training.web import overview

_ACTIONS: dict[str, tuple[str, Callable[[TrainingJob], TrainingJob]]] = {
    "cancel": ("cancel jobs; running ones stop at their next step", queue.cancel),
    "pause": ("pause jobs; running ones stop at their next step", queue.pause),
    "resume": ("resume paused jobs", queue.resume),
    "retry": ("queue failed or cancelled jobs again", queue.retry),
    "retry-halved": ("queue jobs that ran out of memory again, with half the batch size",
                     queue.retry_halved),
}  # fmt: skip
_NUMBER = "number of the new version, such as 1.0.0; default: the proposed number"
_SET = "a configuration setting, such as lora.rank=16; can be repeated"


class Command(HubCommand):
    help = "List, queue, order, pause, cancel and retry training jobs."

    def add_arguments(self, parser: CommandParser) -> None:
        verbs = parser.add_subparsers(dest="verb", required=True)
        listing = verbs.add_parser("list", help="list waiting and running jobs in queue order")
        listing.add_argument("--all", action="store_true", help="also list finished jobs")
        add = verbs.add_parser("add", help="queue a job")
        _add_run(add)
        add.add_argument("--number", default="", help=_NUMBER)
        sweep = verbs.add_parser("sweep", help="queue a job for each combination of settings")
        _add_run(sweep)
        sweep.add_argument(
            "--vary",
            action="append",
            required=True,
            metavar="NAME=V1,V2",
            help="values of a setting to try, such as lora.rank=8,16; can be repeated",
        )
        sweep.add_argument("--name", default="")
        clone = verbs.add_parser("clone", help="queue a copy of a job with changed settings")
        clone.add_argument("job", type=int)
        clone.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help=_SET)
        clone.add_argument("--number", default="", help=_NUMBER)
        move = verbs.add_parser("move", help="move a waiting job in the queue")
        move.add_argument("job", type=int)
        move.add_argument("where", choices=["first", "up", "down", "last"])
        for verb, (text, _) in _ACTIONS.items():
            verbs.add_parser(verb, help=text).add_argument("jobs", type=int, nargs="+")

    def handle(self, *args: Any, **options: Any) -> None:
        verb: str = options["verb"]
        if verb in _ACTIONS:
            self._act(_ACTIONS[verb][1], options["jobs"])
        else:
            getattr(self, f"_{verb}")(options)

    def _act(self, act: Callable[[TrainingJob], TrainingJob], numbers: Iterable[int]) -> None:
        for number in numbers:
            self._print(act(_job(number)))

    def _list(self, options: dict[str, Any]) -> None:
        places = overview.queue_positions()
        jobs = TrainingJob.objects.select_related("model", "dataset")
        if options["all"]:
            for job in jobs.exclude(status__in=["queued", "running"]).order_by("created_at"):
                self._print(job)
        for job in [*jobs.running(), *jobs.waiting()]:
            self._print(job, places.get(job.pk))

    def _add(self, options: dict[str, Any]) -> None:
        model, dataset = find_model(options["model"]), _dataset(options["dataset"])
        config = with_changes(TrainingConfig(), _settings(options["set"]))
        number = options["number"]
        job = queue.enqueue(model, dataset, config, options["priority"], version_number=number)
        self._print(job)

    def _sweep(self, options: dict[str, Any]) -> None:
        grid = {
            name: [_value(text) for text in values.split(",")]
            for name, values in map(_pair, options["vary"])
        }
        sweep = sweeps.start(
            find_model(options["model"]),
            _dataset(options["dataset"]),
            with_changes(TrainingConfig(), _settings(options["set"])),
            grid,
            name=options["name"],
            priority=options["priority"],
        )
        for job in sweep.jobs.order_by("pk"):
            self._print(job)

    def _clone(self, options: dict[str, Any]) -> None:
        job, changes = _job(options["job"]), _settings(options["set"])
        self._print(queue.clone(job, changes, version_number=options["number"]))

    def _move(self, options: dict[str, Any]) -> None:
        job = queue.move(_job(options["job"]), options["where"])
        self._print(job, overview.queue_positions().get(job.pk))

    def _print(self, job: TrainingJob, place: int | None = None) -> None:
        state = "paused" if job.is_paused else job.status
        parts = [
            f"{job.pk}: {job.model.name} on {job.dataset.name}, {state}",
            f"position {place}" if place else "",
            f"will create {job.version_number}" if job.version_number and not job.is_over else "",
            f"step {job.iteration} of {job.total_iters}" if job.iteration else "",
            " ".join(f"{name}={value}" for name, value in sorted(job.varied.items())),
            job.yield_text or job.wait_reason or job.error_message,
        ]
        self.stdout.write(", ".join(part for part in parts if part))


def _add_run(parser: CommandParser) -> None:
    parser.add_argument("model")
    parser.add_argument("dataset")
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help=_SET)
    parser.add_argument("--priority", type=int, default=0, help="higher runs first")


def _job(number: int) -> TrainingJob:
    job = TrainingJob.objects.select_related("model", "dataset").filter(pk=number).first()
    if job is None:
        raise CommandError(
            f"There is no job {number}; `{typed('jobs list --all')}` lists all jobs."
        )
    return job


def _dataset(name: str) -> Dataset:
    dataset = newest_named(name)
    if dataset is None:
        raise NotFound(f"There is no data set {name!r}.")
    return dataset


def _settings(texts: Iterable[str]) -> dict[str, Any]:
    return {name: _value(value) for name, value in map(_pair, texts)}


def _pair(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals:
        raise CommandError(f"{text!r} is not of the form NAME=VALUE, such as lora.rank=16.")
    return name, value


def _value(text: str) -> Any:
    """A JSON value (number, true, false, null, list); anything else is a string."""
    try:
        return json.loads(text)
    except ValueError:
        return text
