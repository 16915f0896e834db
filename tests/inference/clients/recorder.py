"""Writes down what a client sends to a hub, as a session of `inference/clients/sessions`.

`python -m tests.inference.clients.recorder HUB FOLDER` listens at a port that it prints, passes
everything on to HUB and keeps each body in FOLDER. `python -m tests.inference.clients.recorder
--session FOLDER PATH FACE CLIENT WANTED FILE` makes a session of those bodies: long texts shortened, without
names of the machine.
"""

from __future__ import annotations

import http.server
import json
import re
import sys
from pathlib import Path
from typing import Any

import httpx

LONGEST = 80  # characters of a text that nobody reads to answer


class Recorder(http.server.BaseHTTPRequestHandler):
    hub: str
    folder: Path

    def do_GET(self) -> None:
        self._pass_on(b"")

    def do_HEAD(self) -> None:
        self._pass_on(b"")

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        number = len(list(self.folder.glob("*.json")))
        path = self.path.partition("?")[0]
        kept = {"path": path, "body": json.loads(body or b"null")}
        (self.folder / f"{number:03}.json").write_text(json.dumps(kept, indent=1))
        self._pass_on(body)

    def _pass_on(self, body: bytes) -> None:
        dropped = ("host", "content-length", "accept-encoding", "connection")
        headers = {k: v for k, v in self.headers.items() if k.lower() not in dropped}
        answer = httpx.request(
            self.command, self.hub + self.path, headers=headers, content=body, timeout=300
        )
        self.send_response(answer.status_code)
        self.send_header("Content-Type", answer.headers.get("content-type", "text/plain"))
        self.send_header("Content-Length", str(len(answer.content)))
        self.end_headers()
        self.wfile.write(answer.content)

    def log_message(self, *args: Any) -> None:
        """Says nothing."""


def session(folder: Path, path: str, client: str, face: str, wanted: list[str]) -> dict[str, Any]:
    """The recorded requests to `path` that offer tools, each with what must come."""
    kept = [json.loads(file.read_text()) for file in sorted(folder.glob("*.json"))]
    bodies = [one["body"] for one in kept if one["path"] == path and one["body"].get("tools")]
    assert len(bodies) == len(wanted), f"{len(bodies)} requests were recorded"
    bodies = [shortened(body) for body in bodies]
    same = [name for name in bodies[0] if all(body.get(name) == bodies[0][name] for body in bodies)]
    common = {name: bodies[0][name] for name in same}
    steps = [
        {"wanted": what, "request": {name: body[name] for name in body if name not in same}}
        for what, body in zip(wanted, bodies, strict=True)
    ]
    return {"client": client, "face": face, "common": common, "steps": steps}


def _moved(path: re.Match[str]) -> str:
    return f"/home/ada/garden{path[2] or ''}"


_ONE_LINE = ("text", "description", "content", "instructions", "prompt", "title")


def shortened(value: Any, name: str = "") -> Any:
    """With long texts cut, and without what names a machine or a person."""
    if name in ("metadata", "client_metadata"):
        return {}
    if isinstance(value, dict):
        return {key: shortened(one, key) for key, one in value.items()}
    if isinstance(value, list):
        return [shortened(one, name) for one in value]
    if isinstance(value, str):
        value = re.sub(
            r"/(tmp|home|root|work|Users)/[\w./@-]*?(/?\w+\.txt)?(?![\w./@-])", _moved, value
        )
        if name in _ONE_LINE and len(value) > LONGEST:
            value = f"{value[: LONGEST - 1]}…"
    return value


def main() -> None:
    if sys.argv[1] == "--session":
        _, _, folder, path, face, client, wanted, target = sys.argv
        made = session(Path(folder), path, client, face, wanted.split(","))
        Path(target).write_text(json.dumps(made, indent=1, ensure_ascii=False) + "\n")
        return
    Recorder.hub, Recorder.folder = sys.argv[1], Path(sys.argv[2])
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Recorder)
    sys.stdout.write(f"http://127.0.0.1:{server.server_port}\n")
    sys.stdout.flush()
    server.serve_forever()


if __name__ == "__main__":
    main()
