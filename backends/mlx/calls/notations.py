"""The notations in which models write calls of tools, as their chat templates do, by mlx-lm's parsers.

What a parser cannot read back is part of a row, too: it is what must not be written.
"""

from __future__ import annotations

import keyword
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

type Parser = Callable[..., Any]

_ANY = re.compile(r"[^\0]+", re.DOTALL)
_IN_TAGS = re.compile(r"[^\s<>\"'&|=]+")
_WORD = re.compile(r"\w+", re.ASCII)
_WORDS = re.compile(r"[\w-]+", re.ASCII)
_IDENTIFIER = rf"(?!(?:{'|'.join(keyword.kwlist)})\b)[^\W\d]\w*"  # Python's


def begun(word: str) -> str:
    """A regular expression of each text with which `word` begins, the empty one too."""
    return "".join(f"(?:{re.escape(sign)}" for sign in word) + ")?" * len(word)


# Of a text that some parsers take for no text, whatever the schema says; and of what may become one.
_NULL = r"\s*(?i:null)\s*", rf"\s*(?i:{begun('null')})\s*"
_WORDS_OF_JSON = ("true", "false", "null", "NaN", "Infinity", "-Infinity")
_JSON = (
    r'\s*(?:[\[{"](?s:.*)|-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?'
    rf"|{'|'.join(_WORDS_OF_JSON)})\s*",
    r'\s*(?:[\[{"](?s:.*)|-?[0-9.eE+-]*' + rf"|{'|'.join(map(begun, _WORDS_OF_JSON))})\s*",
)


@dataclass(frozen=True)
class Text:
    """One way to write a string: `form`, with the string itself for `$text`. It holds none of `never` and
    does not match the first of `unread`, which would be read as something else; whatever does not match
    the second will not. `stripped` of white space at its ends by the parser."""

    form: str = "$text"
    never: tuple[str, ...] = ()
    unread: tuple[str, str] = ("", "")
    stripped: bool = False


@dataclass(frozen=True, eq=False)
class Notation:
    """How calls are written. In its texts `$calls`, `$name`, `$number` and `$id` (of the call), `$with_id`
    (as JSON after its arguments, or nothing), `$json` (all of its arguments), `$pairs`, `$key`, `$type` (of a
    value, in JSON schema's words) and `$value` stand for what they say; a newline or space with `?` may be left
    out.

    Without `texts` a string is written as JSON. Objects and lists are JSON, with their own strings but for
    the marks in `never`, written as the arguments are, or cannot be written.
    """

    call: str
    whole: str = "$calls"
    between: str = ""
    pair: str = ""
    between_pairs: str = ""
    texts: tuple[Text, ...] = ()
    or_json: bool = False  # a string may also be written as JSON
    nested: Literal["json", "alike", "never"] = "json"
    never: tuple[str, ...] = ()
    also: Mapping[str, str] = field(default_factory=dict)  # other spellings of true, false and null
    by_name: bool = False  # pairs are in the order of their keys
    names: re.Pattern[str] = _IN_TAGS
    keys: re.Pattern[str] = _IN_TAGS
    bare: bool = (
        False  # of a call without arguments only the name is left, which its parser may not read
    )


def _in_tags(prefix: str) -> Notation:
    """GLM's: keys and values in tags of their own; 4.5 writes new lines between them, 4.7 does not."""
    marks = f"</{prefix}arg_value>", f"</{prefix}tool_call>"
    return Notation(
        call=f"<{prefix}tool_call>$name\n?$pairs{marks[1]}",
        between="\n?",
        pair=f"<{prefix}arg_key>$key</{prefix}arg_key>\n?<{prefix}arg_value>$value{marks[0]}\n?",
        texts=(Text(never=marks, unread=_NULL, stripped=True),),
        never=marks,
        bare=True,
    )


def _invoked(
    prefix: str, section: str, line: str, unread: tuple[str, str], *, or_json: bool
) -> Notation:
    """MiniMax's, and Muse Spark's: calls in one section, with names as attributes."""
    marks = f"</{prefix}parameter>", f"</{prefix}invoke>", f"</{section}>"
    return Notation(
        whole=f"<{section}>{line}$calls{marks[2]}",
        call=f'<{prefix}invoke name="$name">{line}$pairs{marks[1]}{line}',
        pair=f'<{prefix}parameter name="$key">$value{marks[0]}{line}',
        texts=(Text(never=marks, unread=unread, stripped=True),),
        or_json=or_json,
        never=marks,
    )


_QWEN_MARKS = "</parameter>", "</function>", "</tool_call>"
_MINICPM_MARKS = "</param>", "</function>"
_KIMI_MARKS = "<|close|>", "<|open|>", "<|sep|>"
_BOOLEANS = {"true": "True", "false": "False"}

