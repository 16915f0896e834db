"""Every item of the self-test, in the order in which they run."""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hub.selftest.bench import Bench
    from hub.selftest.report import Outcome

GROUPS = {
    "readers": "What this machine reports",
    "numerics": "Kernels, beside the CPU",
    "serving": "Serving",
    "training": "Training",
    "failure": "Failure",
}


@dataclass(frozen=True)
class Item:
    """`place` is the function that tries it, as module:function below `hub.selftest`. `fresh`: in a
    process of its own, whose memory is measured. After `limit_s` it is given up."""

    name: str
    group: str
    asked: str
    place: str
    fresh: bool = False
    limit_s: float = 900.0

    def run(self, bench: Bench) -> Outcome:
        module, _, function = self.place.partition(":")
        outcome: Outcome = getattr(importlib.import_module(f"hub.selftest.{module}"), function)(
            bench
        )
        return outcome


ITEMS = (
    Item("memory_readers", "readers", "Do the readers of memory agree?", "machine:memory"),
    Item("host_readers", "readers", "Are heat, power and GPU load read?", "machine:host"),
    Item("files", "readers", "Is there room for 500 streams, and do files reach the disk?", "machine:files"),
    Item("rates", "numerics", "What does the device read and compute in a second?", "numerics:rates"),
    Item("matmul", "numerics", "Are matrix products right?", "numerics:matmul"),
    Item("four_bit", "numerics", "Are products with 4- and 8-bit weights right?", "numerics:quantized"),
    Item("gather", "numerics", "Are gathered products (adapters, experts) right?", "numerics:gather"),
    Item("attention", "numerics", "Are attention, norms and positions right?", "numerics:attention"),
    Item("top_p", "numerics", "Does top-p keep the tokens that it should?", "numerics:top_p"),
    Item("lora_step", "numerics", "Is a training step the same as on the CPU?", "numerics:lora_step"),
    Item("bundled_model", "serving", "Does the bundled model answer?", "serving:bundled_model"),
    Item("alone_equals_batched", "serving", "Does a row say the same alone and among others?", "serving:alone_equals_batched"),
    Item("beside_mlx_lm", "serving", "Is it as fast as bare mlx-lm, and how near to the bound?", "serving:beside_mlx_lm"),
    Item("adapter_overhead", "serving", "What do adapters cost?", "serving:adapter_overhead"),
    Item("waits", "serving", "How often does the host wait for the device?", "serving:waits"),
    Item("grammar", "serving", "What does a grammar cost?", "serving:grammar"),
    Item("first_token", "serving", "How soon is the first token, cold and cached?", "serving:first_token"),
    Item("first_token_7b", "serving", "Is a 7B model's first token within 100 ms?", "serving:first_token_7b", fresh=True),
    Item("steps", "training", "Does every kind of training learn?", "training:steps"),
    Item("compiled", "training", "Are compiled steps the same as plain ones?", "training:compiled"),
    Item("resume", "training", "Does a killed run end with the same bytes?", "training:resume"),
    Item("estimate", "training", "Is a run's memory as estimated?", "training:estimate", fresh=True),
    Item("beside_mlx_lm_lora", "training", "Is it as fast as mlx_lm.lora?", "training:beside_mlx_lm_lora"),
    Item("allocation", "failure", "Is an allocation beyond everything refused?", "failing:allocation"),
    Item("engine", "failure", "Does the engine answer 503 to it, and then work?", "failing:engine", fresh=True),
)  # fmt: skip


def find(name: str) -> Item:
    return next(item for item in ITEMS if item.name == name)
