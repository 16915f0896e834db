"""Calls into `registry.mlflow.child` with a time limit each.

MLflow itself is imported only there. A process of the hub that never calls MLflow never starts the
child; the threads of one that does share it. Nobody pays for its memory between two calls that are
far apart: it ends when it was not called for IDLE_S.
"""

from __future__ import annotations

import atexit
import json
import os
import select
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

_ENVIRONMENT = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DO_NOT_TRACK": "true",
    # The outbox repeats, after asking what is there; a blind second POST would make a second run.
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "15",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_LOGGING_LEVEL": "WARNING",
    "GIT_PYTHON_REFRESH": "quiet",
}
_ROOT = Path(__file__).resolve().parents[2]
_COMMAND = [sys.executable, "-m", "registry.mlflow.child"]
IDLE_S = 60.0


# Errors that the same request will get again. All others (internal errors, a server that does not
# answer, wrong credentials) may be temporary.
_FINAL = {
    "BAD_REQUEST",
    "ENDPOINT_NOT_FOUND",
    "INVALID_PARAMETER_VALUE",
    "INVALID_STATE",
    "MALFORMED_REQUEST",
    "MISSING",
    "NOT_FOUND",
    "NOT_IMPLEMENTED",
    "RESOURCE_ALREADY_EXISTS",
    "RESOURCE_CONFLICT",
    "RESOURCE_DOES_NOT_EXIST",
}


class NoAnswer(Exception):
    """MLflow is starting, down, hung or busy; a later call may succeed."""


class Starting(NoAnswer):
    """Its process was started for this call and is not ready yet."""


class Refused(Exception):
    """MLflow answered with an error."""

    def __init__(self, message: str, kind: str) -> None:
        super().__init__(message)
        self.kind = kind

    @property
    def final(self) -> bool:
        """Whether the same request would be refused again."""
        return self.kind in _FINAL


class MLflowProcess:
    """One child, started when needed, ended when it was idle for `idle_s`, and restarted when it
    died."""

    def __init__(self, idle_s: float = IDLE_S) -> None:
        self._idle_s = idle_s
        self._called_at = 0.0
        self._lock = threading.Lock()
        self._child: subprocess.Popen[bytes] | None = None
        self._ready = False
        self._received = b""
        atexit.register(self.close)

    def call(self, uri: str, operation: str, arguments: dict[str, Any], limit_s: float) -> Any:
        """The operation's result. Raises NoAnswer after `limit_s` at the latest, and Refused."""
        deadline = time.monotonic() + limit_s
        if not self._lock.acquire(timeout=limit_s):
            raise NoAnswer("MLflow is busy with other calls.")
        try:
            child = self._running()
            if not self._ready:
                self._line(child, deadline, Starting("MLflow is still starting."))
                self._ready = True
            request = {"uri": uri, "operation": operation, "arguments": arguments}
            self._send(child, request)
            answer = json.loads(self._answer(child, deadline, limit_s))
        finally:
            self._called_at = time.monotonic()
            self._lock.release()
        if "error" in answer:
            raise Refused(answer["error"], answer["kind"])
        return answer["result"]

    def close(self) -> None:
        """End the child, if there is one."""
        with self._lock:
            self._end()

    def _running(self) -> subprocess.Popen[bytes]:
        if self._child is not None and self._child.poll() is None:
            return self._child
        self._end()
        self._child = subprocess.Popen(
            _COMMAND,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            cwd=_ROOT,
            env={**os.environ, **_ENVIRONMENT},
        )
        threading.Thread(
            target=self._end_idle, args=(self._child,), name="mlflow-idle", daemon=True
        ).start()
        return self._child

    def _end_idle(self, child: subprocess.Popen[bytes]) -> None:
        """Wait until nobody has called `child` for a while, and end it; or until it is gone."""
        left = self._idle_s
        while left > 0:
            time.sleep(left)
            with self._lock:
                if self._child is not child:
                    return
                left = self._called_at + self._idle_s - time.monotonic()
                if left <= 0:
                    self._end()

    def _send(self, child: subprocess.Popen[bytes], request: dict[str, Any]) -> None:
        assert child.stdin
        try:
            child.stdin.write(json.dumps(request).encode() + b"\n")
            child.stdin.flush()
        except OSError as error:
            self._end()
            raise NoAnswer("MLflow's process ended.") from error

    def _answer(self, child: subprocess.Popen[bytes], deadline: float, limit_s: float) -> bytes:
        try:
            late = NoAnswer(f"MLflow did not answer within {limit_s:.0f} s.")
            return self._line(child, deadline, late)
        except NoAnswer:
            self._end()  # its late answer must not be taken for that of the next request
            raise

    def _line(self, child: subprocess.Popen[bytes], deadline: float, late: NoAnswer) -> bytes:
        assert child.stdout
        descriptor = child.stdout.fileno()
        poll = select.poll()
        poll.register(descriptor, select.POLLIN)
        while b"\n" not in self._received:
            if not poll.poll(max(0.0, deadline - time.monotonic()) * 1000):
                raise late
            data = os.read(descriptor, 1 << 16)
            if not data:
                self._end()
                raise NoAnswer("MLflow's process ended.")
            self._received += data
        line, _, self._received = self._received.partition(b"\n")
        return line

    def _end(self) -> None:
        child, self._child = self._child, None
        self._ready, self._received = False, b""
        if child is None:
            return
        child.kill()
        child.wait()
        for pipe in (child.stdin, child.stdout):
            if pipe is not None:
                try:
                    pipe.close()
                except OSError:  # the rest of a request could not be flushed
                    continue
