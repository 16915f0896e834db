"""How soon a 7B model at 4 bits gives its first token: the goal is 100 ms.

    uv run python -m benchmarks.first_token [--layers N] [--check] [--json FILE]

Random weights of Mistral 7B's shape, made here; nothing is downloaded. Where that does not fit, or on
a CPU, where each token would take seconds, a model of a sixteenth of its width is measured in its
place, against which no bar holds. `--layers` takes fewer of the 32 layers. The bar: 100 ms with all
but 16 tokens of 2,048 in the prefix cache, the hub's own 9 ms included (`docs/first-token.md`).
"""

from __future__ import annotations

import argparse
import json
import shutil
import tempfile
from dataclasses import replace
from pathlib import Path

from backends.mlx.device import prepare
from benchmarks.setup.hub import add_arguments, finish, machine
from hub.selftest.bench import Bench
from hub.selftest.tried import bound, first_token


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    add_arguments(parser)
    parser.add_argument("--layers", type=int, help="of the model that is measured")
    options = parser.parse_args()
    prepare()
    folder = Path(tempfile.mkdtemp(prefix="hub-first-token-"))
    bench = Bench(folder, quick=False, say=lambda text: print(text, flush=True))
    try:
        shape, reason = first_token.shape_7b(bench)
        if options.layers:
            shape = replace(shape, num_hidden_layers=options.layers)
        found = first_token.measure_shape(bench, shape)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    print(f"{shape} ({machine()})")
    print("\n".join(f"{name:>24} {value:,.1f}" for name, value in found.items()))
    if options.json:
        options.json.write_text(json.dumps({"machine": machine(), **found}, indent=2) + "\n")
    whole = found["cached_ms"] + 1000 * bound.OVERHEAD_S
    if reason or options.layers:
        finish(True, options.check, f"{whole:.0f} ms; no bar for this shape. {reason}")
    finish(
        whole <= 1000 * bound.LIMIT_S, options.check, f"{whole:.0f} ms with the hub's 9 (bar 100)"
    )


if __name__ == "__main__":
    main()
