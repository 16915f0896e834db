"""MLX's fused kernels are compiled with a header that was compiled before."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from backends.mlx import header
from tests.running import wait_until

pytestmark = pytest.mark.skipif(
    sys.platform != "linux" or shutil.which("g++") is None, reason="MLX needs g++ on Linux only"
)


def test_a_kernel_is_compiled_with_the_compiled_header(tmp_path: Path) -> None:
    import mlx.core as mx

    x = mx.zeros(3)
    mx.eval(mx.compile(lambda x: mx.exp(x) * 2 + 1)(x))  # so that there is a kernel
    header.precompile()
    wait_until(header.compiled().exists, 120)
    kernel = next(header.kernels().glob("*.cpp"))
    command = ["g++", *header.FLAGS.split(), "-fsyntax-only", "-H", str(kernel)]
    read = subprocess.run(command, capture_output=True, text=True, check=False).stderr
    assert f"! {header.compiled()}" in read  # "!": used; "x": found and not of use


def test_mlx_has_the_flags_that_the_header_is_compiled_with() -> None:
    import mlx.core as mx

    [library] = Path(mx.__file__).parent.glob("lib/libmlx.so")
    assert f"g++ {header.FLAGS} -shared ".encode() in library.read_bytes()


def test_one_process_compiles_it_and_a_killed_one_is_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[list[str]] = []
    monkeypatch.setattr(header.tempfile, "gettempdir", lambda: str(tmp_path))
    monkeypatch.setattr(header, "_run", started.append)
    for count in (1, 1):
        header.precompile()
        wait_until(lambda count=count: len(started) == count, 10)
    part = header.compiled().with_suffix(".part")
    hour_ago = time.time() - 3600
    os.utime(part, (hour_ago, hour_ago))
    header.precompile()
    wait_until(lambda: len(started) == 2, 10)
    header.compiled().touch()
    part.unlink()
    header.precompile()
    assert not part.exists()
