from __future__ import annotations

import functools
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from backends.base import LoadOptions, OutOfMemory
from backends.mlx import MLXBackend, device
from backends.mlx.device import blas_threads, prepare
from tests.backends.mlx.gguf.test_gguf import make_gguf, metadata, tensors
from tests.backends.test_failures import OUT_OF_MEMORY
from tests.backends.training_runs import make_run

ROOT = Path(__file__).parents[3]
GB = 2**30


def in_new_process(code: str, **environment: str) -> str:
    environment = {**os.environ, **environment, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


def test_preparing_twice_changes_nothing() -> None:
    assert prepare() == prepare()


@pytest.mark.skipif(sys.platform != "linux", reason="Linux's own scheduling")
def test_threads_that_wake_up_in_the_tests_and_their_processes_preempt_nobody() -> None:
    """MLX wakes one for each operation."""
    code = "import os; print(os.sched_getscheduler(0) == os.SCHED_BATCH)"
    assert in_new_process(code) == "True"


@pytest.mark.parametrize("footprint", ["the process's", "unknown"])
def test_freed_buffers_count_until_they_are_given_back(
    footprint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where only MLX knows of them, as of a CUDA device's."""
    import mlx.core as mx

    if footprint == "unknown":
        monkeypatch.setattr(device, "footprint", lambda: 0)
    backend, size = MLXBackend(), 16 << 20
    limit = mx.set_cache_limit(256 << 20)
    backend.free_unused()  # or a full cache gives other buffers back for this one
    try:
        array = mx.zeros(size // 4)
        mx.eval(array)
        held = backend.memory_bytes()
        assert held is not None
        assert held >= size
        del array
        assert backend.memory_bytes() >= held
        assert backend.unused_bytes() >= size
        backend.free_unused()
        assert backend.memory_bytes() < held - 0.9 * size  # the rest of the process runs meanwhile
    finally:
        mx.set_cache_limit(limit)


def test_the_device_is_described() -> None:
    found = MLXBackend().device()
    assert found.backend == "mlx"
    assert found.device in ("cpu", "metal", "cuda")
    assert found.name
    assert found.memory_bytes > 1 << 30
    assert set(found.versions) == {"mlx", "mlx-lm"}


@pytest.mark.skipif(sys.platform != "linux", reason="macOS has Accelerate")
def test_importing_mlx_first_is_reported() -> None:
    code = "import mlx.core; from backends.mlx import MLXBackend; print(MLXBackend().device())"
    said = in_new_process(code)
    assert "blas='reference'" in said
    assert "imported before the fast BLAS" in said


@pytest.mark.skipif(sys.platform != "linux", reason="macOS has Accelerate")
def test_test_modules_compute_with_the_fast_blas() -> None:
    """Also when a worker imports one before any conftest.py. With the reference BLAS the tests of the
    real model take ten times the processor time."""
    code = (
        "import tests.backends.mlx.counting, sys; assert 'mlx.core' in sys.modules;"
        "from backends.mlx import MLXBackend; print(MLXBackend().device())"
    )
    assert "imported before the fast BLAS" not in in_new_process(code)
    assert "imported before the fast BLAS" not in str(MLXBackend().device().warnings)


@pytest.mark.skipif(
    sys.platform != "linux" or os.uname().machine != "x86_64", reason="oneMKL is for Linux x86-64"
)
def test_a_new_process_computes_with_onemkl_and_passive_threads() -> None:
    code = (
        "import os; from backends.mlx import MLXBackend; print(MLXBackend().device().blas);"
        "print(os.environ['OMP_WAIT_POLICY']);"
        "import mlx.core as mx; x = mx.ones((64, 64)); mx.eval(x @ x)"
    )
    said = in_new_process(code, MKL_VERBOSE="1")
    assert said.splitlines()[0] == "onemkl"
    assert "PASSIVE" in said
    assert "SGEMM" in said


@pytest.mark.skipif(sys.platform != "linux", reason="macOS has Accelerate")
@pytest.mark.parametrize("look", ["examine(base, data, 128, 1)", "check_template(base, data, 1)"])
def test_looking_at_data_first_does_not_cost_the_fast_blas(
    tiny_base: Path, chats: Path, look: str
) -> None:
    code = (
        "from pathlib import Path; from backends.mlx import MLXBackend;"
        f"base, data = Path({str(tiny_base)!r}), Path({str(chats)!r});"
        f"MLXBackend().{look}; print(MLXBackend().device())"
    )
    assert "imported before the fast BLAS" not in in_new_process(code)


@pytest.mark.skipif(sys.platform != "linux", reason="MLX needs g++ on Linux only")
def test_without_a_compiler_mlx_still_computes() -> None:
    code = (
        "from backends.mlx import MLXBackend; print(MLXBackend().device().warnings);"
        "import mlx.core as mx; f = mx.compile(lambda x: mx.exp(x) * 2 + 1);"
        "print(f(mx.zeros(3)).tolist())"
    )
    said = in_new_process(code, PATH="/nonexistent")
    assert "install g++" in said
    assert "[3.0, 3.0, 3.0]" in said


def test_blas_callers_never_exceed_the_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    with blas_threads(4) as callers:
        assert callers == 1


def test_prompts_get_all_threads_and_decoding_half(monkeypatch: pytest.MonkeyPatch) -> None:
    chosen: list[int] = []
    monkeypatch.setenv("OMP_NUM_THREADS", "4")
    monkeypatch.setattr(device, "_threads", 0)
    monkeypatch.setattr(device, "_set_threads", chosen.append)
    for length in (1, 1, 128, 300, 1):
        device.share_cores(length)
    assert chosen == [2, 4, 2]


@pytest.fixture
def limits(monkeypatch: pytest.MonkeyPatch) -> dict[str, int]:
    """What MLX was told, instead of telling it."""
    import mlx.core as mx

    told: dict[str, int] = {}
    for name in ("cache", "memory", "wired"):
        monkeypatch.setattr(mx, f"set_{name}_limit", functools.partial(told.__setitem__, name))
    monkeypatch.setattr(device, "_budget", None)
    return told


def test_metal_is_kept_within_the_budget(
    limits: dict[str, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """By default it may keep 1.5 times its working set of freed buffers, and mlx-lm's generators wire
    all of the working set."""
    import mlx.core as mx

    monkeypatch.setenv("HUB_ASSUMED_DEVICE", "metal")
    monkeypatch.setattr(mx.metal, "is_available", lambda: True)
    monkeypatch.setattr(mx, "device_info", lambda: {"max_recommended_working_set_size": 12 * GB})
    device.limit_memory(100, 8 * GB)
    assert limits == {"cache": 100, "memory": 8 * GB - device.PROGRAM, "wired": 8 * GB}
    device.limit_memory(100, 20 * GB)
    assert limits["wired"] == 12 * GB
    limits.clear()
    device.keep_wired()
    assert limits == {"wired": 12 * GB}


def test_the_cpu_counts_what_it_keeps_beside_its_limit(
    limits: dict[str, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HUB_ASSUMED_DEVICE", "cpu")
    device.limit_memory(100 << 20, 8 * GB)
    left = 8 * GB - device.PROGRAM - (100 << 20)
    assert (limits["cache"], limits["memory"]) == (100 << 20, left)


def test_what_mlx_holds_on_a_cuda_device_is_left_to_mlx(
    limits: dict[str, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whose limits are those of the card; the budget is about its memory, too."""
    monkeypatch.setenv("HUB_ASSUMED_DEVICE", "cuda")
    device.limit_memory(100 << 20, 8 * GB)
    assert limits == {}


@pytest.mark.parametrize(
    ("kind", "most"), [("cpu", device.TRAINING_CACHE), ("metal", device.TRAINING_CACHE_ON_METAL)]
)
def test_trainer_and_engine_are_limited_by_what_they_were_given(
    limits: dict[str, int],
    tiny_base: Path,
    chats: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    kind: str,
    most: int,
) -> None:
    monkeypatch.setenv("HUB_ASSUMED_DEVICE", kind)
    kept = {"cpu": 1, "metal": 0}[kind]  # counted beside the limit, or within it
    run = replace(make_run(tiny_base, chats, tmp_path), budget_bytes=2 * GB)
    MLXBackend().train(run).close()
    assert (limits["cache"], limits["memory"]) == (most, 2 * GB - device.PROGRAM - kept * most)
    MLXBackend().load(tiny_base, options=LoadOptions(budget_bytes=3 * GB)).close()
    most = device.SERVING_CACHE
    assert (limits["cache"], limits["memory"]) == (most, 3 * GB - device.PROGRAM - kept * most)


@pytest.mark.parametrize("kind", ["cpu", "metal"])
def test_the_footprint_is_what_a_process_holds(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HUB_ASSUMED_DEVICE", kind)
    monkeypatch.setattr(device, "footprint", lambda: 7 * 2**50)
    monkeypatch.setattr(device, "peak_footprint", lambda: 8 * 2**50)
    assert (device.held_memory(), device.peak_memory()) == (7 * 2**50, 8 * 2**50)


def test_the_memory_of_cuda_is_the_cards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HUB_ASSUMED_DEVICE", "cuda")
    monkeypatch.setattr(device, "footprint", lambda: 7 * 2**50)
    assert device.held_memory() < 2**50


def fail(*streams: object) -> None:
    """As Metal tells of a buffer that failed some calls ago."""
    raise RuntimeError(OUT_OF_MEMORY)


@pytest.mark.parametrize("made", ["gguf", "quantized", "fused", "exported"])
def test_nothing_is_sealed_whose_work_failed(
    tiny_base: Path,
    adapters: tuple[Path, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    made: str,
) -> None:
    import mlx.core as mx

    backend, target = MLXBackend(), tmp_path / "made"
    source = make_gguf(tmp_path / "m.gguf", metadata(), tensors())
    make = {
        "gguf": lambda: backend.import_gguf(source, target),
        "quantized": lambda: backend.quantize(tiny_base, target, 4, 32),
        "fused": lambda: backend.fuse(tiny_base, adapters[0], target),
        "exported": lambda: backend.export_gguf(tiny_base, target),
    }
    monkeypatch.setattr(mx, "synchronize", fail)
    with pytest.raises(OutOfMemory, match="unload others"):
        make[made]()
