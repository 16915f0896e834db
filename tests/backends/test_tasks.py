"""lm-eval's failures in a person's words; the package itself is not installed here."""

from __future__ import annotations

from pathlib import Path

import pytest

from backends import lm_eval
from backends.base import BackendError
from backends.mlx import MLXBackend
from backends.mlx.tasks import reason

pytestmark = pytest.mark.any_database


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (ConnectionError("Couldn't reach 'allenai/ai2_arc' on the Hub"), "could not be downloaded"),
        (OSError("Max retries exceeded with url: /api/datasets"), "could not be downloaded"),
        (
            KeyError("Spec 'arc' is not a registered task/group/tag name or valid YAML path"),
            "`lm_eval ls tasks` lists",
        ),
        (ValueError("bad split\nand a long story"), "ValueError: bad split"),
    ],
)
def test_a_failure_is_one_sentence(error: Exception, told: str) -> None:
    sentence = reason(["arc"], error)
    assert told in sentence
    assert "arc" in sentence
    assert "\n" not in sentence


@pytest.mark.skipif(lm_eval.installed(), reason="lm-eval is installed")
def test_without_the_package_it_says_so(tmp_path: Path) -> None:
    with pytest.raises(BackendError, match="cannot be imported"):
        MLXBackend().run_lm_eval(tmp_path, None, ["arc_easy"], 1)
