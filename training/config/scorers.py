"""Whether this machine can score a job's result as configured."""

from __future__ import annotations

from backends import lm_eval
from backends.base import ScoringConfig
from registry.errors import Invalid


def check(config: ScoringConfig) -> None:
    """Raises Invalid when this machine cannot score a job with this configuration."""
    if config.lm_eval and not lm_eval.installed():
        raise Invalid(
            f"The tasks {', '.join(config.lm_eval)} need the package lm-eval. Run "
            "`uv pip install lm-eval` in the hub's folder, or queue the job without these tasks."
        )
