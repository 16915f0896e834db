"""What becomes of thoughts in every mode and template, against tokens that are put together by hand.

A token is a thought when all of its characters are, by the tokenizer's own offsets: the product
finds the same by encoding beginnings.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from backends.base import BadExample, Learn, Thoughts
from backends.examples import EMPTY, STRIPPED, UNASKED
from backends.mlx.data import batching, examples
from backends.mlx.data.examine import examine
from backends.thoughts import divided, spoken, words_of
from tests.backends.mlx.data.reading import read_split
from tests.backends.mlx.data.templates import (
    CHATML,
    FIELD_ONLY,
    LLAMA3,
    NO_SYSTEM,
    OPENS,
    QWEN3,
    THINKS,
)
from tests.backends.mlx.tool_template import with_template

pytestmark = pytest.mark.any_database

type Load = Callable[[str | None, str], Any]
type Message = dict[str, Any]
LEARN: tuple[Learn, ...] = ("answers", "last_answer", "everything")
MODES: tuple[Thoughts, ...] = ("kept", "dropped", "masked")

CHAT = [
    ("Two plus two?", "", "Four."),
    ("And three?", "4 + 3", "Seven."),
    ("And one?", "7+1", "8!"),
]
IM = ("<|im_start|>{}\n", "<|im_end|>", "\n", "<|im_start|>assistant\n")
LLAMA = ("<|start_header_id|>{}<|end_header_id|>\n\n", "<|eot_id|>", "")
TURN = ("<start_of_turn>{}\n", "<end_of_turn>", "\n")


def beside() -> list[Message]:
    """The chat with its thoughts in a field."""
    found: list[Message] = []
    for number, (asked, thoughts, words) in enumerate(CHAT):
        answer = {"role": "assistant", "content": words}
        field = ("reasoning_content", "reasoning", "thinking")[number]
        found += [
            {"role": "user", "content": asked},
            answer | ({field: thoughts} if thoughts else {}),
        ]
    return found


def within(form: str = "<think>\n{}\n</think>\n\n{}") -> list[Message]:
    """The chat with its thoughts in the text of its answers."""
    found: list[Message] = []
    for asked, thoughts, words in CHAT:
        said = form.format(thoughts, words) if thoughts else words
        found += [{"role": "user", "content": asked}, {"role": "assistant", "content": said}]
    return found


# ---------------------------------------------------------------- by hand


class ByHand:
    """Puts an example together piece by piece; each is encoded by itself."""

    def __init__(self, tokenizer: Any) -> None:
        self.tokenizer = tokenizer
        self.tokens: list[int] = []
        self.kinds: list[str] = []

    def add(self, text: str, kind: str = "read", thoughts: int = 0) -> None:
        """A piece whose first `thoughts` characters are thoughts."""
        encoded = self.tokenizer._tokenizer(
            text, add_special_tokens=False, return_offsets_mapping=True
        )
        self.tokens += encoded["input_ids"]
        for _, end in encoded["offset_mapping"]:
            self.kinds.append("thought" if end <= thoughts else kind)

    def mask(self, learn: Learn, mode: Thoughts) -> list[bool]:
        wanted = {
            "answers": {"answer", "last", "thought"},
            "last_answer": {"last", "last thought"},
            "everything": {"read", "answer", "last", "thought", "stripped"},
        }[learn]
        last = max(at for at, kind in enumerate(self.kinds) if kind == "last")
        first = min(at for at, kind in enumerate(self.kinds) if kind == "last")
        kinds = list(self.kinds)
        if learn == "last_answer":  # only the thoughts right before the last answer's words
            for at in range(first - 1, -1, -1):
                if kinds[at] != "thought":
                    break
                kinds[at] = "last thought"
        assert last == len(kinds) - 1
        flags = [kind in wanted and not (mode == "masked" and "thought" in kind) for kind in kinds]
        if learn == "everything":
            flags[0] = False  # nothing comes before it
        return flags


def by_hand(
    tokenizer: Any,
    marks: tuple[str, ...],
    mode: Thoughts,
    begin: str = "",
    assistant: str = "assistant",
    strips: bool = False,
) -> ByHand:
    """The chat in a template that writes thoughts within the text, or strips those of earlier
    answers."""
    head, end, line = marks[:3]
    made = ByHand(tokenizer)
    for number, (asked, thoughts, words) in enumerate(CHAT):
        last = number == len(CHAT) - 1
        made.add(("" if number else begin) + head.format("user"))
        made.add(asked)
        made.add(end)
        if line:
            made.add(line)
        made.add(head.format(assistant))
        written = thoughts and mode != "dropped" and (last or not strips)
        before = f"<think>\n{thoughts}\n</think>\n\n" if written else ""
        kind = "last" if last else "answer"
        if thoughts and mode != "dropped" and not written:
            kind = "stripped"
        made.add(before + words, kind, len(before))
        made.add(end, kind)
        if line and not last:
            made.add(line)
    return made


TEMPLATES: dict[str, tuple[str, str, Callable[[Any, Thoughts], ByHand]]] = {
    "ChatML": (CHATML, "<|im_end|>", lambda t, mode: by_hand(t, IM, mode)),
    "Llama 3": (LLAMA3, "<|eot_id|>", lambda t, mode: by_hand(t, LLAMA, mode, "<|begin_of_text|>")),
    "strips thoughts": (THINKS, "<|im_end|>", lambda t, mode: by_hand(t, IM, mode, strips=True)),
    "writes thoughts": (QWEN3, "<|im_end|>", lambda t, mode: by_hand(t, IM, mode, strips=True)),
    "no system role": (
        NO_SYSTEM,
        "<end_of_turn>",
        lambda t, mode: by_hand(t, TURN, mode, assistant="model"),
    ),
}


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("template", TEMPLATES)
def test_exactly_the_wanted_tokens_are_learned(load: Load, template: str, mode: Thoughts) -> None:
    source, end, hand = TEMPLATES[template]
    tokenizer = load(source, end)
    made = hand(tokenizer, mode)
    for messages in (beside(), within()):
        for learn in LEARN:
            example = examples.example_of({"messages": messages}, tokenizer, learn, thoughts=mode)
            assert example.tokens == made.tokens
            assert mask_of(example) == made.mask(learn, mode)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("learn", LEARN)
def test_without_a_template_too(load: Load, learn: Learn, mode: Thoughts) -> None:
    tokenizer = load(None, "<|im_end|>")
    value = {"prompt": "Two plus two is", "completion": "<think>\n2 + 2\n</think>\n\nfour."}
    made = ByHand(tokenizer)
    made.add("Two plus two is")
    before = "" if mode == "dropped" else "<think>\n2 + 2\n</think>\n\n"
    made.add(f"{before}four.", "last", len(before))
    made.add("<|im_end|>", "last")
    example = examples.example_of(value, tokenizer, learn, thoughts=mode)
    assert (example.tokens, mask_of(example)) == (made.tokens, made.mask(learn, mode))


def mask_of(example: examples.Example) -> list[bool]:
    flags = [False] * example.length
    for start, end in example.learned:
        flags[start:end] = [True] * (end - start)
    return flags


# ---------------------------------------------------------------- other templates


@pytest.mark.parametrize("mode", MODES)
def test_a_request_that_begins_the_thoughts_is_answered_by_the_rest_of_them(
    load: Load, mode: Thoughts
) -> None:
    """An answer without thoughts ends them at once, as it must when the model is served."""
    tokenizer = load(OPENS, "<|im_end|>")
    for messages, thoughts, words in (
        (within(), "7+1", "8!"),
        (beside(), "7+1", "8!"),
        (beside()[:2], "", "Four."),
    ):
        made = ByHand(tokenizer)
        made.add("<|im_start|>assistant\n<think>\n")
        kept = f"{thoughts}\n</think>\n\n" if thoughts and mode != "dropped" else "\n</think>\n\n"
        made.add(kept + words, "last", len(kept))
        made.add("<|im_end|>", "last")
        example = examples.example_of(
            {"messages": messages}, tokenizer, "last_answer", thoughts=mode
        )
        size = len(made.tokens)
        assert example.tokens[-size:] == made.tokens
        assert mask_of(example)[-size:] == made.mask("last_answer", mode)
    example = examples.example_of({"messages": within()}, tokenizer, "answers", thoughts=mode)
    assert set(example.notes) == {UNASKED}


@pytest.mark.parametrize("mode", MODES)
def test_marks_of_a_models_own_are_written_where_the_template_knows_a_field_alone(
    load: Load, mode: Thoughts
) -> None:
    tokenizer = load(FIELD_ONLY, "<|im_end|>")
    made = ByHand(tokenizer)
    before = "" if mode == "dropped" else "[thinks] 7+1 [says] "
    made.add("<|im_start|>assistant\n")
    made.add(f"{before}8!", "last", len(before))
    made.add("<|im_end|>", "last")
    for messages in (beside(), within()):
        example = examples.example_of(
            {"messages": messages}, tokenizer, "last_answer", thoughts=mode
        )
        size = len(made.tokens)
        assert example.tokens[-size:] == made.tokens
        assert mask_of(example)[-size:] == made.mask("last_answer", mode)


def test_thoughts_between_calls_are_learned_where_the_template_writes_them(load: Load) -> None:
    call = {"type": "function", "function": {"name": "add", "arguments": {"a": 2}}}
    messages = [
        {"role": "user", "content": "Two plus two?"},
        {"role": "assistant", "content": "", "reasoning_content": "I add.", "tool_calls": [call]},
        {"role": "tool", "content": "4"},
        {"role": "assistant", "content": "Four.", "reasoning_content": "It says 4."},
    ]
    end = "<|im_end|>"
    tokenizer = load(QWEN3, end)
    called = '<tool_call>\n{"name": "add", "arguments": {"a": 2}}\n</tool_call><|im_end|>'

    def learned(mode: Thoughts) -> list[str]:
        example = examples.example_of({"messages": messages}, tokenizer, "answers", thoughts=mode)
        assert example.notes == ()
        return [tokenizer.decode(example.tokens[a:b]).strip() for a, b in example.learned]

    assert learned("kept") == [
        f"<think>\nI add.\n</think>\n\n{called}",
        "<think>\nIt says 4.\n</think>\n\nFour.<|im_end|>",
    ]
    assert learned("masked") == [called, "Four.<|im_end|>"]
    assert learned("dropped") == [called, "Four.<|im_end|>"]
    tokenizer = load(
        QWEN3.replace("loop.index0 > ns.last and (loop.last or thoughts)", "true"), end
    )
    assert learned("dropped") == [f"<think>\n\n</think>\n\n{called}", "Four.<|im_end|>"]


# ---------------------------------------------------------------- forms of thoughts


@pytest.mark.parametrize(
    ("text", "thoughts", "words"),
    [
        ("<think>a</think>b", "a", "b"),
        ("\n<think>\na\n</think>\n\nb", "a", "b"),
        ("a\n</think>\n\nb", "a", "b"),  # the request had the opening mark
        ("<think>a", "a", ""),
        ("<think>\n\n</think>\n\nb", "", "b"),
        ("b", "", "b"),
        ("Write </think> at the end.", "", "Write </think> at the end."),
        ("Write <think>a</think>.", "", "Write <think>a</think>."),
    ],
)
def test_thoughts_are_told_from_words(text: str, thoughts: str, words: str) -> None:
    assert divided(text) == (thoughts, words)


def test_thoughts_between_words_are_dropped_and_masked_too(load: Load) -> None:
    tokenizer = load(CHATML, "<|im_end|>")
    said = "<think>a</think>One <think>b</think>two."
    messages = [{"role": "user", "content": "Count"}, {"role": "assistant", "content": said}]

    def learned(mode: Thoughts) -> list[str]:
        example = examples.example_of({"messages": messages}, tokenizer, "answers", thoughts=mode)
        return [tokenizer.decode(example.tokens[a:b]) for a, b in example.learned]

    assert learned("kept") == [f"{said}<|im_end|>"]
    assert learned("masked") == ["One", "two.<|im_end|>"]
    assert learned("dropped") == ["One two.<|im_end|>"]
    assert words_of(said) == "One two."


def test_two_different_thoughts_of_one_answer_are_refused(load: Load, tmp_path: Path) -> None:
    both = {"role": "assistant", "content": "<think>a</think>b", "reasoning_content": "c"}
    path = tmp_path / "train.jsonl"
    path.write_text(json.dumps({"messages": [{"role": "user", "content": "q"}, both]}) + "\n")
    with pytest.raises(BadExample, match="line 1: an answer has thoughts in its text and others"):
        read_split(path, load(CHATML, "<|im_end|>"), 512, "answers")
    same = spoken([{**both, "reasoning_content": "a"}], "kept")
    assert same == [{"role": "assistant", "content": "<think>a</think>b"}]


def test_an_answer_of_thoughts_alone_is_left_out_when_they_are_dropped(load: Load) -> None:
    only = {"role": "assistant", "content": "<think>a</think>"}
    asked = {"role": "user", "content": "q"}
    tokenizer = load(CHATML, "<|im_end|>")
    value = {"messages": [asked, only, asked, only]}
    example = examples.example_of(value, tokenizer, "answers", thoughts="dropped")
    assert (example.learned, example.notes) == ((), (EMPTY, EMPTY))


def test_as_written_leaves_fields_to_the_template_as_before(load: Load) -> None:
    """Older jobs and versions: the text of an answer is learned, and nothing of a field."""
    tokenizer = load(CHATML, "<|im_end|>")
    old = examples.example_of({"messages": beside()}, tokenizer, "answers", thoughts="as_written")
    bare = [{"role": m["role"], "content": m["content"]} for m in beside()]
    assert old == examples.example_of({"messages": bare}, tokenizer, "answers")
    shows = load(
        CHATML.replace("{{ m.content }}", "{{ m.content }}{{ m.reasoning }}"), "<|im_end|>"
    )
    old = examples.example_of({"messages": beside()}, shows, "last_answer", thoughts="as_written")
    assert "Seven.4 + 3" in shows.decode(old.tokens)
    inline = {"messages": within("<think>{}</think>{}")}
    assert examples.example_of(
        inline, tokenizer, "answers", thoughts="as_written"
    ) == examples.example_of(inline, tokenizer, "answers")


# ---------------------------------------------------------------- notes


def test_what_a_template_strips_is_told_and_learned_when_dropped(
    tiny_base: Path, load: Load, tmp_path: Path
) -> None:
    tokenizer = load(QWEN3, "<|im_end|>")
    for mode in MODES:
        example = examples.example_of({"messages": beside()}, tokenizer, "answers", thoughts=mode)
        assert example.notes == (() if mode == "dropped" else (STRIPPED,))
    base = with_template(tiny_base, tmp_path / "doctor", QWEN3)
    (tmp_path / "train.jsonl").write_text(json.dumps({"messages": beside()}) + "\n")
    found = examine(base, tmp_path, 512, 0)
    assert found.splits["train"].notes == {STRIPPED: 1}
    coloured = [piece.text for piece in found.rendered[0].pieces if piece.trained]
    assert coloured == ["Four.<|im_end|>", "<think>\n7+1\n</think>\n\n8!<|im_end|>"]


def test_packed_rows_judge_what_single_rows_do(load: Load) -> None:
    tokenizer = load(CHATML, "<|im_end|>")
    for mode in MODES:
        chats = [
            examples.example_of({"messages": messages}, tokenizer, "answers", thoughts=mode)
            for messages in (beside(), within(), beside()[:4])
        ]
        one, packed = (
            batching.make_batch(chats, batching.multiples(8)),
            batching.make_packed(chats, batching.multiples(8), 512),
        )
        judged = [sorted(b.targets[b.weights > 0].tolist()) for b in (one, packed)]
        assert judged[0] == judged[1]
        assert one.judged == packed.judged == sum(sum(mask_of(chat)) for chat in chats)
