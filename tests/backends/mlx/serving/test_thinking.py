"""A model that thinks: its budget holds in a batch, and a grammar waits until it has thought."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
import pytest
from mlx_lm.utils import load_tokenizer

from backends.base import BackendError, Grammar, LoadedModel, Sampling, ThoughtMarks
from backends.mlx.chat import thought_marks
from backends.mlx.sampling.following import RuleMask
from backends.mlx.sampling.thinking import MarkTokens, ThinkingRule, own_marks
from backends.mlx.serving.generation import load_model
from tests.backends.mlx.data.templates import QWEN3
from tests.backends.rows import Row, run

OPEN, CLOSE = 4094, 4095  # tokens
# What Qwen3's template ends with when it is asked not to think, and what R1's ends with otherwise.
OPENING = (
    "{% if add_generation_prompt %}<|im_start|>assistant\n"
    "{{ '<think>\n' if enable_thinking else '<think>\n\n</think>\n\n' }}{% endif %}"
)
SCHEMA = {
    "type": "object",
    "properties": {"day": {"enum": ["Monday", "Friday"]}},
    "required": ["day"],
    "additionalProperties": False,
}


@pytest.fixture(scope="module")
def thinker(tiny_base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny base, two of whose tokens are the marks of thoughts."""
    folder = tmp_path_factory.mktemp("thinker") / "base"
    shutil.copytree(tiny_base, folder)
    path = folder / "tokenizer.json"
    described = json.loads(path.read_text())
    vocabulary = described["model"]["vocab"]
    for mark, number in (("<think>", OPEN), ("</think>", CLOSE)):
        del vocabulary[next(token for token, other in vocabulary.items() if other == number)]
        vocabulary[mark] = number
        described["added_tokens"].append(
            {
                "id": number,
                "content": mark,
                "special": False,
                "single_word": False,
                "lstrip": False,
                "rstrip": False,
                "normalized": False,
            }
        )
    pairs = [m if isinstance(m, list) else m.split(" ") for m in described["model"]["merges"]]
    described["model"]["merges"] = [pair for pair in pairs if "".join(pair) in vocabulary]
    path.write_text(json.dumps(described))
    begins = QWEN3.index("{% if add_generation_prompt %}")
    (folder / "chat_template.jinja").write_text(QWEN3[:begins] + OPENING)
    settings = json.loads((folder / "tokenizer_config.json").read_text())
    settings.pop("chat_template", None)
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    return folder


@pytest.fixture(scope="module")
def model(thinker: Path) -> Iterator[LoadedModel]:
    loaded = load_model(thinker)
    yield loaded
    loaded.close()


def prompt(model: LoadedModel, question: str, *, thinks: bool) -> list[int]:
    template = {"enable_thinking": thinks}
    return model.encode([{"role": "user", "content": question}], None, template)


def ask(model: LoadedModel, *rows: tuple[str, bool, Sampling]) -> list[list[int]]:
    """The tokens of each answer, all of one batch."""
    for n, (question, thinks, sampling) in enumerate(rows):
        model.insert(str(n), prompt(model, question, thinks=thinks), None, sampling)
    answers: list[list[int]] = [[] for _ in rows]
    left = len(rows)
    while left:
        for delta in model.step():
            answers[int(delta.uid)].append(delta.token)
            left -= delta.finish_reason is not None
    return answers


def test_the_marks_are_found_in_the_prompt(model: LoadedModel) -> None:
    asked = model.thought_marks(prompt(model, "Hi", thinks=True))
    assert (asked.open, asked.close, asked.opened, asked.closed) == (
        "<think>",
        "</think>",
        True,
        False,
    )
    plain = model.thought_marks(prompt(model, "Hi", thinks=False))
    assert (plain.opened, plain.closed) == (False, True)
    typed = model.thought_marks(prompt(model, "I <think>", thinks=False))
    assert not typed.opened


