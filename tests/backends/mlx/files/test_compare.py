"""How far two files of weights lie apart, asked of both backends."""

from __future__ import annotations

import math
from array import array
from pathlib import Path

import pytest

from backends import get_backend
from backends.fake.files import Tensor, write_safetensors

pytestmark = pytest.mark.any_database


def write(path: Path, **tensors: list[float]) -> Path:
    write_safetensors(path, {n: Tensor((len(v),), array("f", v)) for n, v in tensors.items()})
    return path


@pytest.mark.parametrize("backend", ["fake", "mlx"])
def test_the_largest_difference_of_each_tensor_is_named(tmp_path: Path, backend: str) -> None:
    one = write(tmp_path / "one.safetensors", same=[1, 2], moved=[0, 0.5], gone=[1], cut=[1, 2])
    other = write(tmp_path / "other.safetensors", same=[1, 2], moved=[0.25, 0], new=[1], cut=[1])
    assert get_backend(backend).compare_weights(one, other) == {
        "cut": math.inf,
        "gone": math.inf,
        "moved": 0.5,
        "new": math.inf,
        "same": 0.0,
    }
