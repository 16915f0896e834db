"""Stop strings in streamed text."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from backends.text import StopText


def test_text_without_stop_strings_passes() -> None:
    text = StopText(())
    assert text.push("all of it") == "all of it"
    assert not text.stopped


def test_a_stop_string_in_pieces_never_shows() -> None:
    text = StopText(("END",))
    assert [text.push(piece) for piece in ("on E", "N", "D off", "more")] == ["on ", "", "", ""]
    assert text.stopped


def test_a_false_beginning_comes_out_later() -> None:
    text = StopText(("END",))
    assert [text.push(piece) for piece in ("E", "N", "OUGH")] == ["", "", "ENOUGH"]


def test_the_earliest_of_several_wins() -> None:
    text = StopText(("later", "soon"))
    assert text.push("not soon, later") == "not "


def test_held_text_is_given_at_the_end() -> None:
    text = StopText(("END",))
    assert text.push("the EN") == "the "
    assert text.flush() == "EN"


def test_empty_stop_strings_are_ignored() -> None:
    text = StopText(("",))
    assert text.push("going on") == "going on"


@given(
    pieces=st.lists(st.text(alphabet="ab", max_size=4), max_size=20),
    stop=st.lists(st.text(alphabet="ab", min_size=1, max_size=4), min_size=1, max_size=3),
)
def test_pieces_show_what_the_whole_would(pieces: list[str], stop: list[str]) -> None:
    text = StopText(stop)
    shown = "".join([text.push(piece) for piece in pieces]) + text.flush()
    whole = "".join(pieces)
    assert text.stopped == any(s in whole for s in stop)
    assert whole.startswith(shown)
    assert not any(s in shown for s in stop)
    if not text.stopped:
        assert shown == whole
