"""lm-eval's tasks on a loaded model, through mlx-lm's own adapter to that package."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from backends.base import BackendError
from backends.lm_eval import parse_results
from backends.mac.programs import has_git
from backends.mlx.files.loading import open_model

_BATCH = 8
_OFFLINE = (
    "connect",
    "couldn't reach",
    "offline",
    "resolve",
    "max retries",
    "not found on the hub",
)


def run_lm_eval(
    base: Path,
    adapter: Path | None,
    tasks: Sequence[str],
    limit: int,
    tick: Callable[[], None],
) -> dict[str, dict[str, float]]:
    """See `backends.base.Backend.run_lm_eval`."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    try:
        import lm_eval
        from lm_eval import evaluator
        from mlx_lm.evaluate import MLXLM
    except ImportError as error:
        raise BackendError(f"lm-eval cannot be imported: {error}.") from error
    if not has_git():  # on a Mac without Apple's tools it would open a dialog
        evaluator.get_git_commit_hash = lambda: None
    model, tokenizer, _ = open_model(base, adapter, lazy=True)
    ticking = Ticking(model, tick)

    class Loaded(MLXLM):
        """Its own constructor loads a model by path, without adapters."""

        def __init__(self) -> None:
            super(MLXLM, self).__init__()
            self._model, self.tokenizer = ticking, tokenizer
            self._max_tokens, self._batch_size, self._sampler = None, _BATCH, None
            self.use_chat_template = tokenizer.chat_template is not None

    try:
        results: Any = lm_eval.simple_evaluate(
            model=Loaded(), tasks=list(tasks), limit=limit, bootstrap_iters=0
        )
    except Exception as error:  # it lets every error of its data loader through
        if error is ticking.raised:
            raise
        raise BackendError(reason(tasks, error)) from error
    return parse_results(results)


class Ticking:
    """A model that calls `tick` before each forward pass, whatever calls it."""

    def __init__(self, model: Any, tick: Callable[[], None]) -> None:
        self._model, self._tick = model, tick
        self.raised: Exception | None = None

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        try:
            self._tick()
        except Exception as error:
            self.raised = error
            raise
        return self._model(*args, **kwargs)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._model, name)


def reason(tasks: Sequence[str], error: Exception) -> str:
    """Why lm-eval failed, in one sentence."""
    named, text = ", ".join(map(str, tasks)), f"{type(error).__name__}: {error}"
    if isinstance(error, KeyError) and "registered" in text:
        return f"lm-eval does not know all of the tasks {named}; `lm_eval ls tasks` lists them."
    if isinstance(error, ConnectionError) or any(word in text.lower() for word in _OFFLINE):
        return (
            f"The data of lm-eval's tasks ({named}) could not be downloaded; connect this machine "
            "to the internet once; they are cached."
        )
    return f"lm-eval failed at {named}: {text.splitlines()[0][:300]}"