def test_budgets_hold_in_a_batch_of_eight(model: LoadedModel) -> None:
    free = Sampling(max_tokens=24)
    schema = Grammar("json_schema", json.dumps(SCHEMA))
    rows = [
        ("One", True, Sampling(max_tokens=24, thinking_budget=3)),
        ("Two", False, free),
        ("Three", True, Sampling(max_tokens=24, thinking_budget=0)),
        ("Four", False, Sampling(max_tokens=24, thinking_budget=2)),
        ("Five", True, Sampling(max_tokens=64, thinking_budget=5, grammar=schema)),
        ("Six", False, Sampling(max_tokens=64, grammar=schema)),
        ("Seven", True, free),
        ("Eight", False, Sampling(max_tokens=24, temperature=1.0, seed=7)),
    ]
    together = ask(model, *rows)
    assert together == [ask(model, row)[0] for row in rows]
    assert together[0].index(CLOSE) <= 3
    assert together[2][0] == CLOSE
    assert together[3] == ask(model, ("Four", False, free))[0]
    assert together[4].index(CLOSE) <= 5
    assert CLOSE not in together[6]  # random weights never end their thoughts
    tokenizer: Any = model._tokenizer  # type: ignore[attr-defined]
    for answer in (together[4][together[4].index(CLOSE) + 1 :], together[5]):
        words = json.loads(tokenizer.decode([token for token in answer if token != 2]))
        assert words["day"] in ("Monday", "Friday")


SPECIAL = {  # how many of a notation's tokens its two marks are, and those that make it known
    "<longcat_think>": (1, 1, ["<longcat_think>", "</longcat_think>"]),
    "<|think:start|>": (1, 1, ["<|think:start|>", "<|think:end|>"]),
    "<|channel>thought": (2, 1, ["<|channel>", "<channel|>"]),
    "<|open|>think<|sep|>": (3, 3, ["<|open|>", "<|close|>", "<|sep|>", "<|end_of_msg|>"]),
    "[THINK]": (1, 1, ["[THINK]", "[/THINK]"]),
    "<seed:think>": (1, 1, ["<seed:think>", "</seed:think>"]),
    "◁think▷": (1, 1, ["◁think▷", "◁/think▷"]),
    "<|channel|>analysis<|message|>": (
        *(3, 6),
        ["<|channel|>", "<|message|>", "<|start|>", "<|end|>"],
    ),
}


@pytest.mark.parametrize("opening", SPECIAL)
def test_each_notation_is_known_by_its_tokens(
    tiny_base: Path, tmp_path: Path, opening: str
) -> None:
    most_open, most_close, tokens = SPECIAL[opening]
    folder = tmp_path / "base"
    shutil.copytree(tiny_base, folder)
    path = folder / "tokenizer.json"
    described = json.loads(path.read_text())
    plain = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
    described["added_tokens"] += [
        {"id": 5000 + n, "content": token, "special": True, **plain}
        for n, token in enumerate(tokens)
    ]
    path.write_text(json.dumps(described))
    tokenizer: Any = load_tokenizer(folder)
    marks, found = own_marks(tokenizer), MarkTokens.of(tokenizer, 6000)
    assert marks.open == opening
    for mark, numbers, fewest in (
        (marks.open, found.open, most_open),
        (marks.close, found.close, most_close),
    ):
        assert len(numbers) >= fewest
        written = tokenizer.detokenizer
        written.reset()
        for number in numbers:
            written.add_token(number)
        written.finalize()
        assert written.text == mark  # special tokens are text in an answer
    asked = thought_marks(tokenizer, tokenizer.encode(f"Hello {opening}\n"))
    assert (asked.opened, asked.closed) == (True, False)


def test_what_it_says_after_its_thoughts_is_what_follows_them(model: LoadedModel) -> None:
    """The closing mark was not drawn: the answer goes on from it as from any token."""
    [answer] = ask(model, ("One", True, Sampling(max_tokens=12, thinking_budget=4)))
    begun = [*prompt(model, "One", thinks=True), *answer[:5]]
    [rest] = run(model, Row(prompt=begun, sampling=Sampling(max_tokens=7)))
    assert answer[4] == CLOSE
    assert rest.tokens == answer[5:]


# ------------------------------------------------------------------ the rule alone


class Digits:
    """A rule that allows the tokens below 10."""

    idle = failed = False

    def __init__(self) -> None:
        self.followed: list[int] = []

    def follow(self, token: int) -> None:
        self.followed.append(token)

    def undo(self) -> None:
        self.followed.pop()

    def allowed(self) -> Any:
        return np.arange(20) < 10


