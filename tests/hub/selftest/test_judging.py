"""What counts as right, without a model."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest

from backends.base import Delta, TokenLogprob
from backends.mlx.selftest.models import TINY
from hub.selftest.bench import Bench, CannotTry
from hub.selftest.tried import bound, first_token, numerics, readers, serving, training

pytestmark = pytest.mark.any_database


def bench(kind: str = "metal") -> Any:
    return SimpleNamespace(kind=kind, quick=False)


def compared(error: float | None, dtype: str = "bfloat16") -> Any:
    return SimpleNamespace(kernel="matmul", dtype=dtype, shape="1x2x3", error=error)


def test_an_error_beyond_rounding_is_named_with_its_shape() -> None:
    found = numerics._within(bench(), [compared(0.01), compared(0.5), compared(0.001, "float32")])
    assert found.state == "not_right"
    assert "matmul in bfloat16 at 1x2x3" in found.said
    assert found.figures["kernels"]["matmul"]["bfloat16"]["error"] == 0.5
    assert numerics._within(bench(), [compared(0.01)]).state == "right"


def test_no_number_at_all_is_not_right() -> None:
    assert numerics._within(bench(), [compared(float("inf"))]).state == "not_right"
    assert numerics._within(bench(), [compared(float("nan"))]).state == "not_right"


@pytest.mark.parametrize(("kind", "state"), [("cpu", "right"), ("metal", "not_right")])
def test_a_kernel_may_be_missing_on_the_cpu_alone(kind: str, state: str) -> None:
    found = numerics._within(bench(kind), [compared(None), compared(0.0)])
    assert (found.state, found.figures["missing"]) == (state, ["matmul in bfloat16"])


def delta(token: int, gap: float) -> Delta:
    top = tuple(TokenLogprob(n, "", -gap * n) for n in (0, 1))
    return Delta("1", "", token, 0.0, top=top)


def test_answers_part_where_their_first_tokens_differ() -> None:
    one = [delta(1, 3.0), delta(2, 0.01), delta(3, 9.0)]
    other = [delta(1, 3.0), delta(4, 0.02), delta(5, 9.0)]
    assert serving._parted(one, one) is None
    assert serving._parted(one, other) == pytest.approx(0.01)
    assert serving._parted(one, one[:2]) == float("inf")


@pytest.mark.parametrize(
    ("kind", "free", "reason"),
    [("cpu", 64e9, "on its CPU"), ("metal", 4e9, "4.0 GB are free"), ("metal", 64e9, "")],
)
def test_a_7b_model_is_made_only_where_it_fits(
    kind: str, free: float, reason: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    device = SimpleNamespace(memory_bytes=int(64e9))
    one: Any = SimpleNamespace(kind=kind, quick=False, folder=tmp_path, device=device)
    memory = SimpleNamespace(available=int(free))
    monkeypatch.setattr(psutil, "virtual_memory", lambda: memory)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=9e9))
    said = first_token._too_small(one)
    assert reason in said
    assert bool(said) == bool(reason)


def test_a_folder_weighs_in_the_bound_what_it_has_on_the_disk(tmp_path: Path) -> None:
    config = {"model_type": "llama", **vars(TINY), "torch_dtype": "bfloat16"}
    (tmp_path / "config.json").write_text(json.dumps(config))
    (tmp_path / "model.safetensors").write_bytes(bytes(700_000))
    shape = bound.of_folder(tmp_path)
    assert shape.weight_bytes == pytest.approx(700_000)
    assert shape.step_bytes == pytest.approx(700_000)  # the head is the embeddings
    assert (shape.kv_heads, shape.head_width, shape.kv_bits) == (2, 16, 16)


def test_without_the_model_its_items_cannot_be_tried(tmp_path: Path) -> None:
    with pytest.raises(CannotTry, match="bundled_model"):
        _ = Bench(tmp_path, quick=True).base


def test_the_rate_leaves_out_what_warms_up() -> None:
    slow = [(10, 100.0)] * training.WARM
    assert training._rate([*slow, (10, 1.0), (30, 1.0)]) == 20
    assert training._rate([(10, 5.0)]) == 2


def test_a_reader_that_fails_says_how() -> None:
    def broken() -> int:
        raise OSError("no such sensor")

    found = readers.read_all({"heat": broken, "cold": lambda: 1})
    assert found == {"heat": "failed with OSError: no such sensor", "cold": 1}
    assert readers.printed("no-such-program-here") == "(no such program)"
    assert readers.printed("echo", "x") == "x"
