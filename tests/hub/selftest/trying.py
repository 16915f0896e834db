"""Items for the tests of how items are run."""

from __future__ import annotations

import os
import signal
import time

from hub.selftest.bench import Bench, CannotTry
from hub.selftest.report import Outcome, right


def fine(bench: Bench) -> Outcome:
    print("a library that prints")
    bench.say("half of it")
    return right("It is fine.", process=os.getpid(), quick=bench.quick)


def raises(bench: Bench) -> Outcome:
    raise ValueError(f"nothing is right in {bench.folder}")


def cannot(bench: Bench) -> Outcome:
    raise CannotTry("There is no harbour here.", "Move.")


def crashes(bench: Bench) -> Outcome:
    os.kill(os.getpid(), signal.SIGSEGV)
    raise AssertionError


def hangs(bench: Bench) -> Outcome:
    print("it hangs", flush=True)
    time.sleep(600)
    raise AssertionError
