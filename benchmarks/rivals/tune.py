"""Trains with a rival in the rival's interpreter: `python tune.py NAME SPEC`, one JSON line a step.

Nothing of the project is imported here but `launch`, for the BLAS. `SPEC` is a file with the shape of the
run (`benchmarks.rivals.trainers`): LoRA on all linear layers of all blocks, Adam at a constant rate, every
token learned, no checkpointing. What is changed of a rival is what keeps it from running on a CPU:

- mlx-lm-lora looks up how much memory Metal recommends, which a CPU has not;
- unsloth-zoo imports its MLX part on macOS on arm64 alone.

`mlx_lm.lora, sorted` is mlx_lm.lora with the lengths its batches are meant to be sorted by; as shipped
`CacheDataset.itemlen` counts the keys of an example's dictionary.
"""

import json
import platform
import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace
from typing import Any

launch: Any = import_module("launch")  # beside this program; loads the BLAS, so before any MLX

Spec = dict[str, Any]


def main() -> None:
    launch.end_with_parent()
    sys.path.pop(0)  # this folder
    name, file = sys.argv[1:]
    TRAINERS[name](json.loads(Path(file).read_text()))


def _say(tokens: int, seconds: float, loss: float) -> None:
    print(json.dumps({"tokens": tokens, "seconds": seconds, "loss": loss}), flush=True)


class _Report:
    """mlx-lm's callback. Its mask, and mlx-lm-lora's, counts one target more than each example has."""

    def __init__(self, batch_size: int) -> None:
        self._batch_size = batch_size

    def on_train_loss_report(self, info: dict[str, Any]) -> None:
        seconds = 1 / info["iterations_per_second"]
        tokens = round(info["tokens_per_second"] * seconds - self._batch_size)
        _say(tokens, seconds, info["train_loss"])

    def on_val_loss_report(self, info: dict[str, Any]) -> None:
        pass


def _settings(spec: Spec) -> Spec:
    """What mlx_lm.lora and mlx-lm-lora both call so."""
    return {
        "model": spec["base"],
        "data": spec["data"],
        "train": True,
        "seed": spec["seed"],
        "optimizer": "adam",
        "optimizer_config": {"adam": {"betas": [0.9, 0.99], "bias_correction": True}},
        "num_layers": spec["num_layers"],
        "batch_size": spec["batch_size"],
        "iters": spec["iters"],
        "learning_rate": spec["learning_rate"],
        "max_seq_length": spec["max_seq_length"],
        "lora_parameters": {"rank": spec["rank"], "dropout": 0.0, "scale": spec["scale"]},
        "val_batches": 1,
        "steps_per_eval": 10**9,
        "steps_per_report": 1,
        "save_every": 10**9,
        "adapter_path": spec["output"],
    }


def mlx_lm(spec: Spec) -> None:
    lora: Any = import_module("mlx_lm.lora")
    lora.get_reporting_callbacks = lambda *_, **__: _Report(spec["batch_size"])
    lora.run(SimpleNamespace(**lora.CONFIG_DEFAULTS | _settings(spec)))


def mlx_lm_sorted(spec: Spec) -> None:
    datasets: Any = import_module("mlx_lm.tuner.datasets")
    datasets.CacheDataset.itemlen = lambda self, index: len(self[index][0])
    mlx_lm(spec)


def mlx_lm_lora(spec: Spec) -> None:
    mx: Any = import_module("mlx.core")
    known = mx.device_info()
    mx.device_info = lambda *_: {"max_recommended_working_set_size": 0, **known}
    train: Any = import_module("mlx_lm_lora.train")
    settings = train.CONFIG_DEFAULTS | _settings(spec) | {"fuse": False, "wandb": None}
    train.run(SimpleNamespace(**settings), _Report(spec["batch_size"]))


def unsloth(spec: Spec) -> None:
    platform.system, platform.machine = lambda: "Darwin", lambda: "arm64"
    loader: Any = import_module("unsloth_zoo.mlx.loader")
    trainer: Any = import_module("unsloth_zoo.mlx.trainer")
    model, tokenizer = loader.FastMLXModel.from_pretrained(
        spec["base"],
        max_seq_length=spec["max_seq_length"],
        load_in_4bit=False,
        dtype="float32",
        random_state=spec["seed"],
    )
    model = loader.FastMLXModel.get_peft_model(
        model,
        r=spec["rank"],
        lora_alpha=spec["rank"] * spec["scale"],
        use_gradient_checkpointing=False,
        random_state=spec["seed"],
        max_seq_length=spec["max_seq_length"],
    )
    texts = [
        json.loads(line) for line in Path(spec["data"], "train.jsonl").read_text().splitlines()
    ]
    training = trainer.MLXTrainer(
        model,
        tokenizer,
        texts,
        args=trainer.MLXTrainingConfig(
            per_device_train_batch_size=spec["batch_size"],
            gradient_accumulation_steps=1,
            max_steps=spec["iters"],
            warmup_steps=0,
            learning_rate=spec["learning_rate"],
            lr_scheduler_type="constant",
            optim="adam",
            weight_decay=0.0,
            seed=spec["seed"],
            output_dir=spec["output"],
            max_seq_length=spec["max_seq_length"],
            gradient_checkpointing=False,
        ),
    )
    counted = 0

    def report(
        step: int, steps: int, loss: float, rate: float, tokens_s: float, *more: Any
    ) -> None:
        nonlocal counted
        tokens, counted = more[2] - counted, more[2]
        _say(tokens, tokens / tokens_s, loss)

    training.add_step_callback(report)
    training.train()


TRAINERS: dict[str, Callable[[Spec], None]] = {
    "mlx_lm.lora": mlx_lm,
    "mlx_lm.lora, sorted": mlx_lm_sorted,
    "mlx-lm-lora": mlx_lm_lora,
    "unsloth-zoo": unsloth,
}

if __name__ == "__main__":
    main()
