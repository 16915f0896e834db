"""mlx_lm.lora in a process of its own, for `benchmarks.training`: one JSON line a step.

It gets the same fast BLAS as the hub's trainer (`backends.mlx.device.prepare`); without it mlx-lm
would compute on the bundled reference BLAS, many times slower. Nothing else of it is changed.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from backends.base import TrainingConfig
from backends.mlx.device import prepare


def main() -> None:
    spec = json.loads(Path(sys.argv[1]).read_text())
    config = TrainingConfig.model_validate(spec["config"])
    prepare()
    from backends.mlx.selftest.rivals import train

    def report(tokens: int, seconds: float) -> None:
        print(json.dumps({"tokens": tokens, "seconds": seconds}), flush=True)

    base, data = Path(spec["base"]), Path(spec["data"])
    model, tokenizer = train(base, data, Path(spec["output"]), config, report)
    loss = validation_loss(model, tokenizer, base, spec["data"], config)
    print(json.dumps({"val_loss": loss}))


def validation_loss(
    model: Any, tokenizer: Any, base: Path, data: str, config: TrainingConfig
) -> float:
    """Over the whole split, by the hub's own measure: mlx-lm's leaves out an incomplete batch."""
    from backends.mlx.data import cache
    from backends.mlx.training.evaluation import Evaluation
    from backends.mlx.training.loss import Lanes
    from backends.mlx.training.objectives import objective_of

    with Lanes.open() as lanes:
        objective = objective_of(config, lanes)
        split = cache.read_here(Path(data) / "valid.jsonl", base, tokenizer, config)
        return Evaluation(objective, lanes, split.examples).measure(model)["loss"]


if __name__ == "__main__":
    main()
