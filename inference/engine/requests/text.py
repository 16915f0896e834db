"""The text of one answer on its way out, told apart into thoughts, words and tool calls."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from backends.base import (
    BackendError,
    CallReader,
    Delta,
    FinishReason,
    LoadedModel,
    PromptToken,
    ThoughtMarks,
    TokenLogprob,
    ToolCall,
)
from backends.text import StopText
from backends.thoughts import Divider
from inference.protocol import Called, CalledPiece, Chunk, ReadToken, TokenInfo, ToolUseFailed

# How a call starts in the templates whose calls mlx-lm can parse.
MARKERS = (
    "<tool_call>",
    "<|tool_call>",
    "<|tool_call_start|>",
    "<|tool_calls_section_begin|>",
    "<|open|>tools<|sep|>",
    "<longcat_tool_call>",
    "<minimax:tool_call>",
    "<start_function_call>",
    "<atem:function_calls>",
    "<function",
    "<|python_tag|>",
    "[TOOL_CALLS]",
)


def rivals(top: Sequence[TokenLogprob]) -> list[tuple[str, float, list[int]]]:
    """As the protocol tells them."""
    return [(rival.text, rival.logprob, list(rival.data)) for rival in top]


def prompt_tokens(tokens: Sequence[PromptToken]) -> list[ReadToken]:
    """As the protocol tells them."""
    return [
        {
            "text": token.text,
            "bytes": list(token.data),
            "logprob": token.logprob,
            "top": rivals(token.top),
        }
        for token in tokens
    ]


class AnswerText:
    """Takes deltas, gives chunks. With tools, what may be a call is held back until the end, but for the
    pieces of it that `reader` knows. Without `marks` there are no thoughts: a text is continued."""

    def __init__(
        self,
        tools: Sequence[dict[str, Any]],
        with_logprobs: bool,
        marks: ThoughtMarks | None = None,
        reader: CallReader | None = None,
    ) -> None:
        self.thought_tokens = 0
        self._divider = None
        if marks is not None:
            self._divider = Divider(marks.open, marks.close, marks.words, opened=marks.opened)
        self._tools = tools
        self._reader = reader
        self._with_logprobs = with_logprobs
        self._logprobs: list[TokenInfo] = []
        self._undecided: list[TokenInfo] = []  # of what may be a mark
        self._words = False  # there were log-probabilities of words
        self._marks = StopText(MARKERS if tools else ())
        self._whole: list[str] = []
        self._shown = 0  # characters of the answer that were sent
        self._sent: dict[int, list[str]] = {}  # of the arguments of each call

    def take(self, delta: Delta) -> Chunk | None:
        """The next piece for the reader, if any."""
        thoughts, words = self._divided(delta.text)
        if self._with_logprobs:
            self._note(delta, words)
        if not self._tools:
            return self._chunk(words, thoughts)
        if not self._whole and words.lstrip().startswith("{"):
            self._marks.stopped = True  # some templates write a call as bare JSON
        called = self._called(words)
        return self._chunk(self._marks.push(words), thoughts, called, hold=self._marks.stopped)

    def _note(self, delta: Delta, words: str) -> None:
        """Log-probabilities of words alone: not of thoughts, nor of the marks around them."""
        told: TokenInfo = {
            "text": delta.piece,
            "bytes": list(delta.data),
            "logprob": delta.logprob,
            "top": rivals(delta.top),
        }
        divider = self._divider
        if divider and divider.is_undecided:
            self._undecided.append(told)
            return
        held, self._undecided = self._undecided, []
        if self._thinks:
            return
        if divider and divider.marked and not self._words:
            self._logprobs += [told] if words else []
        else:
            self._logprobs += [*held, told]
        self._words = True

    def _called(self, words: str) -> list[CalledPiece]:
        """What the next words of the answer say of its calls."""
        self._whole.append(words)
        pieces = self._reader.push(words) if self._reader else []
        for piece in pieces:
            self._sent.setdefault(piece.number, []).append(piece.arguments)
        return [{"number": p.number, "name": p.name, "arguments": p.arguments} for p in pieces]

    def _divided(self, text: str) -> tuple[str, str]:
        """(thoughts, words) that may be shown now."""
        self._thinks = False
        if self._divider is None:
            return "", text
        before = self._divider.is_thinking
        divided = self._divider.push(text)
        self._thinks = before or self._divider.is_thinking
        self.thought_tokens += self._thinks
        return divided

    def finish(self, model: LoadedModel, reason: FinishReason) -> tuple[Chunk | None, list[Called]]:
        """What was held back: text, and the calls in it. Raises ToolUseFailed.

        A call cut short by the token limit is not an error: it comes as text, with that reason.
        """
        thoughts, words = self._divider.flush() if self._divider else ("", "")
        self._logprobs += self._undecided
        if not self._tools:
            return self._chunk(words, thoughts, hold=True), []
        pieces = self._called(words)
        whole = "".join(self._whole)
        try:
            rest, calls, unfinished = *model.parse_tool_calls(whole, self._tools), ""
            pieces += self._left(calls, whole)
        except BackendError as error:
            if reason != "length":
                raise ToolUseFailed(str(error), whole) from error
            rest, calls, unfinished = self._parse_cut(whole, model)
        if not calls:
            return self._chunk(whole[self._shown :], thoughts, pieces), []
        # The text beside the calls, without what was sent already.
        beside = rest[self._shown :] if rest.startswith(whole[: self._shown].strip()) else ""
        called: list[Called] = [{"name": c.name, "arguments": c.arguments} for c in calls]
        return self._chunk(beside + unfinished, thoughts, pieces), called

    def _left(self, calls: Sequence[ToolCall], whole: str) -> list[CalledPiece]:
        """What was not sent of calls that have begun, whose reader could not follow them to their end.
        Raises BackendError where what was sent is not how they begin."""
        left: list[CalledPiece] = []
        for number, parts in self._sent.items():
            sent = "".join(parts)
            if number >= len(calls) or not calls[number].arguments.startswith(sent):
                start = whole.strip()[:80]
                raise BackendError(
                    f"The answer begins a tool call that cannot be read: {start!r}; ask again."
                )
            if more := calls[number].arguments[len(sent) :]:
                left.append({"number": number, "name": "", "arguments": more})
        return left

    def _parse_cut(self, whole: str, model: LoadedModel) -> tuple[str, list[ToolCall], str]:
        """Text and calls before the last start of a call, and the text from there on."""
        for start in sorted({*map(whole.rfind, MARKERS)} - {-1}, reverse=True):
            with suppress(BackendError):  # one mark may stand within a call that another begins
                return *model.parse_tool_calls(whole[:start], self._tools), whole[start:]
        return "", [], whole

    def _chunk(
        self,
        text: str,
        thoughts: str = "",
        calls: list[CalledPiece] | None = None,
        hold: bool = False,
    ) -> Chunk | None:
        """With `hold` log-probabilities alone are no reason to send one."""
        self._shown += len(text)
        if not text and not thoughts and (hold or not self._logprobs):
            return Chunk("", calls=calls) if calls else None
        logprobs, self._logprobs = self._logprobs, []
        return Chunk(text, logprobs or None, thoughts, calls or [])
