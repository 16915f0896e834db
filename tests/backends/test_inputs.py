"""Grammars of custom tools' inputs: a Lark grammar as the regular expression that says the same."""

from __future__ import annotations

import re

import pytest

from backends.base import inputs

# As Codex sends it for its tool apply_patch.
PATCH = """\
start: begin_patch hunk+ end_patch
begin_patch: "*** Begin Patch" LF
end_patch: "*** End Patch" LF?

hunk: add_hunk | delete_hunk | update_hunk
add_hunk: "*** Add File: " filename LF add_line+
delete_hunk: "*** Delete File: " filename LF
update_hunk: "*** Update File: " filename LF change_move? change?

filename: /(.+)/
add_line: "+" /(.*)/ LF -> line

change_move: "*** Move to: " filename LF
change: (change_context | change_line)+ eof_line?
change_context: ("@@" | "@@ " /(.+)/) LF
change_line: ("+" | "-" | " ") /(.*)/ LF
eof_line: "*** End of File" LF

%import common.LF
"""
GOOD = """\
*** Begin Patch
*** Update File: a "b".txt
@@ def f(\\n):
-hello
+"good\tbye" é
*** Add File: c
+x
*** End Patch"""
SUMS = """\
start: INT (("+"|"-") INT)*  // numbers, "nothing else"
%import common.INT
%ignore /[ \\n]+/
%ignore ";"
"""


@pytest.mark.parametrize(
    ("lark", "right", "wrong"),
    [
        (PATCH, [GOOD, GOOD + "\n"], [GOOD[4:], GOOD.replace("@@ ", "@ "), GOOD + "x", ""]),
        (SUMS, ["1", " 1 +\n 23-4;"], ["1 2", "1+", "-1"]),
        ('start: "a".."c" "\\"q\\\\" /[^\\/x"]+\\/y/i', ['b"q\\sY/Y'], ['d"q\\s/y', 'b"q\\x/y']),
        (
            'start: "SELECT"i / +/ word~1..2 [";"]\nword: /[\\w.]{1,3}/',
            ["select  a_1;", "SeLeCt abcdef"],
            ["select", "select abcdefg"],
        ),
        (
            '?start: A B{2} | "x" ~ 2 |\n!A.2: "a"\n  | "b"\nB: A "c"  # twice',
            ["bacbc", "xx", ""],
            ["bac", "x"],
        ),
        (
            "start: NUMBER WORD\n%import common (WORD, NUMBER)\n%ignore WS\n%import common.WS",
            ["1.5 mm", "2e-3\tx"],
            ["mm"],
        ),
    ],
    ids=["patch", "ignored", "escapes", "repeated", "terminals", "imports"],
)
def test_a_lark_grammar_is_a_regular_expression(
    lark: str, right: list[str], wrong: list[str]
) -> None:
    pattern = re.compile(inputs.pattern_of(lark))
    assert [text for text in right if not pattern.fullmatch(text)] == []
    assert [text for text in wrong if pattern.fullmatch(text)] == []


@pytest.mark.parametrize(
    ("lark", "words"),
    [
        ('start: a\na: "(" a ")" | "b"', "its rule a refers to itself"),
        ('start: "a"\n%ignore start', "start refers to itself"),
        ("start: %json {}", "'%json {}' is not supported"),
        ("start: <[1]>", "is not supported"),
        ('a: "b"', "no rule named start"),
        ("start: b", "no rule named b"),
        ('"a"', "before the first rule"),
        ("start: /a/l", "the flag l"),
        ('start: "\\x"', "cannot be read"),
        ("%import common.SQL\nstart: SQL", r"common\.SQL is not known"),
        (
            "".join(f"a{n}: a{n + 1} a{n + 1}\n" for n in range(30)) + 'a30: "a"\nstart: a0',
            "over 100000 characters",
        ),
    ],
)
def test_what_cannot_be_said_so_is_named(lark: str, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        inputs.pattern_of(lark)


def test_a_custom_tool_is_a_function_whose_grammar_no_template_sees() -> None:
    grammar = {"syntax": "regex", "definition": "[a-z]+"}
    tool = inputs.described("say", "Says it", grammar)
    assert tool["function"]["description"].endswith("this regex grammar:\n[a-z]+")
    assert "pattern" not in str(inputs.shown(tool))
    assert inputs.CUSTOM not in inputs.shown(tool)
    assert inputs.schema_of(tool)["properties"]["input"]["pattern"] == "^(?:[a-z]+)$"
    assert inputs.schema_of(inputs.described("say", "", {})) == tool["function"]["parameters"]
    assert inputs.text_in(inputs.arguments('a\n"b"')) == 'a\n"b"'
    assert inputs.text_in('{"other": 1}') == '{"other": 1}'
