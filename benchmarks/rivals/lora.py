"""mlx_lm.lora in a process of its own, for `benchmarks.training`: one JSON line a step.

It gets the same fast BLAS as the hub's trainer (`backends.mlx.device.prepare`); without it mlx-lm
would compute on the bundled reference BLAS, many times slower. Nothing else of it is changed.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from backends.base import TrainingConfig
from backends.mlx.device import prepare


def main() -> None:
    spec = json.loads(Path(sys.argv[1]).read_text())
    config = TrainingConfig.model_validate(spec["config"])
    prepare()
    import numpy as np
    from mlx_lm import load, lora  # noqa: TID251
    from mlx_lm.tuner.callbacks import TrainingCallback  # noqa: TID251
    from mlx_lm.tuner.datasets import load_dataset  # noqa: TID251

    class Report(TrainingCallback):
        def on_train_loss_report(self, info: dict[str, Any]) -> None:
            seconds = 1 / info["iterations_per_second"]
            # Its mask counts one target more than each example has.
            tokens = info["tokens_per_second"] * seconds - config.batch_size
            print(json.dumps({"tokens": round(tokens), "seconds": seconds}), flush=True)

    settings = lora.CONFIG_DEFAULTS | {
        "model": spec["base"],
        "data": spec["data"],
        "train": True,
        "seed": config.seed,
        "optimizer": "adam",
        "optimizer_config": {"adam": {"betas": [0.9, 0.99], "bias_correction": True}},
        "num_layers": config.num_layers,
        "batch_size": config.batch_size,
        "iters": config.iters,
        "learning_rate": config.learning_rate,
        "max_seq_length": config.max_seq_length,
        "lora_parameters": {"rank": config.lora.rank, "dropout": 0.0, "scale": config.lora.scale},
        "val_batches": 1,
        "steps_per_eval": 10**9,
        "steps_per_report": 1,
        "save_every": 10**9,
        "adapter_path": spec["output"],
    }
    args = SimpleNamespace(**settings)
    loaded: Any = load(args.model)
    model, tokenizer = loaded[:2]
    train_set, valid_set, _ = load_dataset(args, tokenizer)
    np.random.seed(args.seed)
    lora.train_model(args, model, train_set, valid_set, Report())
    base = Path(spec["base"])
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
