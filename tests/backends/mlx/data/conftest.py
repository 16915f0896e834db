"""A tokenizer with any chat template."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from tests.backends.mlx.data.templates import LLAMA3, MARKS


@pytest.fixture(scope="session")
def load(
    tiny_base: Path, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str | None, str], Any]:
    """A tokenizer with a template (None: without any) whose answers end with a token; the same one each
    time."""

    @cache
    def loaded(template: str | None, end: str = "<|im_end|>") -> Any:
        from mlx_lm.utils import load_tokenizer

        folder = shutil.copytree(tiny_base, tmp_path_factory.mktemp("template") / "base")
        path = folder / "tokenizer_config.json"
        config = {**json.loads(path.read_text()), "chat_template": template}
        if template is None:
            del config["chat_template"]
            (folder / "chat_template.jinja").unlink(missing_ok=True)
        path.write_text(json.dumps(config))
        tokenizer: Any = load_tokenizer(folder)
        tokenizer._tokenizer.add_special_tokens({"additional_special_tokens": list(MARKS)})
        tokenizer.add_eos_token(end)
        if template == LLAMA3:
            _split_as_llama3(tokenizer._tokenizer.backend_tokenizer)
        return tokenizer

    return loaded


def _split_as_llama3(backend: Any) -> None:
    """Llama 3 keeps line ends together, which the tiny model's own rule divides before a word."""
    from tokenizers import Regex, pre_tokenizers

    words = (
        r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
        r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
    )
    backend.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(words), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
