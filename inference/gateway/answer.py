"""An answer as every API translates it: whole, or as a stream that has started."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field

from inference.protocol import Chunk, Done, Read, ReadToken, Started, TokenInfo
from registry.promotion.resolve import Served

# The events of a request's answers, each with the number of its answer.
Events = AsyncGenerator[tuple[int, Started | Read | Chunk | Done]]


@dataclass
class Answer:
    """One whole answer: its words, and the thoughts before them. `unheld` are strict tools whose calls are not
    enforced. `done` has its finish reason, tool calls, usage and timings; `logprobs`
    its tokens, `prompt` those of its prompt, when they were requested; `prompt_text` is set for a
    prompt of token ids."""

    served: Served
    request_id: str = ""
    unheld: Sequence[str] = ()
    text: str = ""
    thoughts: str = ""
    logprobs: list[TokenInfo] = field(default_factory=list)
    prompt: list[ReadToken] = field(default_factory=list)
    prompt_text: str = ""
    done: Done = field(init=False)


@dataclass
class Direct:
    """The short way of a stream's texts, for who waits for its events: where `take` is set, it gets each
    piece as it comes, and says whether it took it. Otherwise that is the next event."""

    take: Callable[[Chunk], bool] | None = None


@dataclass(frozen=True)
class Stream:
    """Answers that have started. Close `events` to stop them all (use `aclosing`)."""

    served: Served
    started: Started  # of the answer that came first
    events: Events
    answers: int = 1
    direct: Direct = field(default_factory=Direct)  # unused for several answers


async def collect(served: Served, events: Events, answers: int) -> list[Answer]:
    """The whole answers, in order, once the last has ended. Raises what `events` raises."""
    whole = [Answer(served) for _ in range(answers)]
    texts: list[list[str]] = [[] for _ in whole]
    thoughts: list[list[str]] = [[] for _ in whole]
    async with aclosing(events):
        async for index, event in events:
            if isinstance(event, Chunk):
                texts[index].append(event.text)
                thoughts[index].append(event.thoughts)
                whole[index].logprobs += event.logprobs or []
            elif isinstance(event, Started):
                whole[index].request_id, whole[index].unheld = event.request_id, event.unheld
            elif isinstance(event, Read):
                whole[index].prompt += event.logprobs or []
                whole[index].prompt_text += event.text
            else:
                whole[index].done = event
    for answer, words, thought in zip(whole, texts, thoughts, strict=True):
        answer.text, answer.thoughts = "".join(words), "".join(thought)
    return whole
