"""What clients of the native API and of the WebSocket send."""

from __future__ import annotations

import json
from dataclasses import fields
from typing import Annotated, Any, Literal, cast

from pydantic import BaseModel, ConfigDict, Field, model_validator

from backends.base import Grammar, Message, Sampling
from inference.gateway.request import MAX_MESSAGES, GenerationRequest


class ChatMessage(BaseModel):
    model_config = ConfigDict(extra="forbid")

    role: Literal["system", "user", "assistant", "tool"]
    content: Annotated[str, Field(max_length=1_000_000)]
    reasoning_content: Annotated[str | None, Field(max_length=1_000_000)] = None
    tool_calls: Annotated[list[dict[str, Any]] | None, Field(max_length=128)] = None
    tool_call_id: Annotated[str | None, Field(max_length=200)] = None
    name: Annotated[str | None, Field(max_length=200)] = None

    def message(self) -> Message:
        """As backends read it."""
        return cast(Message, self.model_dump(exclude_none=True))


class SamplingIn(BaseModel):
    """How the answer is made. By default it is greedy and repeatable."""

    max_tokens: Annotated[
        int | None,
        Field(
            ge=1,
            lt=2**31,
            description="By default to the end of the context, or until the deadline",
        ),
    ] = None
    temperature: Annotated[float, Field(ge=0, le=2, description="0 is greedy")] = 0.0
    top_p: Annotated[float, Field(ge=0, le=1, description="0 is greedy")] = 1.0
    top_k: Annotated[int, Field(ge=0, description="0 is off")] = 0
    min_p: Annotated[float, Field(ge=0, le=1)] = 0.0
    seed: Annotated[int | None, Field(ge=0, lt=2**63)] = None
    stop: Annotated[
        list[Annotated[str, Field(min_length=1, max_length=200)]], Field(max_length=16)
    ] = []
    repetition_penalty: Annotated[float, Field(gt=0, le=10, description="1 is off")] = 1.0
    repetition_context: Annotated[int, Field(ge=1, le=4096, description="Tokens")] = 64
    presence_penalty: Annotated[float, Field(ge=-2, le=2)] = 0.0
    frequency_penalty: Annotated[float, Field(ge=-2, le=2)] = 0.0
    logit_bias: Annotated[
        dict[int, Annotated[float, Field(ge=-100, le=100)]],
        Field(max_length=1024, description="Added to the logits of these tokens"),
    ] = {}
    logprobs: Annotated[bool, Field(description="Return each token's log-probability")] = False
    top_logprobs: Annotated[
        int, Field(ge=0, le=20, description="And that many likeliest alternatives")
    ] = 0
    max_kv_tokens: Annotated[
        int, Field(ge=0, description="Keep a rotating window of that many tokens; 0 keeps all")
    ] = 0
    thinking_budget: Annotated[
        int | None,
        Field(
            ge=0,
            le=1_000_000,
            description="After so many tokens of thoughts the answer has to begin",
        ),
    ] = None
    template: Annotated[
        dict[str, Any],
        Field(
            max_length=50,
            description="Variables of the model's chat template, such as enable_thinking",
        ),
    ] = {}
    json_schema: Annotated[
        dict[str, Any] | None, Field(description="The answer is JSON that fits this schema")
    ] = None
    regex: Annotated[
        str | None, Field(min_length=1, max_length=10_000, description="The answer matches this")
    ] = None

    def sampling(self) -> Sampling:
        same = (f.name for f in fields(Sampling) if f.name in SamplingIn.model_fields)
        values = {name: getattr(self, name) for name in same}
        values |= {"stop": tuple(self.stop), "logit_bias": tuple(self.logit_bias.items())}
        grammar = None
        if self.json_schema is not None:
            grammar = Grammar("json_schema", json.dumps(self.json_schema))
        elif self.regex is not None:
            grammar = Grammar("regex", self.regex)
        return Sampling(**values, grammar=grammar)


class InferenceIn(SamplingIn):
    """Either `messages`, or `prompt` as a short form of one user message."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [
                {
                    "model": "calendar",
                    "prompt": "Lunch with Ana next Friday at noon",
                    "max_tokens": 128,
                },
                {
                    "model": "calendar@0.1.0",
                    "messages": [{"role": "user", "content": "Dentist on May 3rd, 9:30"}],
                    "temperature": 0.7,
                    "seed": 1,
                },
            ]
        },
    )

    model: Annotated[str, Field(min_length=1, max_length=250)]
    messages: Annotated[list[ChatMessage], Field(max_length=MAX_MESSAGES)] = []
    prompt: Annotated[str | None, Field(min_length=1, max_length=1_000_000)] = None
    tools: Annotated[
        list[dict[str, Any]], Field(max_length=128, description="OpenAI's function descriptions")
    ] = []
    deadline_s: Annotated[
        float | None,
        Field(gt=0, le=86_400, description="Seconds after which the request fails"),
    ] = None
    classify: Annotated[
        bool | None,
        Field(
            description="Answer with one of the version's labels, and the probability of each; by "
            "default so for a classification version, unless json_schema, regex or tools are sent"
        ),
    ] = None

    @model_validator(mode="after")
    def _one_of_each(self) -> InferenceIn:
        if bool(self.messages) == (self.prompt is not None):
            raise ValueError("send either messages or prompt")
        if self.json_schema is not None and self.regex is not None:
            raise ValueError("send either json_schema or regex")
        return self

    def chat(self) -> list[Message]:
        if self.prompt is not None:
            return [Message(role="user", content=self.prompt)]
        return [message.message() for message in self.messages]

    def request(self) -> GenerationRequest:
        return GenerationRequest(
            model=self.model,
            prompts=[self.chat()],
            sampling=self.sampling(),
            tools=self.tools,
            template=self.template,
            deadline_s=self.deadline_s,
            classify=self.classify,
        )


class EmbeddingsIn(BaseModel):
    """Texts to embed."""

    model_config = ConfigDict(extra="forbid")

    model: Annotated[str, Field(min_length=1, max_length=250)]
    input: Annotated[
        str | Annotated[list[Annotated[str, Field(min_length=1)]], Field(max_length=2048)],
        Field(min_length=1),
    ]

    def texts(self) -> list[str]:
        return [self.input] if isinstance(self.input, str) else self.input
