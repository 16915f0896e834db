"""lm-eval (EleutherAI's evaluation harness), an optional package: is it installed, and what are
its results."""

from __future__ import annotations

import importlib.util
import math
import re
from collections.abc import Mapping
from typing import Any

_NO_FIGURE = ("sample_len", "sample_count")


def installed() -> bool:
    """Whether the package `lm_eval` can be imported; finding is not importing."""
    return importlib.util.find_spec("lm_eval") is not None


def parse_results(results: Mapping[str, Any]) -> dict[str, dict[str, float]]:
    """Figures by task from `simple_evaluate`'s answer: `acc,none` becomes `acc`, a filter other
    than none stays in the name (`exact_match_strict_match`). Standard errors,
    counts and texts are left out."""
    found: dict[str, dict[str, float]] = {}
    for task, figures in results["results"].items():
        kept = {}
        for name, value in figures.items():
            metric, _, rule = name.partition(",")
            if metric.endswith("_stderr") or metric in _NO_FIGURE or isinstance(value, bool):
                continue
            if isinstance(value, int | float) and math.isfinite(value):
                plain = metric if rule in ("", "none") else f"{metric}_{rule}"
                kept[re.sub(r"\W", "_", plain)] = float(value)
        if kept:
            found[task] = kept
    return found
