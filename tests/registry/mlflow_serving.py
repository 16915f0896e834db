"""A real MLflow server that can be killed often, and a line to it that can be cut.

`mlflow server` checks its arguments and then runs uvicorn with MLflow's application in a child.
That start is seconds of imports, so here the child is forked from a fork server that has made the
imports once. The command itself is started by `tests.hub.test_services`.
"""

from __future__ import annotations

import itertools
import multiprocessing
import os
import socket
import threading
import time
from dataclasses import dataclass, field
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Literal

from registry.mlflow import server as mlflow_server

Cut = Literal["", "before", "after", "killed"]

_ENVIRONMENT = {"MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
# How long a request is worked on before the kill: deaths fall before, in and after its transaction.
_WORKING_S = itertools.cycle((0.0, 0.02, 0.005, 0.01, 0.05))


def free_port() -> int:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        return int(unused.getsockname()[1])


@dataclass
class Server:
    """An MLflow server with its store and artifacts in `folder`; the same one after each start."""

    folder: Path
    port: int = field(default_factory=free_port)
    forked: BaseProcess | None = None
    kills: int = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        """The process that `mlflow server` starts, in a second."""
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(["uvicorn", "mlflow.server.fastapi_app"])
        self.forked = context.Process(target=_serve, args=(str(self.folder), self.port))
        self.forked.start()
        self._wait()

    def kill(self) -> None:
        """With SIGKILL: no handler runs, no transaction is ended."""
        if self.forked is not None:
            self.forked.kill()
            self.forked.join()
        self.kills += self.is_running
        self.forked = None

    @property
    def is_running(self) -> bool:
        return self.forked is not None

    def _wait(self) -> None:
        deadline = time.monotonic() + 300  # imports are slow beside other work
        while mlflow_server.trouble(self.url, 1.0) is not None:
            if time.monotonic() > deadline:
                self.kill()
                raise AssertionError("the MLflow server did not start")
            time.sleep(0.05)


def _serve(folder: str, port: int) -> None:
    os.chdir(folder)
    os.environ |= {
        **_ENVIRONMENT,
        "_MLFLOW_SERVER_FILE_STORE": f"sqlite:///{folder}/mlflow.sqlite3",
        "_MLFLOW_SERVER_ARTIFACT_ROOT": "mlflow-artifacts:/",
        "_MLFLOW_SERVER_ARTIFACT_DESTINATION": f"{folder}/artifacts",
        "_MLFLOW_SERVER_SERVE_ARTIFACTS": "true",
    }
    import uvicorn

    uvicorn.run("mlflow.server.fastapi_app:app", port=port, log_level="critical")


class Line:
    """The way to a server: passes one request per connection on, but for the one it was told to
    cut before the server has it or after the server did it, or to kill the server in."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.cut: Cut = ""
        self.skip = 0  # requests that pass before the cut; a cut is made once
        self.cuts = 0
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self.listener.getsockname()[1]}"
        threading.Thread(target=self._listen, daemon=True).start()

    def arm(self, cut: Cut, skip: int) -> None:
        self.cut, self.skip, self.cuts = cut, skip, 0

    def close(self) -> None:
        self.listener.close()

    def _listen(self) -> None:
        while True:
            try:
                caller, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self._pass, args=(caller,), daemon=True).start()

    def _turn(self) -> Cut:
        if not self.cut:
            return ""
        if self.skip:
            self.skip -= 1
            return ""
        cut, self.cut = self.cut, ""
        self.cuts += 1
        return cut

    def _pass(self, caller: socket.socket) -> None:
        with caller:
            request = _message(caller)
            cut = self._turn()
            if not request or cut == "before":
                return
            try:
                with socket.create_connection(("127.0.0.1", self.server.port), 30) as onward:
                    onward.sendall(request)
                    if cut == "killed":
                        time.sleep(next(_WORKING_S))
                        self.server.kill()
                        return
                    answer = b""
                    while data := onward.recv(1 << 16):
                        answer += data
            except OSError:
                return
            if cut != "after":
                caller.sendall(answer)


def _message(caller: socket.socket) -> bytes:
    """One whole request, made the last of its connection."""
    data = b""
    while b"\r\n\r\n" not in data:
        more = caller.recv(1 << 16)
        if not more:
            return b""
        data += more
    head, _, body = data.partition(b"\r\n\r\n")
    lines = [line for line in head.split(b"\r\n") if not line.lower().startswith(b"connection:")]
    named = dict(line.lower().split(b": ", 1) for line in lines[1:])
    if named.get(b"transfer-encoding") == b"chunked":
        while not body.endswith(b"0\r\n\r\n"):
            body += caller.recv(1 << 16)
    while len(body) < int(named.get(b"content-length", b"0")):
        body += caller.recv(1 << 16)
    return b"\r\n".join([*lines, b"Connection: close"]) + b"\r\n\r\n" + body
