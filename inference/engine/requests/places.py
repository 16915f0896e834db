"""Where a request's files are, and which model in memory they belong to."""

from __future__ import annotations

import filecmp
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Place:
    """A base folder and an adapter. Versions whose adapter is a LoRA share the base's memory;
    DoRA and full fine-tunes change more than can be shared and load as models of their own."""

    base: Path
    adapter: Path | None = None
    own: bool = False
    identity: str = ""  # of the base's bytes: a name can be given to other files later

    @property
    def key(self) -> tuple[Path, Path | None]:
        """What distinguishes this model in memory from the others."""
        return self.base, self.adapter if self.own else None

    @property
    def shared_adapter(self) -> Path | None:
        """The adapter to add to the base in memory, if there is one."""
        return None if self.own else self.adapter

    @property
    def name(self) -> str:
        """For logs and statistics: the base's folder, with the version's if it is its own."""
        if not self.own or self.adapter is None:
            return self.base.name
        return f"{self.base.name}+{self.adapter.parent.name}@{self.adapter.name}"

    @property
    def weights_bytes(self) -> int:
        """What the files take; memory takes about as much."""
        folders = [self.base, *([self.adapter] if self.own and self.adapter else [])]
        return sum(f.stat().st_size for folder in folders for f in folder.glob("*.safetensors"))


def place(base: Path, adapter: Path | None, identity: str = "") -> Place:
    """Reads what kind of adapter it is."""
    kind = _json(adapter / "adapter_config.json").get("fine_tune_type") if adapter else None
    return Place(base, adapter, kind in ("dora", "full"), identity)


def same_tokenizer(one: Path, other: Path) -> bool:
    """Whether both folders read text as the same tokens."""
    files = one / "tokenizer.json", other / "tokenizer.json"
    return all(file.is_file() for file in files) and filecmp.cmp(*files, shallow=False)


def _json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}
