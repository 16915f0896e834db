"""Plain completions and embeddings with the real `openai` client, real processes."""

import re
from typing import Any

import openai
import pytest

from tests.inference.openai_asking import complete
from tests.inference.processes import Hub

pytestmark = pytest.mark.any_database


def test_a_text_is_continued(hub: Hub) -> None:
    answer = complete(hub)
    assert answer.object == "text_completion"
    assert answer.id.startswith("cmpl-")
    assert answer.choices[0].text
    chunks = list(complete(hub, stream=True))
    assert "".join(chunk.choices[0].text for chunk in chunks) == answer.choices[0].text
    assert chunks[-1].choices[0].finish_reason == "stop"


def test_several_prompts_are_answered_in_order(hub: Hub) -> None:
    prompts = ["Once upon a time", "In the end"]
    answer = complete(hub, prompt=prompts, n=2, temperature=1, seed=3)
    alone = [
        complete(hub, prompt=prompt, temperature=1, seed=seed).choices[0].text
        for prompt in prompts
        for seed in (3, 4)
    ]
    assert [choice.text for choice in answer.choices] == alone


def test_echo_says_the_prompt_first(hub: Hub) -> None:
    plain = complete(hub).choices[0].text
    assert complete(hub, echo=True).choices[0].text == "Once upon a time" + plain
    chunks = complete(hub, echo=True, stream=True)
    assert "".join(chunk.choices[0].text for chunk in chunks) == "Once upon a time" + plain


def test_logprobs_have_the_old_form(hub: Hub) -> None:
    answer = complete(hub, logprobs=2, max_tokens=5)
    told = answer.choices[0].logprobs
    assert len(told.tokens) == len(told.token_logprobs) == len(told.text_offset) == 5
    assert all(len(top) == 2 for top in told.top_logprobs)
    streamed = [c.choices[0].logprobs for c in complete(hub, logprobs=2, max_tokens=5, stream=True)]
    offsets = [offset for one in streamed if one for offset in one.text_offset]
    assert offsets == told.text_offset
    text = answer.choices[0].text
    ends = [*offsets[1:], len(text)]
    pieces = [text[start:end] for start, end in zip(offsets, ends, strict=True)]
    # Half a character is named by its bytes, and begins where the whole one does.
    assert all(
        piece == token or token.startswith("bytes:\\x")
        for piece, token in zip(pieces, told.tokens, strict=True)
    )


@pytest.mark.parametrize(
    ("more", "param"),
    [({"best_of": 3}, "best_of"), ({"suffix": "end"}, "suffix")],
)
def test_what_completions_do_not_honour_is_refused(hub: Hub, more: Any, param: str) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        complete(hub, **more)
    assert str(caught.value.param).startswith(param)


def test_texts_are_embedded(hub: Hub) -> None:
    texts = ["lunch with Ana", "lunch with Ana today", "a wholly different thing"]
    answer = hub.openai.embeddings.create(model="calendar", input=texts)  # base64 by default
    exact = hub.openai.embeddings.create(model="calendar", input=texts, encoding_format="float")
    one, near, far = (row.embedding for row in answer.data)
    assert sum(x * x for x in one) == pytest.approx(1, abs=1e-5)
    assert _dot(one, near) > _dot(one, far)
    assert one == pytest.approx(exact.data[0].embedding, abs=1e-6)
    assert answer.usage.prompt_tokens == answer.usage.total_tokens > 0
    assert answer.model == "calendar@0.2.0"


def _dot(one: list[float], other: list[float]) -> float:
    return sum(a * b for a, b in zip(one, other, strict=True))


def test_parts_of_characters_are_named_by_their_bytes(hub: Hub) -> None:
    """As texts they would all be U+FFFD: one name for many rivals."""
    told = complete(hub, prompt="Cats", n=8, temperature=1, seed=5, logprobs=3)
    names = [name for choice in told.choices for name in choice.logprobs.tokens]
    halves = [name for name in names if name.startswith("bytes:")]
    assert halves
    assert not any("\ufffd" in name for name in names)
    assert re.fullmatch(r"bytes:(\\x[0-9a-f]{2})+", halves[0])
    assert all(
        len(top) == 3 and name in top
        for choice in told.choices
        for name, top in zip(choice.logprobs.tokens, choice.logprobs.top_logprobs, strict=True)
    )
