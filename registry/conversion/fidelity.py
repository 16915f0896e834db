"""The certificate that a converted model still behaves like the original."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from django.utils import timezone

from backends.base import Fidelity
from registry.bases.child import ask_backend
from registry.datasets import snapshots
from registry.errors import Invalid
from registry.models import Dataset


@dataclass(frozen=True)
class Limits:
    """What a conversion must show to be kept, and on how much text it is judged."""

    most_kl: float = 0.1  # nats per token
    least_top1: float = 0.9
    most_tokens: int = 512


LIMITS = Limits()


def certify(
    base: Path,
    adapter: Path | None,
    converted: Path,
    dataset: Dataset,
    limits: Limits = LIMITS,
    beat: Callable[[], None] = lambda: None,
) -> dict[str, Any]:
    """Compare on the data set's held-out rows. Raises Invalid with the figures when it
    differs too much."""
    split = held_out_split(dataset)
    rows = snapshots.dataset_path(dataset) / f"{split}.jsonl"
    found = ask_backend(
        Fidelity, "fidelity", base, adapter, converted, rows, limits.most_tokens, beat=beat
    )
    if not (found.kl <= limits.most_kl and found.top1 >= limits.least_top1):
        raise Invalid(
            f"The converted model differs too much, so nothing was kept: KL {found.kl:.4f} (at most "
            f"{limits.most_kl:g}), same first token {found.top1:.1%} (at least "
            f"{limits.least_top1:.1%}), perplexity {found.perplexity:.3f} → "
            f"{found.converted_perplexity:.3f} over {found.tokens} tokens of {dataset.name}'s "
            f"{split} split."
        )
    return {
        **dataclasses.asdict(found),
        "most_kl": limits.most_kl,
        "least_top1": limits.least_top1,
        "dataset": dataset.name,
        "dataset_checksum": dataset.checksum,
        "split": split,
        "made_at": timezone.now().isoformat(timespec="seconds"),
    }


def held_out_split(dataset: Dataset) -> str:
    """The split that was not trained on: test, else valid. Raises Invalid."""
    for split in ("test", "valid"):
        if dataset.splits.get(split):
            return split
    raise Invalid(f"{dataset.name} has no test or valid split to compare on.")
