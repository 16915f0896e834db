"""Whether training a version again gave the same weights, and what could explain that it did not.

It compares files and lineages; it trains nothing.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from django.conf import settings
from django.utils import timezone

from backends import get_backend
from backends.base import as_recorded
from registry.models import ModelVersion
from registry.storage import artifacts, paths
from registry.versions.comparison import flatten
from registry.versions.lineage import Lineage

type Verdict = Literal["bit-exact", "close", "diverged"]

WEIGHTS = "adapters.safetensors"
TOLERANCE = 0.01
_METRICS = ("train_loss", "val_loss", "test_loss", "perplexity")


@dataclass(frozen=True)
class Cause:
    """One thing that was different when the version was made."""

    what: str
    recorded: str
    now: str


def compare(
    version: ModelVersion, reproduced: Path, reach: float, metrics: Mapping[str, float]
) -> dict[str, Any]:
    """The verdict on the weights in the folder `reproduced`, as `ModelVersion.reproduction` keeps it.

    `reach` is how far training could move a weight at most: learning rate × steps. A tensor is
    close when it is apart by no more than TOLERANCE of that, and of its own largest weight: less
    than rounding may add up to, and far less than other data or another seed would make.
    """
    own, other = paths.absolute(version.artifact_path) / WEIGHTS, reproduced / WEIGHTS
    digests = artifacts.sha256(own), artifacts.sha256(other)
    apart: dict[str, float | None] = {}
    verdict: Verdict = "bit-exact"
    if digests[0] != digests[1]:
        backend = get_backend(settings.BACKEND)
        differences = backend.compare_weights(own, other)
        largest = backend.largest_weights(own)
        limits = {name: TOLERANCE * min(reach, largest.get(name, 0.0)) for name in differences}
        close = all(difference <= limits[name] for name, difference in differences.items())
        verdict = "close" if close else "diverged"
        apart = {n: d if math.isfinite(d) else None for n, d in differences.items()}
    return {
        "verdict": verdict,
        "sha256": {"recorded": digests[0], "reproduced": digests[1]},
        "largest_difference": max((d for d in apart.values() if d is not None), default=0.0),
        "differences": apart,  # None: only one has the tensor, or its shape differs
        "threshold": {"tolerance": TOLERANCE, "reach": reach},
        "metrics": {
            name: {"recorded": version.metrics.get(name), "reproduced": metrics.get(name)}
            for name in _METRICS
            if name in version.metrics or name in metrics
        },
        "at": timezone.now().isoformat(),
    }


def explain(version: ModelVersion, now: Lineage, params: Mapping[str, Any]) -> dict[str, Any]:
    """`differs`: what is other than recorded; `unknown`: what was never recorded. `params` are the
    settings that the version was trained with again, whole."""
    return {
        "differs": [vars(cause) for cause in _differs(version, now)],
        "unknown": list(_unknown(version, params)),
    }


def _differs(version: ModelVersion, now: Lineage) -> Iterator[Cause]:
    if version.git_commit and now.git_commit != version.git_commit:
        yield Cause("the hub's commit", version.git_commit[:12], now.git_commit[:12] or "unknown")
    elif version.git_dirty is not None and (
        bool(version.git_dirty) != bool(now.git_dirty) or version.git_diff != now.git_diff
    ):
        yield Cause("uncommitted changes", _dirt(version.git_dirty), _dirt(now.git_dirty))
    for kind, recorded, present in (
        ("package ", version.packages, now.packages),
        ("hardware: ", version.hardware, now.hardware),
    ):
        for name in sorted(recorded.keys() | present.keys()) if recorded else ():
            if recorded.get(name) != present.get(name):
                yield Cause(kind + name, _said(recorded.get(name)), _said(present.get(name)))


def _dirt(dirty: bool | None) -> str:
    return "unknown" if dirty is None else "some" if dirty else "none"


def _said(value: Any) -> str:
    return "absent" if value is None else str(value)


def _unknown(version: ModelVersion, params: Mapping[str, Any]) -> Iterator[str]:
    facts = {
        "the hub's commit": version.git_commit,
        "package versions": version.packages,
        "hardware": version.hardware,
        "the data set's checksum": version.dataset_checksum,
        "the base model's checksum": version.base_checksum,
    }
    yield from (what for what, value in facts.items() if not value)
    if version.git_commit and version.git_dirty is None:
        yield "whether the hub's code had uncommitted changes"
    recorded = flatten(as_recorded(version.params))
    if missing := sorted(flatten(dict(params)).keys() - recorded.keys() - _CHANGE_NO_WEIGHT):
        yield f"settings that took today's defaults: {', '.join(missing)}"


_CHANGE_NO_WEIGHT = {
    "scoring.scorer",
    "scoring.examples",
    "scoring.max_tokens",
    "scoring.lm_eval",
    "samples",
    "sample_tokens",
    "keep_checkpoints",
    "save_every",
}


def record(version: ModelVersion, found: dict[str, Any]) -> None:
    """Keep the newest reproduction of a version."""
    ModelVersion.objects.filter(pk=version.pk).update(reproduction=found)
    version.reproduction = found
