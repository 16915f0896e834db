"""The template check of the fake, whose two sides agree unless a test makes them differ."""

from __future__ import annotations

import json
from pathlib import Path

from backends.base import TemplateMismatch, Thoughts
from backends.fake.chat import encode
from backends.scorers import NoAnswer, question


def check_template(data: Path, sample: int, thoughts: Thoughts, behaviour: str) -> None:
    """See `backends.base.Backend.check_template`. `behaviour` "differs" serves a prompt other
    than the trained one, "loops" never returns."""
    for split in ("train", "valid", "test"):
        path = data / f"{split}.jsonl"
        lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
        for number, line in enumerate(lines[:sample], start=1):
            while behaviour == "loops":
                pass
            try:
                asked = question(json.loads(line), thoughts)
            except NoAnswer:
                continue
            trained = encode(asked.messages, asked.tools)
            served = [*trained, 0] if behaviour == "differs" else trained
            if trained != served:
                raise TemplateMismatch(
                    f"{split}.jsonl, line {number}: the endpoint would ask with {len(served)} "
                    f"tokens, training with {len(trained)}."
                )
