"""Everything asked of one model, in one order, and what came of each."""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from inference.clients.asking import Broken, Failed, Skipped
from inference.clients.behaviours import BEHAVIOURS
from inference.clients.client import Client
from inference.clients.faces import FACES, Face
from inference.clients.sessions import sessions
from registry.commands import typed
from registry.errors import Unavailable
from registry.late import Late

if TYPE_CHECKING:
    import httpx
else:
    httpx = Late("httpx")


State = Literal["passed", "failed", "broken", "skipped"]


@dataclass(frozen=True)
class Outcome:
    """What came of one behaviour, or one client's session, over one API. `failed` is the model's
    doing, `broken` the hub's; `promised` is judged of the hub alone."""

    name: str
    face: str
    state: State
    reason: str = ""
    promised: bool = False

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


def planned() -> list[tuple[str, str]]:
    """(name, API) of all that is asked of one model, in that order."""
    return [(name, face.name) for face in FACES for name in _names(face)]


def _names(face: Face) -> list[str]:
    own = [one.name for one in BEHAVIOURS if one.name not in face.lacks]
    return own + [one.name for one in sessions() if one.face == face.name]


def titles() -> dict[str, str]:
    """What each name of an outcome means, in the order of tables."""
    return {one.name: one.title for one in BEHAVIOURS} | {
        one.name: one.client for one in sessions()
    }


@cache
def version() -> str:
    """Changes with what is asked and how it is judged: outcomes of two suites cannot be compared."""
    here = Path(__file__).parent
    judges = [here / f"{name}.py" for name in ("asking", "behaviours", "client", "sessions")]
    files = [*judges, *sorted(here.glob("faces/*.py")), *sorted(here.glob("sessions/*.json"))]
    return hashlib.sha256(b"".join(path.read_bytes() for path in files)).hexdigest()[:12]


async def ask_everything(
    model: str, http: httpx.AsyncClient, note: Callable[[Outcome], Awaitable[None]]
) -> list[Outcome]:
    """Ask `model` all of it, one after another. Raises Unavailable when the hub cannot answer."""
    thinks = await _thinks(model, http)
    outcomes = []
    for face in FACES:
        client = Client(face, model, http, thinks)
        for name, try_, promised in _tries(client):
            state, reason = await _outcome(try_)
            outcomes.append(Outcome(name, face.name, state, reason, promised))
            await note(outcomes[-1])
    return outcomes


def _tries(client: Client) -> Iterator[tuple[str, Callable[[], Awaitable[None]], bool]]:
    """(name, what tries it, whether no model can fail it)"""
    behaviours = {one.name: one for one in BEHAVIOURS}
    recorded = {one.name: one for one in sessions()}
    for name in _names(client.face):
        if name in behaviours:
            yield name, partial(behaviours[name].try_, client), behaviours[name].promised
        else:
            yield name, partial(recorded[name].replay, client), False


async def _outcome(try_: Callable[[], Awaitable[None]]) -> tuple[State, str]:
    try:
        await try_()
    except Failed as error:
        return "failed", str(error)
    except Broken as error:
        return "broken", str(error)
    except Skipped as error:
        return "skipped", str(error)
    return "passed", ""


async def _thinks(model: str, http: httpx.AsyncClient) -> bool:
    """Whether the model's chat template knows thoughts, as the hub describes it."""
    try:
        shown = await http.post("/ollama/api/show", json={"model": model})
        body = shown.json()
    except (httpx.TransportError, ValueError) as error:
        raise Unavailable(
            f"The hub did not answer at {http.base_url} ({type(error).__name__}); start it with "
            f"`{typed('up')}`."
        ) from error
    if not shown.is_success:
        raise Unavailable(str(body.get("error", shown.text[:200])))
    return "thinking" in body["capabilities"]


def lost(outcomes: Sequence[Outcome], others: Sequence[Outcome]) -> list[Outcome]:
    """What failed here and passed among `others`: the model's doings alone."""
    passed = {(one.name, one.face) for one in others if one.state == "passed"}
    return [one for one in outcomes if one.state == "failed" and (one.name, one.face) in passed]


def figures(outcomes: Sequence[Outcome], base: Sequence[Outcome]) -> dict[str, float]:
    """Metrics of a version. `clients_passed` is the share of what the model could fail and did not,
    over all APIs; `client_NAME` the same of one behaviour or one client's session."""
    judged = [one for one in outcomes if one.state in ("passed", "failed") and not one.promised]
    metrics: dict[str, float] = {
        "clients_broken": sum(one.state == "broken" for one in outcomes),
        "clients_lost": len(lost(outcomes, base)),
    }
    if judged:
        metrics["clients_passed"] = _share(judged)
    for name in dict.fromkeys(one.name for one in judged):
        metrics[f"client_{name}"] = _share([one for one in judged if one.name == name])
    return metrics


def _share(outcomes: Sequence[Outcome]) -> float:
    return round(sum(one.state == "passed" for one in outcomes) / len(outcomes), 6)
