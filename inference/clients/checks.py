"""Checks of versions: planned, run over the hub's own address, kept with the version as metrics."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from asgiref.sync import async_to_sync
from channels.db import database_sync_to_async
from django.conf import settings
from django.db import transaction

from inference.clients import suite
from inference.clients.suite import Outcome
from inference.keys import delete_key, issue_key
from inference.models import ApiToken, ClientCheck
from registry.background import work
from registry.background.progress import SILENT, Progress
from registry.errors import Invalid, NotFound
from registry.late import Late
from registry.models import BaseModel, ModelVersion
from registry.promotion.resolve import PRODUCTION, Served, resolve

if TYPE_CHECKING:
    import httpx
else:
    httpx = Late("httpx")


Reach = Callable[[dict[str, str]], "httpx.AsyncClient"]
"""A client of the hub that sends these headers."""

_PATIENCE_S = 30.0  # beyond the hub's own deadline
_BEAT_S = 60.0


def the_hub(headers: dict[str, str]) -> httpx.AsyncClient:
    """The hub that runs on this machine; no proxy gets the key on its way there."""
    return httpx.AsyncClient(
        base_url=settings.HUB_URL,
        headers={"Host": "localhost", **headers},
        timeout=settings.REQUEST_DEADLINE_S + _PATIENCE_S,
        trust_env=False,
    )


def plan(name: str) -> ClientCheck:
    """A check of `NAME`, `NAME@1.2.0`, `NAME@alias`, `base:NAME`, or the base model NAME where no model
    is called that. Raises NotFound, Conflict, Damaged, and Invalid for what agents cannot talk to: a
    version that answers with labels alone, and a base model that writes nothing."""
    served = _resolve(name)
    served.base.refuse_embedding_model()
    if served.version and served.version.answers_with:
        raise Invalid(
            f"{served.version} classifies: it answers with one of its labels, so agents cannot talk "
            "to it. Check a version of another task."
        )
    row = ClientCheck(version=served.version, base_model=served.base, suite=suite.version())
    known = _known(served.base)
    row.total = len(suite.planned()) * (1 if known or not served.version else 2)
    row.base_outcomes = known
    return work.add(row)


def _resolve(name: str) -> Served:
    try:
        return resolve(name)
    except NotFound:
        base = BaseModel.objects.filter(name__iexact=name).first()
        if base is None:
            raise
        return resolve(f"base:{base.name}")


def run(check: ClientCheck, watch: Progress = SILENT, reach: Reach = the_hub) -> ClientCheck:
    """Ask the version everything, and its base where that is not known yet; record the outcomes with
    the check and, as metrics, with the version.

    Raises HubError when the hub cannot answer at all, after the check says it, too.
    """
    with work.doing(check, watch) as progress, _headers(check) as headers:
        base = f"base:{check.base_model.name}"
        if not check.base_outcomes:
            progress.stage(f"Asking {base}")
            check.base_outcomes = _ask(base, check, progress, reach, headers)
        if check.version is None:
            outcomes = check.base_outcomes
        else:
            progress.stage(f"Asking {check.version}")
            outcomes = _ask(check.name, check, progress, reach, headers)
        _complete(check, outcomes)
    return check


def _ask(
    name: str, check: ClientCheck, progress: Progress, reach: Reach, headers: dict[str, str]
) -> list[dict[str, Any]]:
    def note(outcome: Outcome) -> None:
        check.asked += 1
        progress.part(check.asked / check.total)

    async def asked() -> list[Outcome]:
        beating = asyncio.create_task(_beat(progress))
        try:
            async with reach(headers) as http:
                return await suite.ask_everything(name, http, database_sync_to_async(note))
        finally:
            beating.cancel()

    return [outcome.as_json() for outcome in async_to_sync(asked)()]


async def _beat(progress: Progress) -> None:
    """A long answer of a slow machine takes more than the silence that a check may keep."""
    while True:
        await asyncio.sleep(_BEAT_S)
        await database_sync_to_async(progress.beat)()


@contextmanager
def _headers(check: ClientCheck) -> Iterator[dict[str, str]]:
    """With a key that lives as long as the check, where the hub asks even this machine for one."""
    if settings.IS_LOOPBACK:
        yield {}
        return
    key, text = issue_key(f"client check {check.pk}", ApiToken.Scope.INFERENCE)
    try:
        yield {"Authorization": f"Bearer {text}"}
    finally:
        delete_key(key)


def _complete(check: ClientCheck, outcomes: list[dict[str, Any]]) -> None:
    with transaction.atomic():
        check.complete(outcomes=outcomes, base_outcomes=check.base_outcomes)
        if check.version_id is None:
            return
        # The newest check counts, and only what it judged.
        version = ModelVersion.objects.select_for_update().get(pk=check.version_id)
        kept = {
            name: value
            for name, value in version.metrics.items()
            if not name.startswith(("client_", "clients_"))
        }
        version.metrics = kept | suite.figures(read(outcomes), read(check.base_outcomes))
        version.save(update_fields=["metrics"])


def _known(base: BaseModel) -> list[dict[str, Any]]:
    """The base's outcomes by the suite of today, if any check has them; its files never change."""
    found = ClientCheck.objects.filter(
        base_model=base, suite=suite.version(), status=ClientCheck.Status.COMPLETED
    ).first()
    outcomes: list[dict[str, Any]] = found.base_outcomes if found else []
    return outcomes


def read(outcomes: Sequence[dict[str, Any]]) -> list[Outcome]:
    """Outcomes as a check keeps them."""
    return [Outcome(**outcome) for outcome in outcomes]


def in_production(check: ClientCheck) -> list[Outcome]:
    """Those of the version in production by the same suite; [] when that is this one, or none."""
    if check.version is None:
        return []
    found = (
        ClientCheck.objects.filter(
            version__model=check.version.model_id,
            version__aliases__name=PRODUCTION,
            suite=check.suite,
            status=ClientCheck.Status.COMPLETED,
        )
        .exclude(version=check.version)
        .first()
    )
    return read(found.outcomes) if found else []
