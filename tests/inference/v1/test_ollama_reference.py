"""The document of Ollama's API says what the code does, and everything of the client is decided."""

import inspect

import ollama
import pytest

from inference.v1.compatibility import CompatibleRequest
from inference.v1.ollama.messages import MessageIn, chat
from inference.v1.ollama.names import hub_name, ollama_name
from inference.v1.ollama.reference import DOCUMENT, reference
from inference.v1.ollama.schemas import ChatIn, EmbedIn, GenerateIn, OptionsIn, seconds

pytestmark = pytest.mark.any_database


def test_the_document_is_the_codes_own_table() -> None:
    assert DOCUMENT.read_text() == reference(), "write it again with reference.write()"


@pytest.mark.parametrize(
    ("kind", "call"),
    [
        (ChatIn, ollama.Client.chat),
        (GenerateIn, ollama.Client.generate),
        (EmbedIn, ollama.Client.embed),
    ],
)
def test_every_parameter_of_the_client_is_decided(
    kind: type[CompatibleRequest], call: object
) -> None:
    decided = {*kind.model_fields, *kind.IGNORED, *kind.REFUSED}
    theirs = set(inspect.signature(call).parameters) - {"self"}  # type: ignore[arg-type]
    # Of its models that draw images.
    assert theirs - {"width", "height", "steps"} <= decided


def test_every_option_of_the_client_is_decided() -> None:
    decided = {*OptionsIn.model_fields, *OptionsIn.IGNORED, *OptionsIn.REFUSED}
    assert set(ollama.Options.model_fields) <= decided


@pytest.mark.parametrize("kind", [ChatIn, GenerateIn, EmbedIn, OptionsIn])
def test_a_parameter_is_decided_once(kind: type[CompatibleRequest]) -> None:
    names = [*kind.model_fields, *kind.IGNORED, *kind.REFUSED]
    assert len(names) == len(set(names))


@pytest.mark.parametrize(
    ("said", "meant"),
    [("5m", 300), ("1h30m", 5400), ("-1", -1), ("-1m", -60), ("0", 0), ("1.5s", 1.5), (10, 10)],
)
def test_a_duration_is_read_as_go_writes_it(said: object, meant: float) -> None:
    assert seconds(said) == meant


@pytest.mark.parametrize("said", ["soon", "5 m", "", "5x", "--1"])
def test_anything_else_is_no_duration(said: str) -> None:
    with pytest.raises(ValueError, match="5m"):
        seconds(said)


@pytest.mark.parametrize(
    ("label", "name"),
    [
        ("calendar", "calendar:latest"),
        ("calendar@0.1.0", "calendar:0.1.0"),
        ("calendar@production", "calendar:production"),
        ("base:tiny", "base:tiny"),
        ("calendar@latest", "calendar@latest"),
    ],
)
def test_a_name_comes_back_as_it_was(label: str, name: str) -> None:
    assert ollama_name(label) == name
    assert hub_name(name) == hub_name(label) == label


def test_results_answer_the_calls_they_name_else_the_first_that_is_open() -> None:
    calls = [{"function": {"name": name, "arguments": {"n": 1}}} for name in ("a", "b", "a")]
    turns = [
        {"role": "assistant", "content": None, "tool_calls": calls},
        {"role": "tool", "content": "of b", "tool_name": "b"},
        {"role": "tool", "content": "of the first a"},
        {"role": "tool", "content": "of the other a", "tool_name": "a"},
        {"role": "tool", "content": "of nobody", "tool_name": "c"},
    ]
    said = chat([MessageIn.model_validate(turn) for turn in turns])
    assert [(turn.get("tool_call_id"), turn.get("name")) for turn in said[1:]] == [
        ("call_0_1", "b"),
        ("call_0_0", "a"),
        ("call_0_2", "a"),
        (None, "c"),
    ]
    assert said[0]["tool_calls"][0]["function"] == {"name": "a", "arguments": '{"n": 1}'}