MARKS = MarkTokens(open=(15,), close=(16, 17), ends=(2,), vocabulary=20)


def choices(rule: ThinkingRule) -> list[int] | None:
    allowed = rule.allowed()
    return None if allowed is None else np.flatnonzero(allowed).tolist()


def test_a_model_may_think_before_it_follows_a_grammar_or_not() -> None:
    then = Digits()
    rule = ThinkingRule(MARKS, ThoughtMarks(), None, then)
    assert choices(rule) == [*range(10), 15]
    rule.follow(5)
    assert then.followed == [5]
    assert choices(rule) == list(range(10))
    rule.undo()
    rule.follow(15)
    assert then.followed == []
    assert 2 not in (choices(rule) or [])  # an answer does not end before it begins
    for token in (9, 16, 17):
        rule.follow(token)
    assert then.followed == []
    assert choices(rule) == list(range(10))


def test_the_closing_mark_is_finished_where_it_was_begun() -> None:
    rule = ThinkingRule(MARKS, ThoughtMarks(opened=True), 2, None)
    for token in (9, 16):
        assert choices(rule) is None
        rule.follow(token)
    assert choices(rule) == [17]
    rule.follow(17)
    assert rule.idle


LONG = MarkTokens(open=(5, 15), close=(16, 17), ends=(2,), vocabulary=20)


def test_only_the_whole_opening_mark_begins_thoughts() -> None:
    """Another mark, such as that of a call, may begin with the same token."""
    then = Digits()
    rule = ThinkingRule(LONG, ThoughtMarks(), 1, then)
    rule.follow(5)
    assert choices(rule) == [*range(10), 15]
    rule.follow(7)  # it was a word, and so was the token before
    assert then.followed == [5, 7]
    assert choices(rule) == list(range(10))
    rule.undo()
    assert then.followed == [5]
    rule.follow(15)
    assert then.followed == []
    rule.undo()
    assert then.followed == [5]
    rule.follow(15)
    rule.follow(9)
    assert choices(rule) == [16]  # the mark itself is no thought


def test_a_draw_that_is_replaced_ends_no_thoughts() -> None:
    """The closing mark was drawn and then taken back: the budget still holds."""
    rule = ThinkingRule(MARKS, ThoughtMarks(opened=True), 2, None)
    mask, logits = RuleMask(rule), mx.zeros((1, 20))
    for drawn in (9, 16, 17):
        mask.drawn = lambda drawn=drawn: (mx.array([drawn]), 0)  # type: ignore[misc]
        mask(logits, logits)
    mask.came(17)
    mask(logits, logits)
    assert rule.idle
    mask.replace(8)  # later: the rule was idle by then
    assert rule.idle
    once = ThinkingRule(MARKS, ThoughtMarks(opened=True), 5, None)
    mask = RuleMask(once)
    for drawn in (9, 16, 17):
        mask.drawn = lambda drawn=drawn: (mx.array([drawn]), 0)  # type: ignore[misc]
        mask(logits, logits)
    assert once.idle
    mask.replace(9)
    assert not once.idle


def test_a_plain_text_is_held_to_its_grammar_from_the_first_token(model: LoadedModel) -> None:
    sampling = Sampling(
        max_tokens=64,
        may_think=False,
        grammar=Grammar("json_schema", json.dumps(SCHEMA)),
        logit_bias=((OPEN, 100.0),),
    )
    [row] = run(model, Row(prompt=[*range(100, 110)], sampling=sampling))
    assert OPEN not in row.tokens
    assert json.loads(row.text)["day"] in ("Monday", "Friday")


def test_without_a_budget_it_does_not_begin() -> None:
    rule = ThinkingRule(MARKS, ThoughtMarks(), 0, None)
    assert 15 not in (choices(rule) or [])
    rule.follow(3)
    assert rule.idle


def test_a_model_without_marks_has_nothing_to_count(tiny_base: Path) -> None:
    loaded = load_model(tiny_base)
    try:
        said = [
            run(loaded, Row(sampling=Sampling(max_tokens=5, thinking_budget=budget)))[0].tokens
            for budget in (None, 0)
        ]
        with pytest.raises(BackendError):
            loaded.insert("x", [1], None, Sampling(grammar=Grammar("regex", "(")))
    finally:
        loaded.close()
    assert said[0] == said[1]
