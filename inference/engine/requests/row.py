"""One request on its way through the engine, and the clock that measures it."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace

from backends.base import Context, Delta, FinishReason, LoadedModel, PromptToken, Sampling
from inference.engine.requests.places import Place
from inference.engine.requests.text import AnswerText, prompt_tokens
from inference.protocol import Called, Chunk, Done, Event, Generate, Read, Started, TokenInfo

MOST_RESERVED = 1024  # tokens of an answer for which memory is kept free at admission


class Row:
    """A request, where its files are, and when what happened to it.

    Made on the event loop; from `GenerationThread.submit` on, all but `deliver` belongs to the
    generation thread, whose counts others may read. `deliver` is called on the event loop.
    """

    def __init__(self, request: Generate, place: Place, deliver: Callable[[Event], None]) -> None:
        self.request = request
        self.uid = request.request_id
        self.key = request.key
        self.place = place
        self.deliver = deliver
        self.prompt: list[int] | None = None
        self.reading: Iterator[list[PromptToken]] | None = None  # of its prompt, while it lasts
        self.prompt_tokens = 0
        self.cached_tokens = 0
        self.completion_tokens = 0
        self._answer: AnswerText
        self._received = time.perf_counter()
        self._inserted = self._received
        self._loading: tuple[float, float] | None = None  # of its model, which it waited for
        self._first_token: float | None = None
        self._first_tokens = 0  # that came in one step
        self._stop = ""
        self._unheld: list[str] = []

    def encode(self, model: LoadedModel) -> list[int]:
        """The prompt's tokens, computed once."""
        if self.prompt is None:
            request = self.request
            marks = None
            if request.messages:
                self.prompt = model.encode(
                    request.messages, request.tools or None, request.template
                )
                marks = model.thought_marks(self.prompt)
            else:
                self.prompt = list(request.tokens) or model.encode_text(request.text)
            self.prompt_tokens = len(self.prompt)
            reader = model.call_reader(request.tools) if request.tools else None
            self._answer = AnswerText(request.tools, request.sampling.logprobs, marks, reader)
        return self.prompt

    def waited_for_model(self, since: float) -> None:
        """Its model was loaded for it, from that reading of the clock until now."""
        self._loading = (since, time.perf_counter())

    def phases(self) -> Iterator[tuple[str, float, float, Mapping[str, float | int | None]]]:
        """Where its time went until now: name, beginning and end (as `time.perf_counter` has it), and
        what was counted. It begins in the batch with `Started`, and decodes from the first token on."""
        now, loading = time.perf_counter(), self._loading
        begun = self._inserted if self._inserted != self._received else now
        yield "queue", self._received, loading[0] if loading else begun, {}
        if loading:
            yield "load", *loading, {}
        if self._inserted == self._received:
            return
        read = {
            "gen_ai.usage.input_tokens": self.prompt_tokens,
            "gen_ai.usage.cache_read.input_tokens": self.cached_tokens,
        }
        first = now if self._first_token is None else self._first_token
        yield "prefill", self._inserted, first, read
        if self._first_token is not None:
            decoded = self.completion_tokens - self._first_tokens
            seconds = now - first
            rate = round(decoded / seconds, 2) if decoded > 0 and seconds > 0 else None
            written = {
                "gen_ai.usage.output_tokens": self.completion_tokens,
                "hub.tokens_per_second": rate,
            }
            yield "decode", first, now, written

    def sampling(self, model: LoadedModel) -> Sampling:
        """How its tokens are drawn. A tool that must be called is a grammar, and so are tools beside one:
        the answer is a call or what it describes. Strict ones are one that begins with a call. Raises
        BackendError."""
        request = self.request
        if not request.forced_tools:
            wanted = request.sampling.grammar
            if not request.tools or wanted is None:
                if request.tools:
                    wanted, self._unheld = model.strict_grammar(request.tools)
                may_think = bool(request.messages)
                return replace(request.sampling, grammar=wanted, may_think=may_think)
            return replace(request.sampling, grammar=model.tool_grammar(request.tools, wanted))
        tools = [tool for tool in request.tools if tool["function"]["name"] in request.forced_tools]
        return replace(request.sampling, grammar=model.tool_grammar(tools))

    @property
    def may_be_cut(self) -> bool:
        """Whether what it has written so far is an answer, when it cannot go on."""
        return self.request.cut_late and self.completion_tokens > 0

    @property
    def growth(self) -> int:
        """Tokens of context that it will probably still add."""
        wanted = self.request.sampling.most_tokens(MOST_RESERVED)
        return max(0, wanted - self.completion_tokens)

    def soon(self, tokens: int) -> int:
        """The same, of the next `tokens`: also of an answer for whose rest no memory is kept free."""
        said = self.completion_tokens
        return max(0, self.request.sampling.most_tokens(said + tokens) - said)

    @property
    def context(self) -> Context:
        """Its tokens, those included that will probably come."""
        return Context(
            self.prompt_tokens, self.prompt_tokens + self.completion_tokens + self.growth
        )

    def started(self, cached_tokens: int) -> Started:
        """The prompt is in the batch: waiting and loading end here."""
        self._inserted = time.perf_counter()
        self.cached_tokens = cached_tokens
        if self.reading is None:
            self.prompt = None
        load_ms = 0.0
        if self._loading:
            load_ms = round((self._loading[1] - self._loading[0]) * 1000, 3)
        queue_ms = self._since_received(self._inserted)
        return Started(self.uid, self.prompt_tokens, queue_ms, load_ms, self._unheld)

    def shown(self, model: LoadedModel) -> list[Event]:
        """The text of a prompt that came as token ids. Raises BackendError."""
        tokens = self.request.tokens
        return [Read(text=model.decode(tokens))] if tokens else []

    def start_reading(self, model: LoadedModel) -> None:
        """From here on `read` gives its prompt's log-probabilities."""
        top = self.request.prompt_logprobs or 0
        self.reading = model.prompt_logprobs(self.prompt or [], self.place.shared_adapter, top)

    def read(self) -> Read | None:
        """The next of them, after one pass through the model; None after the last."""
        tokens = next(self.reading or iter(()), None)
        return None if tokens is None else Read(logprobs=prompt_tokens(tokens))

    def end_reading(self) -> list[int]:
        """Its prompt, which now is to be answered."""
        prompt, self.prompt, self.reading = self.prompt or [], None, None
        return prompt

    def take(self, delta: Delta, moment: float) -> Chunk | None:
        """Take one more token of the step that ended at this `moment`; the next piece of the answer, if
        there is one."""
        self.completion_tokens += 1
        self._stop = delta.stop
        if self._first_token in (None, moment):
            self._first_token = moment
            self._first_tokens += 1
        return self._answer.take(delta)

    def finish(self, reason: FinishReason, model: LoadedModel) -> list[Event]:
        """The last pieces. Raises ToolUseFailed."""
        chunk, calls = self._answer.finish(model, reason)
        done = self._done("tool_calls" if calls and reason != "length" else reason, calls)
        return [done] if chunk is None else [chunk, done]

    def choose(self, likelihoods: Sequence[float]) -> list[Event]:
        """The answer to a request with labels: the likeliest, and the probability of each given
        that the answer is one of them. `likelihoods` are theirs, in their order."""
        self.completion_tokens = 1
        self._first_token = time.perf_counter()
        chosen = ranked(self.request.labels, likelihoods)
        label, logprob = chosen[0]
        told: TokenInfo = {
            "text": label,
            "bytes": list(label.encode()),
            "logprob": logprob,
            "top": [
                (name, value, list(name.encode()))
                for name, value in chosen[: self.request.sampling.top_logprobs]
            ],
        }
        chunk = Chunk(label, [told] if self.request.sampling.logprobs else None)
        labels = [(name, math.exp(value)) for name, value in chosen]
        return [chunk, replace(self._done("stop", []), labels=labels)]

    @property
    def seconds(self) -> float:
        """Since it was put into the batch."""
        return time.perf_counter() - self._inserted

    def _done(self, reason: FinishReason, calls: list[Called]) -> Done:
        now = time.perf_counter()
        first = self._first_token if self._first_token is not None else now
        # The first ones belong to the prompt's time.
        decoded = self.completion_tokens - max(1, self._first_tokens)
        return Done(
            finish_reason=reason,
            prompt_tokens=self.prompt_tokens,
            completion_tokens=self.completion_tokens,
            queue_ms=self._since_received(self._inserted),
            first_token_ms=self._since_received(first),
            total_ms=self._since_received(now),
            tokens_per_second=round(decoded / (now - first), 2) if decoded > 0 else None,
            cached_tokens=self.cached_tokens,
            tool_calls=calls,
            stop=self._stop,
            thought_tokens=self._answer.thought_tokens,
        )

    def _since_received(self, moment: float) -> float:
        return round((moment - self._received) * 1000, 3)


def ranked(labels: Sequence[str], likelihoods: Sequence[float]) -> list[tuple[str, float]]:
    """The labels with their log-probabilities among each other, the likeliest first."""
    most = max(likelihoods)
    total = most + math.log(math.fsum(math.exp(value - most) for value in likelihoods))
    pairs = [(label, value - total) for label, value in zip(labels, likelihoods, strict=True)]
    return sorted(pairs, key=lambda pair: -pair[1])
