"""What a run is expected to need where 16 bits compute and batches are padded to few shapes."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from backends.base import TrainingConfig
from benchmarks import peaks
from tests.training.build import make_config
from tests.training.memory.test_memory import BASE, SIZE, total
from training.memory import compiled, estimate
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
    """4-bit weights compute in the type of their scales on a GPU, in 32 bits on the CPU."""
    bases = {}
    for device in ("cpu", "metal", "cuda"):
        monkeypatch.setenv("HUB_ASSUMED_DEVICE", device)
        bases[device] = Base.of(SIZE, BASE.nbytes, "4-bit (group 64)", "llama")
    assert bases["metal"] == replace(bases["cuda"], on_cuda=False) != bases["cpu"]
    assert bases["cuda"].on_cuda  # whose memory alone counts there
    assert (bases["metal"].activation_bytes, bases["cpu"].activation_bytes) == (2, 4)
    monkeypatch.setenv("HUB_ASSUMED_DEVICE", "metal")
    wide = Base.of(SIZE, BASE.nbytes, "4-bit (group 64, float32)", "llama")
    assert wide == replace(bases["metal"], activation_bytes=4)
    at_once = {"batch_size": 1}  # a larger batch the CPU computes in pieces
    assert total(base=bases["metal"], **at_once) < total(base=bases["cpu"], **at_once)


# Trained with HUB_ASSUMED_DEVICE=metal on the CPU: what MLX held at most, in MB, by width, tokens of a
# batch, tokens of a row, targets and settings.
TINY = Dimensions(layers=8, hidden=128, intermediate=384, heads=4, kv=64, vocabulary=4096)
SMOL = Dimensions(layers=4, hidden=576, intermediate=1536, heads=9, kv=192, vocabulary=49152)
WIDE = Dimensions(layers=4, hidden=256, intermediate=1024, heads=4, kv=128, vocabulary=4096)
WHOLE = replace(SMOL, layers=30)
WEIGHTS = {WHOLE: 134_520_000, TINY: 2_100_000, SMOL: 42_570_000, WIDE: 5_000_000}
AGAIN = {"grad_checkpoint": True}
HELD: dict[str, tuple[Dimensions, int, tuple[int, int, int], dict[str, Any], float]] = {
    "float32": (TINY, 4, (768, 192, 768), {}, 142.1),
    "half its layers": (TINY, 4, (768, 192, 768), {"num_layers": 4}, 95.9),
    "bfloat16": (TINY, 2, (768, 192, 768), {}, 94.7),
    "bfloat16, recomputed": (TINY, 2, (768, 192, 768), AGAIN, 39.6),
    "few targets": (SMOL, 4, (640, 320, 80), {}, 406.8),
    "all targets": (SMOL, 4, (512, 256, 512), {}, 530.3),
    "long rows": (SMOL, 4, (640, 640, 80), {}, 454.8),
    "recomputed": (SMOL, 4, (1280, 320, 160), AGAIN, 366.7),
    "few targets, bfloat16": (SMOL, 2, (640, 320, 80), {}, 238.8),
    "all targets, bfloat16": (SMOL, 2, (512, 256, 512), {}, 381.1),
    "a long context": (WHOLE, 4, (1024, 1024, 1024), {}, 3711.7),
    "a long context, recomputed": (WHOLE, 4, (1024, 1024, 1024), AGAIN, 1080.6),
    "a longer one, recomputed": (WHOLE, 4, (2048, 2048, 2048), AGAIN, 1574.0),
    "another shape": (WIDE, 4, (1280, 320, 640), {}, 256.4),
}


@pytest.mark.parametrize("name", HELD)
def test_the_estimate_for_a_gpu_is_near_what_mlx_held(name: str) -> None:
    size, width, (tokens, row, targets), changes, megabytes = HELD[name]
    base = Base(size, nbytes=WEIGHTS[size] * width, activation_bytes=width)
    config = make_config(**{"num_layers": -1, **changes})
    parts = estimate.memory(base, config, row)
    found = parts.weights + parts.trained + parts.gradients + parts.optimizer
    found += compiled.arrays(size, width, config, tokens, row, targets)
    assert found / 1e6 == pytest.approx(megabytes, rel=0.06)


def test_on_a_gpu_only_logits_of_learned_tokens_are_held() -> None:
    """An eighth, a quarter, a half, three quarters or all of a batch's."""
    copy = 49152 * 4
    whole, half, little = (
        estimate.step_arrays(
            Base(SMOL, nbytes=1),
            make_config(batch_size=4),
            96,
            np.full(64, 96),
            np.full(64, taught),
        )
        for taught in (95, 40, 3)
    )
    assert whole - half == 2 * copy * 4 * 96 // 2
    assert whole - little == 2 * copy * 4 * 96 * 7 // 8
    cpu = Base(SMOL, nbytes=1, on_cpu=True, head_in_pieces=True)
    assert estimate.step_arrays(cpu, make_config(), 96, np.full(64, 96), np.full(64, 3)) == (
        estimate.step_arrays(cpu, make_config(), 96, np.full(64, 96))
    )


def test_a_pair_has_the_targets_of_both_answers() -> None:
    config = make_config(objective="dpo", batch_size=2)
    lengths, both = np.full(64, 96), np.full(64, 2 * 95)
    assert compiled.targets(config, 2 * 2 * 96, lengths, both) == 2 * 2 * 96
    assert compiled.targets(config, 2 * 2 * 96, lengths, both // 2) == 2 * 96


def test_buffers_of_other_lengths_are_kept_and_those_of_one_length_used_again() -> None:
    """Where a layer is computed again, each step gives its buffers back."""
    config = make_config(batch_size=4)
    alike, unlike = np.full(640, 96), np.arange(10, 650)
    most = 300 << 20
    assert compiled.freed(config, most, alike) < 0.1 * most
    assert compiled.freed(config, most, unlike) > most
    assert compiled.freed(make_config(grad_checkpoint=True), most, unlike) < 0.5 * most
    assert compiled.freed(config, most, None) > most


def test_the_demo_as_on_a_mac() -> None:
    """SmolLM2 in float32 and the settings of the bundled data set; a process held 1,426 MB, without
    Django's 36."""
    lengths = np.sort(np.linspace(45, 92, 900).astype(int))
    config = TrainingConfig.model_validate(peaks.QUIET | peaks.DEMO)
    base = Base(WHOLE, nbytes=538_090_233)
    found = estimate.memory(base, config, 92, lengths, lengths * 2 // 5).total / 1e6
    assert found == pytest.approx(1462, rel=0.1)


def test_one_long_context_without_checkpointing_as_on_a_mac() -> None:
    """A process held 9,330 MB; the attention's probabilities are more than half of it."""
    lengths = np.full(4, 2028)
    config = TrainingConfig.model_validate(peaks.QUIET | peaks.ONE)
    base = Base(WHOLE, nbytes=538_090_233)
    found = estimate.memory(base, config, 2028, lengths, lengths).total / 1e6
    assert found == pytest.approx(9330, rel=0.1)
