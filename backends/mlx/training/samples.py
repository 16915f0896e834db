"""The model's greedy answers to prompts of the validation split during training."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mlx.core as mx
from mlx_lm.models.cache import make_prompt_cache

from backends.base import Sampled, TrainingConfig
from backends.examples import is_labelled, judged
from backends.mlx.data.examples import request_and_answer

_READ = 256  # tokens of a prompt at a time


@dataclass(frozen=True)
class Question:
    """A prompt as tokens and as text for a person, and the right answer."""

    line: int
    tokens: list[int]
    prompt: str
    expected: str


def read_questions(path: Path, tokenizer: Any, config: TrainingConfig) -> list[Question]:
    """The first `config.samples` usable examples of the validation split `path`."""
    found: list[Question] = []
    if not config.samples:
        return found
    with path.open(encoding="utf-8", newline="\n") as file:
        for number, line in enumerate(file, start=1):
            if len(found) == config.samples:
                break
            value = json.loads(line) if line.strip() else {}
            bad = is_labelled(value) and not value["label"]  # which is not expected
            if value and not bad:
                question = _question(value, number, tokenizer, config)
                if len(question.tokens) < config.max_seq_length:
                    found.append(question)
    return found


def answers(
    model: Any, tokenizer: Any, questions: list[Question], iteration: int, max_tokens: int
) -> Iterator[Sampled]:
    """One event for each question. The model is left in evaluation mode."""
    model.eval()
    for question in questions:
        spoken = list(_greedy(model, tokenizer, question.tokens, max_tokens))
        yield Sampled(
            iteration=iteration,
            line=question.line,
            prompt=question.prompt,
            expected=question.expected,
            answer=tokenizer.decode(spoken).strip(),
        )


def _question(value: Any, line: int, tokenizer: Any, config: TrainingConfig) -> Question:
    if "chosen" in value or is_labelled(value):
        (value, _), *_ = judged(value)
    asked, said = request_and_answer(
        value, tokenizer, config.special_tokens, config.thoughts, config.tools
    )
    # The request without the template's words, where there is one.
    chat = value.get("messages")
    request = str(chat[-2]["content"] if chat else value.get("prompt", ""))
    ended = bool(said) and said[-1] in tokenizer.eos_token_ids
    return Question(
        line=line,
        tokens=asked,
        prompt=request or tokenizer.decode(asked),
        expected=tokenizer.decode(said[:-1] if ended else said).strip(),
    )


def _greedy(model: Any, tokenizer: Any, prompt: list[int], max_tokens: int) -> Iterator[int]:
    """Tokens until the model ends or `max_tokens`. mlx-lm's own generator uses a stream that
    belongs to the thread which imported it."""
    cache: Any = make_prompt_cache(model)
    for at in range(0, len(prompt) - 1, _READ):
        # Nothing asks for the logits, so that they are not computed: a prompt's are large.
        model(mx.array([prompt[at : min(at + _READ, len(prompt) - 1)]]), cache=cache)
        mx.eval([part.state for part in cache])
    tokens = mx.array([prompt[-1:]])
    for _ in range(max_tokens):
        chosen = model(tokens, cache=cache)[:, -1].argmax(axis=-1)
        token = int(chosen.item())
        if token in tokenizer.eos_token_ids:
            return
        yield token
        tokens = chosen[:, None]
