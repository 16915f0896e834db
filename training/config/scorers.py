"""Whether a job's result can be scored on this machine the way it asks for."""

from __future__ import annotations

from backends import lm_eval
from backends.base import ScoringConfig
from registry.errors import Invalid


def check(config: ScoringConfig) -> None:
    """Raises Invalid when a job that wants this could not be scored on this machine."""
    if config.lm_eval and not lm_eval.installed():
        raise Invalid(
            f"The tasks {', '.join(config.lm_eval)} need the package lm-eval: run "
            "`uv pip install lm-eval` in the hub's folder, or queue the job without them."
        )
