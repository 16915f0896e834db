"""What a run is expected to need where 16 bits compute and batches are padded to few shapes."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from tests.training.build import make_config
from tests.training.memory.test_memory import BASE, SIZE, total
from training.memory import estimate
from training.memory.estimate import Base, Dimensions

pytestmark = pytest.mark.any_database


def test_a_full_fine_tune_of_16_bits_needs_its_masters() -> None:
    """Four bytes a weight for each of master, gradient and the optimizer's two states."""

    def parts(**changes: Any) -> estimate.Memory:
        config = make_config(fine_tune_type="full", optimizer="adamw", **changes)
        return estimate.memory(BASE, config, 512)

    config = make_config(fine_tune_type="full")
    weights = estimate.trained_parameters(SIZE, config)
    now, earlier = parts(), parts(arithmetic="earlier")
    assert (now.trained, now.gradients, now.optimizer) == (4 * weights, 4 * weights, 8 * weights)
    assert (earlier.trained, earlier.gradients, earlier.optimizer) == (0, 2 * weights, 4 * weights)
    wide = Base(SIZE, nbytes=2 * BASE.nbytes, activation_bytes=4)
    assert estimate.memory(wide, config, 512).trained == 0


def test_a_gpu_pads_rows_to_rungs_and_the_cpu_does_not() -> None:
    assert total(longest=1025) < total(longest=1026) == total(longest=1281) < total(longest=1282)
    cpu = Base(SIZE, nbytes=BASE.nbytes, activation_bytes=2, on_cpu=True)
    assert total(1026, cpu) < total(1281, cpu)


def test_the_device_decides_what_a_base_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    """4-bit weights compute in 16 bits on a GPU, in 32 on the CPU."""
    bases = {}
    for device in ("cpu", "metal", "cuda"):
        monkeypatch.setenv("HUB_ASSUMED_DEVICE", device)
        bases[device] = Base.of(SIZE, BASE.nbytes, "4-bit (group 64)", "llama")
    assert bases["metal"] == replace(bases["cuda"], on_cuda=False) != bases["cpu"]
    assert bases["cuda"].on_cuda  # whose memory alone counts there
    assert (bases["metal"].activation_bytes, bases["cpu"].activation_bytes) == (2, 4)
    at_once = {"batch_size": 1}  # a larger batch the CPU computes in pieces
    assert total(base=bases["metal"], **at_once) < total(base=bases["cpu"], **at_once)


# A llama of 8 layers, hidden size 128 and a vocabulary of 4,096 with batches of 4 rows of 193 tokens,
# trained with HUB_ASSUMED_DEVICE=metal on the CPU: what MLX held at most, in MB.
AS_ON_A_GPU = Dimensions(layers=8, hidden=128, intermediate=384, heads=4, kv=64, vocabulary=4096)
HELD: dict[str, tuple[int, dict[str, Any], float]] = {
    "float32": (4, {}, 161.5),
    "bfloat16": (2, {}, 132.8),
    "bfloat16, recomputed": (2, {"grad_checkpoint": True}, 75.5),
    "bfloat16, dora": (2, {"fine_tune_type": "dora"}, 146.9),
    "bfloat16, full": (2, {"fine_tune_type": "full"}, 126.4),
}


@pytest.mark.parametrize("name", HELD)
def test_the_estimate_for_a_gpu_is_near_what_mlx_held(name: str) -> None:
    width, changes, megabytes = HELD[name]
    base = Base(AS_ON_A_GPU, nbytes=2_100_000 * width, activation_bytes=width)
    config = make_config(batch_size=4, num_layers=-1, max_seq_length=256, **changes)
    parts = estimate.memory(base, config, 193)
    found = parts.weights + parts.trained + parts.gradients + parts.optimizer
    found += estimate._arrays(base, config, 193, None)
    assert found / 1e6 == pytest.approx(megabytes, rel=0.1)
