"""The texts of a request that continues or embeds some: as texts, or as numbers of tokens."""

from __future__ import annotations

import functools
import importlib.util
from collections.abc import Sequence
from typing import Any

from inference.v1.compatibility import Unsupported

MOST_CHARACTERS = 1_000_000
MOST_TOKENS = 262_144
Texts = list[str] | list[list[int]]
_NOT_READ = (
    "The numbers of tokens that embedding clients send are OpenAI's own (cl100k_base), not this "
    "model's; send texts (in LangChain: OpenAIEmbeddings(check_embedding_ctx_length=False))"
)


def several(value: Any, most: int, *, empty: bool = False) -> Texts:
    """A text, several, the tokens of one or the tokens of several, always as a list; with `empty` a
    text may have no character. Raises ValueError, which names the first that is wrong."""
    if isinstance(value, str) or (isinstance(value, list) and value and _is_number(value[0])):
        return _checked([value], [""], empty)
    if not isinstance(value, list):
        raise ValueError(
            f"{_kind(value)} came where a text, a list of texts or a list of tokens is needed"
        )
    if not value:
        raise ValueError("the list is empty; send at least one text")
    if len(value) > most:
        raise ValueError(f"{len(value)} texts came, and a request may have {most}; send several")
    return _checked(value, [f"text {n} of {len(value)}: " for n in range(1, 1 + len(value))], empty)


def _checked(texts: list[Any], names: Sequence[str], empty: bool) -> Texts:
    kind = type(texts[0])
    for text, name in zip(texts, names, strict=True):
        if not isinstance(text, str | list):
            raise ValueError(f"{name}{_kind(text)} came where a text or a list of tokens is needed")
        if not isinstance(text, kind):
            raise ValueError(f"{name}texts and lists of tokens cannot be mixed")
        if not text and not empty:
            raise ValueError(f"{name}it is empty; send at least one character or token")
        most, unit = (
            (MOST_CHARACTERS, "characters") if isinstance(text, str) else (MOST_TOKENS, "tokens")
        )
        if len(text) > most:
            raise ValueError(f"{name}it has {len(text)} {unit}, and {most} are allowed")
        if isinstance(text, list):
            wrong = next((one for one in text if not _is_number(one) or one < 0), None)
            if wrong is not None:
                raise ValueError(
                    f"{name}a list of tokens has whole numbers from 0 on; {_kind(wrong)} came"
                )
    return texts


def _is_number(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _kind(value: Any) -> str:
    """What came, in a person's words."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, int | float):
        return f"the number {value}"
    if isinstance(value, str):
        return "a text"
    return "a list" if isinstance(value, list) else "an object"


def embedded(texts: Texts) -> list[str]:
    """The texts to embed. Tokens are OpenAI's, which every client uses that sends them: LangChain
    cuts long texts with them. Raises Unsupported where they cannot be read."""
    if all(isinstance(text, str) for text in texts):
        return [str(text) for text in texts]
    decode = _cl100k()
    try:
        return [decode(text) for text in texts]
    except (KeyError, ValueError, OverflowError) as error:
        raise Unsupported("input", f"{_NOT_READ}: one of them is no token of OpenAI's.") from error


@functools.cache
def _cl100k() -> Any:
    """Text of tokens of OpenAI's embedding models, by the optional package tiktoken, which downloads
    its table once. Raises Unsupported."""
    if importlib.util.find_spec("tiktoken") is None:
        raise Unsupported(
            "input", f"{_NOT_READ}, or install tiktoken beside the hub (uv pip install tiktoken)."
        )
    import tiktoken

    try:
        return tiktoken.get_encoding("cl100k_base").decode
    except Exception as error:  # whatever its download raises
        raise Unsupported(
            "input",
            f"{_NOT_READ}; tiktoken could not load its table ({type(error).__name__}).",
        ) from error
