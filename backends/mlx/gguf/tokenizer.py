"""Build a `tokenizer.json` folder from the vocabulary and merges that a GGUF file carries.

Only byte-level BPE (`tokenizer.ggml.model` "gpt2") is supported. How text is split before the
merges apply is not in the file: `tokenizer.ggml.pre` only names it, so the patterns of
llama.cpp's `llm_tokenizer_bpe` are repeated here.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tokenizers import (
    AddedToken,
    Regex,
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
)

from backends.base import UnsupportedModel
from backends.mlx.files.config import whole

_CONTROL, _USER_DEFINED = 3, 4  # values of tokenizer.ggml.token_type

_LLAMA3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}|"
    r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_QWEN2 = _LLAMA3.replace(r"\p{N}{1,3}", r"\p{N}")

_DIGITS = frozenset({"smollm", "starcoder", "refact", "command-r", "codeshell", "exaone"})
_SPLITS = {
    "llama-bpe": _LLAMA3,
    "llama-v3": _LLAMA3,
    "llama3": _LLAMA3,
    "qwen2": _QWEN2,
    "deepseek-r1-qwen": _QWEN2,
}
_PLAIN = frozenset({"default", "gpt-2", "gpt2", "phi-2", "jina-en"})


def write_tokenizer(metadata: dict[str, Any], target: Path) -> None:
    """Write tokenizer.json and tokenizer_config.json (with the chat template) into `target`."""
    model = metadata.get("tokenizer.ggml.model")
    if model != "gpt2":
        raise UnsupportedModel(
            f"The file's tokenizer is of the kind {model!r}; only byte-level BPE ('gpt2') can be "
            "imported."
        )
    tokens = metadata.get("tokenizer.ggml.tokens")
    merges = metadata.get("tokenizer.ggml.merges")
    if not tokens or merges is None:
        raise UnsupportedModel("The file has no tokenizer vocabulary or merges.")
    _check(metadata, tokens, merges)
    _build(metadata, tokens, merges).save(str(target / "tokenizer.json"))
    config = _config(metadata, tokens)
    (target / "tokenizer_config.json").write_text(json.dumps(config, indent=2) + "\n")


def _check(metadata: dict[str, Any], tokens: Any, merges: Any) -> None:
    """Raises UnsupportedModel for what the tokenizer library would take apart with an exception."""
    kinds = metadata.get("tokenizer.ggml.token_type")
    for name, values, kind in (
        ("tokens", tokens, str),
        ("merges", merges, str),
        ("token types", kinds or [], int),
    ):
        if not isinstance(values, list) or not all(isinstance(value, kind) for value in values):
            raise UnsupportedModel(f"The file's tokenizer has {name} that are no list of them.")
    known = set(tokens)
    if len(known) != len(tokens):
        raise UnsupportedModel("The file's tokenizer has the same token twice.")
    for merge in merges:
        left, right = _pair(merge)
        if not {left, right, left + right} <= known:
            raise UnsupportedModel(
                f"The file's tokenizer merges {merge[:40]!r}, which is not in its vocabulary."
            )
    for name, number in special_ids(metadata).items():
        whole(number, f"The file's {name}", least=0, most=len(tokens) - 1)
    if not isinstance(metadata.get("tokenizer.chat_template", ""), str):
        raise UnsupportedModel("The file's tokenizer.chat_template is no text.")


def special_ids(metadata: dict[str, Any]) -> dict[str, int]:
    """The ids of bos, eos and pad that the file names, keyed `bos_token_id` and so on."""
    named = {"bos": "bos", "eos": "eos", "pad": "padding"}
    found = {
        f"{name}_token_id": metadata.get(f"tokenizer.ggml.{key}_token_id")
        for name, key in named.items()
    }
    return {name: value for name, value in found.items() if value is not None}


def _build(metadata: dict[str, Any], tokens: list[str], merges: list[str]) -> Tokenizer:
    pre = str(metadata.get("tokenizer.ggml.pre", "default"))
    tokenizer = Tokenizer(
        models.BPE(
            vocab={token: number for number, token in enumerate(tokens)},
            merges=[_pair(merge) for merge in merges],
            ignore_merges=pre in ("llama-bpe", "llama-v3", "llama3"),
        )
    )
    tokenizer.pre_tokenizer = _pre_tokenizer(pre)
    if pre == "qwen2":
        tokenizer.normalizer = normalizers.NFC()
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = _post_processor(metadata, tokens)
    kinds = metadata.get("tokenizer.ggml.token_type") or []
    for number, kind in enumerate(kinds[: len(tokens)]):
        if kind in (_CONTROL, _USER_DEFINED):
            token = AddedToken(tokens[number], special=kind == _CONTROL, normalized=False)
            tokenizer.add_special_tokens([token]) if token.special else tokenizer.add_tokens(
                [token]
            )
    return tokenizer


def _pair(merge: str) -> tuple[str, str]:
    left, _, right = merge.partition(" ")
    return left, right


def _pre_tokenizer(pre: str) -> pre_tokenizers.PreTokenizer:
    if pre in _PLAIN:
        return pre_tokenizers.ByteLevel(add_prefix_space=False)
    if pre in _DIGITS:
        return pre_tokenizers.Sequence(
            [
                pre_tokenizers.Digits(individual_digits=True),
                pre_tokenizers.ByteLevel(add_prefix_space=False),
            ]
        )
    if pre in _SPLITS:
        return pre_tokenizers.Sequence(
            [
                pre_tokenizers.Split(Regex(_SPLITS[pre]), behavior="isolated"),
                pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
            ]
        )
    raise UnsupportedModel(f"The file's tokenizer splits text by the unknown rule {pre!r}.")


def _post_processor(metadata: dict[str, Any], tokens: list[str]) -> processors.PostProcessor:
    byte_level = processors.ByteLevel(trim_offsets=False)
    bos = special_ids(metadata).get("bos_token_id")
    if not metadata.get("tokenizer.ggml.add_bos_token") or bos is None:
        return byte_level
    template = processors.TemplateProcessing(
        single=f"{tokens[bos]} $A", pair=f"{tokens[bos]} $A $B", special_tokens=[(tokens[bos], bos)]
    )
    return processors.Sequence([byte_level, template])


def _config(metadata: dict[str, Any], tokens: list[str]) -> dict[str, Any]:
    config: dict[str, Any] = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "clean_up_tokenization_spaces": False,
        "model_max_length": context_length(metadata),
    }
    for name, number in special_ids(metadata).items():
        config[name.removesuffix("_id")] = tokens[number]
    if template := metadata.get("tokenizer.chat_template"):
        config["chat_template"] = template
    return config


def context_length(metadata: dict[str, Any]) -> int:
    architecture = metadata.get("general.architecture")
    return int(metadata.get(f"{architecture}.context_length", 2048))


def splitting_rule(path: Path) -> str:
    """llama.cpp's name for how `tokenizer.json` splits text. Raises UnsupportedModel."""
    wanted = _splits_of(json.loads(path.read_text()).get("pre_tokenizer"))
    for name in ("gpt-2", "smollm", "qwen2", "llama-bpe"):
        probe = Tokenizer(models.BPE())
        probe.pre_tokenizer = _pre_tokenizer(name)
        if _splits_of(json.loads(probe.to_str())["pre_tokenizer"]) == wanted:
            return name
    raise UnsupportedModel("The way the tokenizer splits text has no name in GGUF.")


def _splits_of(pre_tokenizer: dict[str, Any] | None) -> Any:
    """What decides the splits: `trim_offsets` only affects how positions are reported."""
    if pre_tokenizer is None:
        return None
    parts = pre_tokenizer.get("pretokenizers", [pre_tokenizer])
    return [{k: v for k, v in part.items() if k != "trim_offsets"} for part in parts]
