"""How the folder of an embedding model says that its vectors are made, in sentence-transformers' files.

`modules.json` names what follows the encoder, `1_Pooling/config.json` which of its states become the
vector, `config_sentence_transformers.json` the texts to put before others, and
`sentence_bert_config.json` how many tokens it reads.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple

from backends.base.errors import UnsupportedModel

Pooling = Literal["mean", "cls", "last", "score"]
RERANKS: Pooling = "score"
"""Of a reranker: one number for two texts, by a head of its own."""
POOLINGS: dict[Pooling, str] = {
    "mean": "the mean of the last hidden states",
    "cls": "the last hidden state of the first token",
    "last": "the last hidden state of the last token",
    "score": "a score of two texts, for reranking only",
}
ENCODERS = frozenset({"bert", "roberta", "xlm-roberta"})
"""Architectures that read a text in both directions, and so can do nothing but embed it, or rank it
beside another."""

_MODES: dict[str, Pooling] = {
    "pooling_mode_cls_token": "cls",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_lasttoken": "last",
}
_NAMED: dict[str, Pooling] = {"cls": "cls", "mean": "mean", "lasttoken": "last"}
_FOLDER = re.compile(r"\d+_[A-Za-z]+")
_LONGEST = 1 << 20  # bytes of one of these files


@dataclass(frozen=True)
class Question:
    """What texts are ranked by. `instruction` says of what kind they should be, for models that were
    trained to read one."""

    query: str
    instruction: str = ""


class Pair(NamedTuple):
    """A query and a text as a reranker reads them; `second` is where the text begins."""

    tokens: list[int]
    second: int


@dataclass(frozen=True)
class Embedder:
    """What becomes of a text's states, and of the text before it is read. `most_tokens` is None where
    only the architecture limits it; `default` is the name of the prompt that is always used."""

    pooling: Pooling = "mean"
    normalized: bool = True
    prompts: Mapping[str, str] = field(default_factory=dict)
    default: str = ""
    most_tokens: int | None = None

    @classmethod
    def of(cls, folder: Path, architecture: str) -> Embedder | None:
        """None for a model that is no embedding model. Raises UnsupportedModel for steps that cannot be
        computed."""
        longest = _optional(folder / "sentence_bert_config.json").get("max_seq_length")
        most = longest if isinstance(longest, int) and longest > 0 else None
        if architecture in ENCODERS and scores(_optional(folder / "config.json")):
            return cls(RERANKS, normalized=False, most_tokens=most)
        listed = folder / "modules.json"
        if not listed.is_file():
            return cls() if architecture in ENCODERS else None
        modules = _read(listed, list)
        kinds = [str(module.get("type", "")).rpartition(".")[2] for module in modules]
        if kinds[:1] != ["Transformer"] or set(kinds[1:]) - {"Pooling", "Normalize"}:
            raise UnsupportedModel(
                f"{folder.name} makes its vectors in steps that the hub does not compute "
                f"({', '.join(kinds)}); choose an embedding model with Transformer, Pooling and Normalize."
            )
        told = _optional(folder / "config_sentence_transformers.json")
        prompts = told.get("prompts") or {}
        return cls(
            pooling=_pooling(folder, modules),
            normalized="Normalize" in kinds,
            prompts={str(k): v for k, v in prompts.items() if isinstance(v, str)},
            default=str(told.get("default_prompt_name") or ""),
            most_tokens=most,
        )

    def prompted(self, text: str, name: str | None = None) -> str:
        """The text after the prompt `name`, by default the one that is always used. Raises KeyError."""
        chosen = self.default if name is None else name
        return (self.prompts[chosen] if chosen else "") + text


def scores(config: Mapping[str, Any]) -> bool:
    """Whether its head says one number of a text, as those of rerankers do."""
    heads, names = config.get("architectures"), config.get("id2label")
    labels = config.get("num_labels") or (len(names) if isinstance(names, dict) else 2)
    if labels != 1 or not isinstance(heads, list):
        return False
    return any(str(head).endswith("ForSequenceClassification") for head in heads)


def _pooling(folder: Path, modules: list[Any]) -> Pooling:
    paths = [str(module.get("path", "")) for module in modules if "Pooling" in str(module)]
    if len(paths) != 1 or not _FOLDER.fullmatch(paths[0]):
        raise UnsupportedModel(f"modules.json in {folder.name} does not name one Pooling step.")
    config = _read(folder / paths[0] / "config.json", dict)
    named = config.get("pooling_mode")
    modes: list[Pooling | None] = [_NAMED.get(str(named))] if named else []
    modes += [
        _MODES.get(key) for key, on in config.items() if on is True and key.startswith("pool")
    ]
    if len(modes) != 1 or modes[0] is None:
        raise UnsupportedModel(
            f"{folder.name} pools in a way that the hub does not compute; it knows cls, mean and lasttoken."
        )
    if config.get("include_prompt") is False:
        raise UnsupportedModel(
            f"{folder.name} leaves its prompts out of its vectors (include_prompt), which the hub does not."
        )
    return modes[0]


def _optional(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = _read(path, dict) if path.is_file() else {}
    return found


def _read[Kind: (list[Any], dict[str, Any])](path: Path, kind: type[Kind]) -> Kind:
    try:
        if path.stat().st_size > _LONGEST:
            raise ValueError("it is too long")
        found = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        found = None
    one = found if isinstance(found, kind) else None
    if one is None or (kind is list and not all(isinstance(part, dict) for part in one)):
        name = path.relative_to(path.parents[1])
        raise UnsupportedModel(f"{name} is missing, or not the JSON that it should be.")
    return one
