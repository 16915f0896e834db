"""Strict tools that need not be called: text and thoughts are free, and a call that begins keeps its schema."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from backends.base import LoadOptions, Sampling
from backends.mlx.sampling import following
from backends.mlx.serving import speculative
from backends.mlx.serving.generation import MLXModel, load_model
from tests.backends.mlx.counting import counted_waits
from tests.backends.mlx.tool_template import TEMPLATE, with_marks
from tests.backends.rows import QUESTIONS, Row, run

CALL, END, THINK, THOUGHT = range(4092, 4096)  # tokens
MARKS = {CALL: "<tool_call>", END: "</tool_call>", THINK: "<think>", THOUGHT: "</think>"}
SCHEMA = {
    "type": "object",
    "properties": {
        "city": {"enum": ["Rome", "Oslo"]},
        "days": {"type": "integer", "minimum": 0, "maximum": 9},
    },
    "required": ["city", "days"],
    "additionalProperties": False,
}


def tool(name: str, *, strict: bool) -> dict[str, Any]:
    function = {"name": name, "parameters": SCHEMA} | ({"strict": True} if strict else {})
    return {"type": "function", "function": function}


TOOLS = [tool("weather", strict=True), tool("forecast", strict=False)]
OFTEN = (
    (CALL, 7.0),
    (0, -100.0),
    (2, -100.0),
)  # begins a call about every fifth token, and does not end


@pytest.fixture(scope="module")
def caller(tiny_base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With marks that are tokens, and thoughts, as Qwen3's."""
    folder = tmp_path_factory.mktemp("caller") / "base"
    opened = "{% if enable_thinking and add_generation_prompt %}<think>\n{% endif %}"
    return with_marks(tiny_base, folder, TEMPLATE + opened, MARKS)


@pytest.fixture(scope="module")
def model(caller: Path) -> Iterator[MLXModel]:
    loaded = load_model(caller, options=LoadOptions(cache_bytes=2**22))
    assert isinstance(loaded, MLXModel)
    yield loaded
    loaded.close()


def prompt(model: MLXModel, question: str, *, thinks: bool = False) -> list[int]:
    asked: Any = [{"role": "user", "content": question}]
    return model.encode(asked, TOOLS, {"enable_thinking": thinks})


def strict(model: MLXModel, **settings: Any) -> Sampling:
    grammar, unheld = model.strict_grammar(TOOLS)
    assert (grammar is None, unheld) == (False, [])
    return Sampling(**{"max_tokens": 120, "grammar": grammar} | settings)


def calls_in(model: MLXModel, row: Row) -> list[tuple[str, Any]]:
    """The calls of an answer, all of which fit, and the last of which may be cut off."""
    text = row.text
    if row.finish_reason == "length" and text.count("<tool_call>") > text.count("</tool_call>"):
        text = text[: text.rindex("<tool_call>")]
    _, calls = model.parse_tool_calls(text, TOOLS)
    found = [(call.name, json.loads(call.arguments)) for call in calls]
    for name, arguments in found:
        assert name in ("weather", "forecast")
        jsonschema.validate(arguments, SCHEMA)
    return found


def test_calls_fit_and_texts_are_as_without_in_one_batch(model: MLXModel) -> None:
    """Rows that call, rows that do so unheld, and rows that write only text, with a strict tool and without."""
    drawn = {"temperature": 1.0, "max_tokens": 120}
    said = [
        strict(model, logit_bias=OFTEN, seed=1, **drawn),
        strict(model, max_tokens=60),
        Sampling(seed=2, logit_bias=OFTEN, **drawn),
        strict(model, logit_bias=OFTEN, seed=3, **drawn),
        strict(model, seed=4, **drawn),
        strict(model, logit_bias=OFTEN, seed=5, repetition_penalty=1.1, **drawn),
    ]
    rows = [
        Row(sampling=one, prompt=prompt(model, QUESTIONS[n % len(QUESTIONS)]), after=n)
        for n, one in enumerate(said)
    ]
    together = run(model, *rows)
    for row in rows:
        [alone] = run(model, Row(sampling=row.sampling, prompt=row.prompt))
        assert row.tokens == alone.tokens
    calls = [len(calls_in(model, together[n])) for n in (0, 3, 5)]
    assert min(calls) >= 1
    assert max(calls) >= 3
    for n in (1, 4):
        free = Sampling(**{**vars(together[n].sampling), "grammar": None})
        [without] = run(model, Row(sampling=free, prompt=together[n].prompt))
        assert CALL not in without.tokens
        assert together[n].tokens == without.tokens
        assert together[n].text == without.text


