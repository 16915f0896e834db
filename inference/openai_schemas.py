"""OpenAI's chat request: what of it the hub honours, and a clear no to the rest."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from backends.base import Message, Sampling
from inference.schemas import DEFAULT_MAX_TOKENS, MAX_MESSAGES
from registry.errors import HubError

_StopText = Annotated[str, Field(min_length=1, max_length=200)]
_MaxTokens = Annotated[int, Field(ge=1, le=131_072)]

# Parameters of OpenAI's API that the hub does not honour, and the values that ask for nothing.
_NEUTRAL: dict[str, tuple[Any, ...]] = {
    "n": (1,),
    "frequency_penalty": (0,),
    "presence_penalty": (0,),
    "logit_bias": ({},),
    "logprobs": (False,),
    "top_logprobs": (0,),
    "tools": ([],),
    "tool_choice": ("none", "auto"),
    "functions": ([],),
    "function_call": ("none", "auto"),
    "parallel_tool_calls": (True, False),
    "response_format": ({"type": "text"},),
    "modalities": (["text"],),
    "audio": (),
    "prediction": (),
    "reasoning_effort": ("none",),
    "service_tier": ("auto", "default"),
    "store": (False,),
    "verbosity": (),
    "web_search_options": (),
}
# These say who asks and why; they change no answer.
_IGNORED = ("user", "metadata", "safety_identifier", "prompt_cache_key")


class Unsupported(HubError):
    """A parameter that the hub would have to disobey."""

    def __init__(self, param: str, message: str, code: str) -> None:
        super().__init__(message)
        self.param = param
        self.code = code


class TextPart(BaseModel):
    model_config = ConfigDict(extra="forbid")

    type: Literal["text"]
    text: Annotated[str, Field(max_length=1_000_000)]


class ChatMessageIn(BaseModel):
    """`content` is a text or a list of text parts. A developer message counts as system."""

    model_config = ConfigDict(extra="ignore")  # answers sent back carry refusal, annotations, …

    role: Literal["system", "developer", "user", "assistant"]
    content: (
        Annotated[str, Field(max_length=1_000_000)]
        | Annotated[list[TextPart], Field(min_length=1, max_length=100)]
    )

    def message(self) -> Message:
        text = self.content
        if not isinstance(text, str):
            text = "".join(part.text for part in text)
        return Message(role="system" if self.role == "developer" else self.role, content=text)


class StreamOptions(BaseModel):
    model_config = ConfigDict(extra="ignore")

    include_usage: bool = False


class ChatCompletionIn(BaseModel):
    """Without `temperature` the answer is greedy and repeatable, as in mlx_lm.server."""

    model_config = ConfigDict(
        extra="allow",
        json_schema_extra={
            "examples": [
                {
                    "model": "calendar",
                    "messages": [{"role": "user", "content": "Lunch with Ana next Friday at noon"}],
                    "max_tokens": 128,
                    "stream": True,
                    "stream_options": {"include_usage": True},
                }
            ]
        },
    )

    model: Annotated[str, Field(min_length=1, max_length=250)]
    messages: Annotated[list[ChatMessageIn], Field(min_length=1, max_length=MAX_MESSAGES)]
    stream: bool | None = False
    stream_options: StreamOptions | None = None
    max_tokens: _MaxTokens | None = None
    max_completion_tokens: _MaxTokens | None = None
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    top_p: Annotated[float, Field(gt=0, le=1)] | None = None
    top_k: Annotated[int, Field(ge=0)] | None = None
    min_p: Annotated[float, Field(ge=0, le=1)] | None = None
    seed: Annotated[int, Field(ge=-(2**63), lt=2**63)] | None = None
    stop: _StopText | Annotated[list[_StopText], Field(max_length=16)] | None = None

    def refuse_unsupported(self) -> None:
        """Raises Unsupported for the first parameter that would be disobeyed."""
        for name, value in (self.model_extra or {}).items():
            if name not in _NEUTRAL and name not in _IGNORED:
                raise Unsupported(name, f"Unknown parameter: {name!r}.", "unknown_parameter")
            if name in _NEUTRAL and value is not None and value not in _NEUTRAL[name]:
                raise Unsupported(
                    name,
                    f"The hub does not support {name}={value!r}; leave it out.",
                    "unsupported_parameter",
                )

    @property
    def include_usage(self) -> bool:
        return self.stream_options is not None and self.stream_options.include_usage

    def chat(self) -> list[Message]:
        return [message.message() for message in self.messages]

    def sampling(self) -> Sampling:
        stop = (self.stop,) if isinstance(self.stop, str) else tuple(self.stop or ())
        return Sampling(
            max_tokens=self.max_completion_tokens or self.max_tokens or DEFAULT_MAX_TOKENS,
            temperature=self.temperature or 0.0,
            top_p=1.0 if self.top_p is None else self.top_p,
            top_k=self.top_k or 0,
            min_p=self.min_p or 0.0,
            # Sampling takes any whole number that is not negative.
            seed=None if self.seed is None else self.seed % 2**63,
            stop=stop,
        )
