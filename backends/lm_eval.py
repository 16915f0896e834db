"""Tasks of lm-eval (EleutherAI's evaluation harness), which is no dependency: is it here, and what
did it say."""

from __future__ import annotations

import importlib.util
import math
import re
from collections.abc import Mapping
from typing import Any


def installed() -> bool:
    """Whether the package `lm_eval` can be imported; finding is not importing."""
    return importlib.util.find_spec("lm_eval") is not None


def parse_results(results: Mapping[str, Any]) -> dict[str, dict[str, float]]:
    """Figures by task from `simple_evaluate`'s answer: `acc,none` becomes `acc`, another filter than
    none stays in the name (`exact_match_strict_match`). Standard errors and texts are left out."""
    found: dict[str, dict[str, float]] = {}
    for task, figures in results["results"].items():
        kept = {}
        for name, value in figures.items():
            metric, _, rule = name.partition(",")
            if metric.endswith("_stderr") or isinstance(value, bool):
                continue
            if isinstance(value, int | float) and math.isfinite(value):
                plain = metric if rule in ("", "none") else f"{metric}_{rule}"
                kept[re.sub(r"\W", "_", plain)] = float(value)
        if kept:
            found[task] = kept
    return found