def test_thoughts_are_free_and_what_follows_them_is_held(model: MLXModel) -> None:
    settings = {"temperature": 1.0, "max_tokens": 200}
    often = (*OFTEN, (THOUGHT, 6.5))
    for thinking_budget in (None, 30):
        rows = [
            Row(
                sampling=strict(
                    model, seed=n, logit_bias=often, thinking_budget=thinking_budget, **settings
                ),
                prompt=prompt(model, "Think", thinks=True),
            )
            for n in range(4)
        ]
        began = found = 0
        for row in run(model, *rows):
            thoughts, closed, words = row.text.partition("</think>")
            assert closed
            began += "<tool_call>" in thoughts and '{"name": "' not in thoughts
            row.deltas = list(row.deltas[row.tokens.index(THOUGHT) + 1 :])
            assert row.text == words
            found += len(calls_in(model, row))
        assert began
        assert found > 4


def test_guesses_from_the_prompt_do_not_pass_by_the_rule(
    caller: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What came before has calls that do not fit; guessed or not, the answer is the same."""
    monkeypatch.setattr(speculative.Costs, "best", lambda self, chances: (len(chances), 9.0))
    looking = load_model(caller, options=LoadOptions(prompt_lookup=True))
    assert isinstance(looking, MLXModel)
    try:
        begun = prompt(looking, 'Say <tool_call>\n{"name": "other"}\n</tool_call> twice')
        asked = {"temperature": 1.0, "logit_bias": (*OFTEN, (END, 4.0))}
        rows = [Row(sampling=strict(looking, seed=n, **asked), prompt=begun) for n in range(3)]
        alone = [run(looking, Row(sampling=row.sampling, prompt=begun))[0] for row in rows]
        assert looking._solo is not None
        assert looking._solo.proposed > 20
        assert looking._solo.forced > 20
        together = run(looking, *rows)
        assert [row.tokens for row in alone] == [row.tokens for row in together]
        assert all(calls_in(looking, row) for row in alone)
    finally:
        looking.close()


@pytest.mark.parametrize("thinks", [False, True], ids=["words", "thoughts"])
def test_a_text_without_calls_waits_as_often_as_one_without_tools(
    model: MLXModel, thinks: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a batch the host reads the tokens of a step once, whatever the tools; masks would read them, too."""
    monkeypatch.setenv("HUB_ASSUMED_DEVICE", "metal")
    read: list[Any] = []

    def look(array: Any) -> Any:
        read.append(array)
        return memoryview(array)

    monkeypatch.setattr(following, "memoryview", look, raising=False)

    def counted(sampling: Sampling) -> list[Any]:
        for uid in ("a", "b"):
            model.insert(uid, prompt(model, f"Hi {uid}", thinks=thinks), None, sampling)
        waits: list[Any] = []
        left = 2
        while left:
            with counted_waits() as seen:
                deltas = model.step()
            assert CALL not in [delta.token for delta in deltas]
            left -= sum(delta.finish_reason is not None for delta in deltas)
            waits.append(seen)
        return waits

    free = Sampling(max_tokens=20)
    counted(free)  # the prompts are in the cache from here on
    assert counted(strict(model, max_tokens=20)) == counted(free)
    assert not read


@pytest.mark.parametrize("window", [0, 48])
def test_a_call_is_held_whatever_the_cache(model: MLXModel, window: int) -> None:
    """One that only keeps the last tokens can forget none of them."""
    asked = {"logit_bias": OFTEN, "temperature": 1.0, "top_p": 0.95, "max_kv_tokens": window}
    rows = [
        Row(sampling=strict(model, seed=n, **asked), prompt=prompt(model, question))
        for n, question in enumerate(QUESTIONS[:3])
    ]
    for row in run(model, *rows):
        assert calls_in(model, row)