HERMES = Notation(
    call='<tool_call>\n{"name": "$name", "arguments": $json}\n</tool_call>',
    between="\n",
    names=_ANY,
)
MISTRAL_LIST = Notation(
    whole="[TOOL_CALLS] ?[$calls]",
    call='{"name": "$name", "arguments": $json$with_id}',
    between=", ",
    names=_ANY,
)
MISTRAL_HEADS = Notation(call="[TOOL_CALLS]$name[ARGS]$json", names=_WORDS)
MISTRAL_IDS = Notation(call="[TOOL_CALLS]$name[CALL_ID]$id[ARGS]$json", names=_WORDS)

# By the modules of mlx_lm.tool_parsers; to import them all takes 20 ms.
_NOTATIONS: dict[str, Notation] = {
    "json_tools": HERMES,
    "kimi_k2": Notation(
        whole="<|tool_calls_section_begin|>$calls<|tool_calls_section_end|>",
        call="<|tool_call_begin|>functions.$name:$number"
        "<|tool_call_argument_begin|>$json<|tool_call_end|>",
        names=re.compile(r"[\w.-]+"),
    ),
    "qwen3_coder": Notation(
        call="<tool_call>\n<function=$name>\n$pairs</function>\n</tool_call>",
        between="\n?",
        pair="<parameter=$key>\n$value\n</parameter>\n",
        texts=(Text(never=_QWEN_MARKS, unread=_NULL),),
        never=_QWEN_MARKS,
        also=_BOOLEANS,  # as its first templates have them
    ),
    "glm47": _in_tags(""),  # Laguna's, too
    "longcat": _in_tags("longcat_"),
    "minimax_m2": _invoked("", "minimax:tool_call", "\n", _NULL, or_json=False),
    "muse_spark": _invoked("atem:", "atem:function_calls", "\n?", _JSON, or_json=True),
    "pythonic": Notation(
        whole="<|tool_call_start|>[$calls]<|tool_call_end|>",
        call="$name($pairs)",
        between=", ",
        pair="$key=$value",
        between_pairs=", ",
        texts=(Text("'$text'", never=("'", "\\", "\n", "\r", "<|tool_call_end|>")),),
        or_json=True,
        never=("<|tool_call_end|>",),
        also={**_BOOLEANS, "null": "None"},
        names=re.compile(rf"{_IDENTIFIER}(?:\.{_IDENTIFIER})*", re.ASCII),
        keys=re.compile(_IDENTIFIER, re.ASCII),
    ),
    "gemma4": Notation(
        call="<|tool_call>call:$name{$pairs}<tool_call|>",
        pair="$key:$value",
        between_pairs=",",
        texts=(Text('<|"|>$text<|"|>', never=('<|"|>', "<tool_call|>")),),
        nested="alike",
        by_name=True,
        names=_WORDS,
        keys=_WORD,
    ),
    "function_gemma": Notation(
        call="<start_function_call>call:$name{$pairs}<end_function_call>",
        pair="$key:$value",
        between_pairs=",",
        texts=(Text("<escape>$text<escape>", never=("<escape>", "}", "<end_function_call>")),),
        nested="never",
        by_name=True,
        names=_WORD,
        keys=_WORD,
    ),
    "minicpm5": Notation(
        call='<function name="$name">$pairs</function>',
        between="\n?",
        pair='<param name="$key">$value</param>',
        texts=(
            Text(never=("<", "&", "\n"), unread=_NULL, stripped=True),
            Text("<![CDATA[$text]]>", never=("]]>", *_MINICPM_MARKS), unread=_NULL),
        ),
        also=_BOOLEANS,
        never=_MINICPM_MARKS,
    ),
    "kimi_k3": Notation(
        whole="<|open|>tools<|sep|>$calls<|close|>tools<|sep|>",
        call='<|open|>call tool="$name" index="$number"<|sep|>$pairs<|close|>call<|sep|>',
        pair='<|open|>argument key="$key" type="$type"<|sep|>$value<|close|>argument<|sep|>',
        texts=(Text(never=_KIMI_MARKS),),
        never=_KIMI_MARKS,
    ),
}


def notation_of(tokenizer: Any, parser: Parser) -> Notation | None:
    """That which `parser` reads, as the model's template writes it; None for a parser that is not known."""
    name = str(getattr(parser, "__module__", "")).rpartition(".")[2]
    if name == "mistral":
        template = str(tokenizer.chat_template or "")
        if "[CALL_ID]" in template:
            return MISTRAL_IDS
        return MISTRAL_HEADS if "[ARGS]" in template else MISTRAL_LIST
    return _NOTATIONS.get(name)
