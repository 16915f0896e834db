"""Thoughts told apart from words while an answer comes, however it is cut into pieces."""

import random
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from backends.thoughts import Divider


def divided(divider: Divider, pieces: list[str]) -> tuple[str, str]:
    shown = [*map(divider.push, pieces), divider.flush()]
    return "".join(thoughts for thoughts, _ in shown), "".join(words for _, words in shown)


CASES = [
    ("<think>\nLet me see.\n</think>\n\nYes.", False, ("Let me see.", "Yes.")),
    ("Let me see.\n</think>\n\nYes.", True, ("Let me see.", "Yes.")),
    ("\n<think></think>Yes.", False, ("", "Yes.")),
    ("Yes <think> no </think>.", False, ("", "Yes <think> no </think>.")),
    ("<thinker> is a word", False, ("", "<thinker> is a word")),
    ("  Yes", False, ("", "  Yes")),
    ("a < b </thin", True, ("a < b </thin", "")),
    ("<thi", False, ("", "<thi")),
    ("", False, ("", "")),
    ("<think>a </think> b </think> c", False, ("a", "b </think> c")),
]


@pytest.mark.parametrize(("text", "opened", "expected"), CASES)
def test_both_are_found_character_by_character(
    text: str, opened: bool, expected: tuple[str, str]
) -> None:
    assert divided(Divider(opened=opened), list(text)) == expected
    assert divided(Divider(opened=opened), [text]) == expected


@settings(deadline=None)  # a busy machine
@given(
    st.text("<think/>ab \n", max_size=40),
    st.lists(st.integers(0, 40), max_size=8),
    st.booleans(),
)
def test_the_pieces_decide_nothing(text: str, cuts: list[int], opened: bool) -> None:
    places = sorted({0, len(text), *(cut for cut in cuts if cut < len(text))})
    pieces = [text[a:b] for a, b in pairwise(places)]
    assert divided(Divider(opened=opened), pieces) == divided(Divider(opened=opened), [text])


CHANNEL = ("<|channel|>analysis<|message|>", "<|end|><|start|>assistant<|channel|>final<|message|>")
NOTATIONS = [
    ("<think>", "</think>", ""),
    ("<longcat_think>", "</longcat_think>", ""),
    ("<|think:start|>", "<|think:end|>", ""),
    ("<|channel>thought", "<channel|>", ""),
    ("<|open|>think<|sep|>", "<|close|>think<|sep|>", ""),
    ("[THINK]", "[/THINK]", ""),
    ("<seed:think>", "</seed:think>", ""),
    ("◁think▷", "◁/think▷", ""),
    (*CHANNEL, "<|channel|>final<|message|>"),
]


@pytest.mark.parametrize("marks", NOTATIONS, ids=lambda marks: marks[0])
def test_every_notation_is_told_apart_in_pieces_of_any_length(marks: tuple[str, str, str]) -> None:
    """Those that mlx-lm knows, and those of `backends.mlx.sampling.thinking`; opened by the model, by
    its template (as DeepSeek-R1's does), and not at all."""
    open_, close, words = marks
    thoughts, said = "Is 1 < 2? <b> [x] <|", 'Yes: "<|" and [/x].'
    draw = random.Random(1)
    for opened, text, expected in (
        (False, f"{open_}\n{thoughts}\n{close}\n{said}", (thoughts, said)),
        (True, f"\n{thoughts}{close}{said}", (thoughts, said)),
        (False, f"{words}{said}", ("", said)),
        (False, f"{open_}{thoughts}", (thoughts, "")),
    ):
        for _ in range(20):
            cuts = sorted({0, len(text), *(draw.randrange(len(text)) for _ in range(6))})
            pieces = [text[a:b] for a, b in pairwise(cuts)]
            assert divided(Divider(*marks, opened=opened), pieces) == expected, pieces


def test_no_word_waits_once_words_have_begun() -> None:
    divider = Divider()
    assert divider.push("Yes") == ("", "Yes")
    assert divider.push(" <") == ("", " <")
