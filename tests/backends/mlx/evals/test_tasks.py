"""lm-eval's failures in a person's words; the package itself is asked in with_hub/test_lm_eval.py."""

from __future__ import annotations

import sys
import types
from pathlib import Path

import pytest

from backends.base import BackendError
from backends.mlx import MLXBackend
from backends.mlx.evals import tasks
from backends.mlx.evals.tasks import Ticking, reason

pytestmark = pytest.mark.any_database


@pytest.mark.parametrize(
    ("error", "expected"),
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
def test_a_failure_is_one_sentence(error: Exception, expected: str) -> None:
    sentence = reason(["arc"], error)
    assert expected in sentence
    assert "arc" in sentence
    assert "\n" not in sentence


def test_without_the_package_it_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "lm_eval", None)
    with pytest.raises(BackendError, match="cannot be imported"):
        MLXBackend().run_lm_eval(tmp_path, None, ["arc_easy"], 1, lambda: None)


def test_the_model_ticks_at_every_step_wherever_it_is_used(tiny_base: Path) -> None:
    """As lm-eval's adapter uses it: forward passes with a cache, and mlx-lm's generation."""
    import mlx.core as mx
    from mlx_lm import batch_generate, load
    from mlx_lm.models.cache import make_prompt_cache

    ticks: list[int] = []
    model, tokenizer = load(str(tiny_base))[:2]
    ticking = Ticking(model, lambda: ticks.append(1))
    tokens = mx.array([[1, 2, 3]])
    assert mx.array_equal(ticking(tokens, cache=make_prompt_cache(ticking)), model(tokens))
    assert len(ticks) == 1
    batch_generate(ticking, tokenizer, [[1, 2, 3], [4, 5]], max_tokens=4)
    assert len(ticks) >= 5


@pytest.mark.parametrize("git", [True, False])
def test_lm_eval_asks_git_only_where_it_is(git: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """For its results' header; on a Mac without Apple's tools git would open a dialog."""
    package, evaluator, adapter = (
        types.ModuleType(name) for name in ("lm_eval", "lm_eval.evaluator", "mlx_lm.evaluate")
    )
    asked: list[str] = []
    evaluator.get_git_commit_hash = lambda: asked.append("git")
    package.evaluator = evaluator
    package.simple_evaluate = lambda **_: evaluator.get_git_commit_hash() or {"results": {}}
    adapter.MLXLM = type("MLXLM", (object,), {})
    for module in (package, evaluator, adapter):
        monkeypatch.setitem(sys.modules, module.__name__, module)
    tokenizer = types.SimpleNamespace(chat_template=None)
    monkeypatch.setattr(tasks, "open_model", lambda *_, **__: (None, tokenizer, None))
    monkeypatch.setattr(tasks, "has_git", lambda: git)
    assert tasks.run_lm_eval(Path(), None, ["arc"], 1, lambda: None) == {}
    assert asked == (["git"] if git else [])


def test_what_a_tick_raises_ends_the_run_as_it_is() -> None:
    def stop() -> None:
        raise ValueError("enough")

    ticking = Ticking(lambda tokens: tokens, stop)
    with pytest.raises(ValueError, match="enough") as caught:
        ticking(0)
    assert ticking.raised is caught.value
