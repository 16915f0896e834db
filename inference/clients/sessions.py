"""Sessions of agents as they were recorded, sent again to another version.

Each file of `sessions/` has the requests of one session in the order in which they were sent, with the
answers of the model that was recorded, and says of each request what must come: a `call` of one of the
tools it offers, or an `answer`. What all of them have is in `common`. Long texts of prompts and
descriptions are shortened. `tests/inference/clients/recorder.py` makes such files.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from inference.clients.asking import Failed
from inference.clients.behaviours import valid_call
from inference.clients.client import Client

FOLDER = Path(__file__).parent / "sessions"
MOST_TOKENS = 512  # of each answer


@dataclass(frozen=True)
class Session:
    """`client` is the program with its version, `face` the API that it speaks."""

    name: str
    client: str
    face: str
    steps: Sequence[tuple[str, dict[str, Any]]]

    async def replay(self, client: Client) -> None:
        """Send all of it. Raises what `Client.send` raises, and Failed with the first step that
        this model did not take."""
        failed: list[str] = []
        for number, (wanted, recorded) in enumerate(self.steps, 1):
            body = json.loads(json.dumps(recorded))
            client.face.limit(body, MOST_TOKENS)
            try:
                reply = await client.send(body)
                if wanted == "call" or not reply.text.strip():
                    valid_call(reply, client.face.tools(body))
            except Failed as error:
                failed.append(f"Request {number} of {len(self.steps)}: {error}")
        if failed:
            raise Failed(failed[0])


@cache
def sessions() -> tuple[Session, ...]:
    """All that come with the hub, by name."""
    return tuple(map(_read, sorted(FOLDER.glob("*.json"))))


def _read(path: Path) -> Session:
    told = json.loads(path.read_text())
    steps = [(step["wanted"], told["common"] | step["request"]) for step in told["steps"]]
    return Session(path.stem, told["client"], told["face"], steps)
