"""A model hub on loopback: the few endpoints an import needs, with ETag, Range and cut lines."""

from __future__ import annotations

import hashlib
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs

COMMIT = "a" * 40
REPO = "owner/tiny"
_LARGE = (".safetensors", ".parquet")  # kept apart, with a sha256


@dataclass
class FakeHub:
    """`cut_after` bytes of a weight file the connection ends, `cuts` times; after `stall_after`
    it says nothing more until `gone_on` is set."""

    files: dict[str, bytes]
    kind: str = "model"  # or "dataset"
    url: str = ""
    commit: str = COMMIT
    cut_after: int = 0
    cuts: int = 0
    digest: str = ""
    stall_after: int = 0
    gone_on: threading.Event = field(default_factory=threading.Event)
    asked: list[tuple[str, str]] = field(default_factory=list)
    refusals: list[tuple[int, dict[str, str]]] = field(default_factory=list)
    """Statuses and headers of the next answers that are no files' but refusals."""
    others: list[dict[str, Any]] = field(default_factory=list)
    """Models that a search finds, each as the hub lists it, with its "config.json"."""
    searched: list[dict[str, list[str]]] = field(default_factory=list)

    def found(self, query: dict[str, list[str]]) -> list[dict[str, Any]]:
        """What a search answers, as the hub does it: words in the id, by author, the first ones."""
        self.searched.append(query)
        words = query.get("search", [""])[0].lower().split()
        author = query.get("author", [""])[0]
        found = [
            {key: value for key, value in one.items() if key != "config.json"}
            for one in self.others
            if all(word in one["id"].lower() for word in words)
            and (not author or one["id"].startswith(f"{author}/"))
        ]
        return found[: int(query.get("limit", ["1000"])[0])]

    def info(self) -> dict[str, Any]:
        siblings = []
        for name, content in self.files.items():
            entry: dict[str, Any] = {"rfilename": name, "size": len(content), "blobId": "b"}
            if name.endswith(_LARGE):
                digest = self.digest or hashlib.sha256(content).hexdigest()
                entry["lfs"] = {"sha256": digest, "size": len(content), "pointerSize": 100}
            siblings.append(entry)
        return {
            "id": REPO,
            "sha": self.commit,
            "siblings": siblings,
            "tags": ["license:mit"],
            "private": False,
        }


@contextmanager
def serving(hub: FakeHub) -> Iterator[FakeHub]:
    """The hub at a free port."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            path, _, query = self.path.partition("?")
            if hub.refusals:
                status, headers = hub.refusals.pop(0)
                return self._answer(status, b"{}", **headers)
            if path == f"/api/{hub.kind}s":
                return self._answer(200, json.dumps(hub.found(parse_qs(query))).encode())
            for one in hub.others:
                if path == f"/{one['id']}/resolve/{one['sha']}/config.json":
                    if one.get("gated"):
                        return self._answer(403, b"{}", **{"X-Error-Code": "GatedRepo"})
                    return self._answer(200, json.dumps(one["config.json"]).encode())
            if re.fullmatch(rf"/api/{hub.kind}s/{REPO}(/revision/.+)?", path):
                return self._answer(200, json.dumps(hub.info()).encode())
            place = REPO if hub.kind == "model" else f"datasets/{REPO}"
            match = re.fullmatch(rf"/{place}/resolve/{hub.commit}/(.+)", path)
            if not match or match[1] not in hub.files:
                return self._answer(404, b"{}", **{"X-Error-Code": "RepoNotFound"})
            return self._file(match[1], hub.files[match[1]])

        def _file(self, name: str, content: bytes) -> None:
            asked = self.headers.get("Range", "")
            hub.asked.append((name, asked))
            etag = f'"{hashlib.sha256(content).hexdigest()}"'
            start = 0
            if asked and self.headers.get("If-Range") == etag:
                start = int(asked.removeprefix("bytes=").removesuffix("-"))
            self.send_response(206 if start else 200)
            self.send_header("ETag", etag)
            self.send_header("Content-Length", str(len(content) - start))
            self.end_headers()
            body = content[start:]
            if hub.cuts and name.endswith(_LARGE):
                hub.cuts -= 1
                self.wfile.write(body[: hub.cut_after])
                self.wfile.flush()
                self.close_connection = True
                return
            if hub.stall_after and name.endswith(_LARGE):
                self.wfile.write(body[: hub.stall_after])
                self.wfile.flush()
                hub.gone_on.wait(60)
                self.close_connection = True
                return
            self.wfile.write(body)

        def _answer(self, status: int, body: bytes, **headers: str) -> None:
            self.send_response(status)
            for name, value in {"Content-Type": "application/json", **headers}.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    hub.url = f"http://127.0.0.1:{server.server_address[1]}"
    try:
        yield hub
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
