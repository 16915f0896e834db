"""The demo's first steps as on a Mac: the bundled model in bfloat16, what a job on it needs, and an
answer."""

from __future__ import annotations

from typing import Any

import pytest

from backends import get_backend
from backends.base import Sampling, TrainingConfig
from registry.bases import registration
from registry.datasets.snapshots import register_starter_dataset
from tests.backends.rows import Row, run
from training.memory.measured import Estimator

pytestmark = [pytest.mark.any_database, pytest.mark.django_db]


@pytest.mark.slow
def test_the_bundled_model_answers_in_16_bits(
    settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.BACKEND = "mlx"
    monkeypatch.setenv("HUB_ASSUMED_DEVICE", "metal")
    base = registration.register_starter()
    assert base.quantization == "bfloat16"
    assert base.size_bytes < 280e6
    needed = Estimator(base, register_starter_dataset())(TrainingConfig())
    assert needed.family.split("/")[2] == "mlx-metal"
    model = get_backend("mlx").load(registration.base_path(base))
    question = "What is the capital of France?"
    answer = run(model, Row(question=question, sampling=Sampling(max_tokens=8)))[0]
    model.close()
    assert "Paris" in answer.text
