"""The process that runs items, one after the other: `python -m hub.selftest.child FOLDER [--quick]`.

It reads the place of an item (module:function) per line and answers in lines of JSON: `{"progress": text}` at any time,
and `{"outcome": …}` once at the end of each. What libraries print goes to the log on stderr.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
import traceback
from dataclasses import asdict
from pathlib import Path
from typing import Any

from backends.mlx.device import prepare
from hub.processes import lifeline
from hub.selftest.bench import Bench, CannotTry
from hub.selftest.report import Outcome, not_right, not_tried


def run_item(place: str, bench: Bench) -> Outcome:
    """What becomes of the item, whatever it raises."""
    module, _, function = place.partition(":")
    try:
        outcome: Outcome = getattr(importlib.import_module(module), function)(bench)
        return outcome
    except CannotTry as reason:
        return not_tried(str(reason), reason.todo)
    except Exception as error:
        traceback.print_exc()
        where = traceback.extract_tb(error.__traceback__)[-1]
        line = (str(error).strip() or "no reason given").splitlines()[0]
        return not_right(
            f"It ended with {type(error).__name__}: {line}",
            "Please report this with the whole report.",
            module=Path(where.filename).name,
            line=where.lineno,
        )


def main() -> None:
    lifeline.watch_parent()
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # a library that prints must not be taken for an answer

    def answer(message: dict[str, Any]) -> None:
        answers.write(json.dumps(message, default=str) + "\n")

    prepare()  # before any item imports MLX
    bench = Bench(
        Path(sys.argv[1]), "--quick" in sys.argv[2:], lambda text: answer({"progress": text})
    )
    for line in sys.stdin:
        before = sum(os.times()[:4])
        outcome = asdict(run_item(line.strip(), bench))
        answer({"outcome": outcome, "processor_s": sum(os.times()[:4]) - before})


if __name__ == "__main__":
    main()
