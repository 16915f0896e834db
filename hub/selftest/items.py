"""Every item of the self-test, in the order in which they run."""

from __future__ import annotations

from dataclasses import dataclass

GROUPS = {
    "readers": "What this machine reports",
    "numerics": "Kernels, beside the CPU",
    "serving": "Serving",
    "training": "Training",
    "failure": "Failure",
}


@dataclass(frozen=True)
class Item:
    """`place` is the function that tries it, as module:function. `fresh`: in a process of its own,
    whose memory is measured. After `limit_s`, on a busy machine
    longer, it is given up."""

    name: str
    group: str
    asked: str
    place: str
    fresh: bool = False
    limit_s: float = 900.0


ITEMS = (
    Item("memory_readers", "readers", "Do the readers of memory agree?", "hub.selftest.tried.readers:memory"),
    Item("host_readers", "readers", "Are heat, power and GPU load read?", "hub.selftest.tried.readers:host"),
    Item("files", "readers", "Is there room for 500 streams, and do files reach the disk?", "hub.selftest.tried.readers:files"),
    Item("rates", "numerics", "What does the device read and compute in a second?", "hub.selftest.tried.numerics:rates"),
    Item("matmul", "numerics", "Are matrix products right?", "hub.selftest.tried.numerics:matmul"),
    Item("four_bit", "numerics", "Are products with 4- and 8-bit weights right?", "hub.selftest.tried.numerics:quantized"),
    Item("gather", "numerics", "Are gathered products (adapters, experts) right?", "hub.selftest.tried.numerics:gather"),
    Item("attention", "numerics", "Are attention, norms and positions right?", "hub.selftest.tried.numerics:attention"),
    Item("top_p", "numerics", "Does top-p keep the tokens that it should?", "hub.selftest.tried.numerics:top_p"),
    Item("lora_step", "numerics", "Is a training step the same as on the CPU?", "hub.selftest.tried.numerics:lora_step"),
    Item("bundled_model", "serving", "Does the bundled model answer?", "hub.selftest.tried.serving:bundled_model"),
    Item("alone_equals_batched", "serving", "Does a row say the same alone and among others?", "hub.selftest.tried.serving:alone_equals_batched"),
    Item("beside_mlx_lm", "serving", "Is it as fast as bare mlx-lm, and how near to the bound?", "hub.selftest.tried.serving:beside_mlx_lm"),
    Item("adapter_overhead", "serving", "What do adapters cost?", "hub.selftest.tried.serving:adapter_overhead"),
    Item("waits", "serving", "How often does the host wait for the device?", "hub.selftest.tried.serving:waits"),
    Item("grammar", "serving", "What does a grammar cost?", "hub.selftest.tried.serving:grammar"),
    Item("first_token", "serving", "How soon is the first token, cold and cached?", "hub.selftest.tried.first_token:first_token"),
    Item("first_token_7b", "serving", "Is a 7B model's first token within 100 ms?", "hub.selftest.tried.first_token:first_token_7b", fresh=True),
    Item("steps", "training", "Does every kind of training learn?", "hub.selftest.tried.training:steps"),
    Item("compiled", "training", "Are compiled steps the same as plain ones?", "hub.selftest.tried.training:compiled"),
    Item("resume", "training", "Does a killed run end with the same bytes?", "hub.selftest.tried.training:resume"),
    Item("estimate", "training", "Is a run's memory as estimated?", "hub.selftest.tried.training:estimate", fresh=True),
    Item("beside_mlx_lm_lora", "training", "Is it as fast as mlx_lm.lora?", "hub.selftest.tried.training:beside_mlx_lm_lora"),
    Item("allocation", "failure", "Is an allocation beyond everything refused?", "hub.selftest.tried.failure:allocation"),
    Item("engine", "failure", "Does the engine answer 503 to it, and then work?", "hub.selftest.tried.failure:engine", fresh=True),
)  # fmt: skip
