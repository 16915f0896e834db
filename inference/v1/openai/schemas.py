"""OpenAI's requests: what the hub honours, and a clear refusal of the rest."""

from __future__ import annotations

import json
from typing import Annotated, Any, ClassVar, Literal, cast

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from backends.base import Grammar, Message, Sampling
from inference.gateway.request import (
    MAX_MESSAGES,
    GenerationRequest,
    Prompt,
    TokenPrompt,
)
from inference.v1 import thinking
from inference.v1.compatibility import (
    MINUS_ONE_IS_OFF,
    CompatibleRequest,
    MaxTokensOrOff,
    ModelName,
    Refused,
    StopText,
    Text,
    TopK,
    TopP,
)
from inference.v1.openai import messages as openai_messages
from inference.v1.openai import texts
from inference.v1.openai.messages import (
    ChatMessageIn,
    NamedCustomTool,
    NamedTool,
    ToolChoice,
    ToolIn,
)
from inference.v1.thinking import Budget, Effort, TemplateVariables, Thinking

MAX_ANSWERS = 16  # answers of one request
MAX_PROMPTS = 256  # of one request for completions, and their answers
MAX_TEXTS = 2048  # of one request for embeddings
_LABEL = "labels the request"
_UNHEEDED = {
    "ignore_eos": Refused("an answer ends where the model ends it", (False,)),
    "min_tokens": Refused("an answer ends where the model ends it", (0,)),
}
_FORMAT = Refused("send response_format with a JSON schema")
# Of other servers. An answer that keeps to none of them is of no use, so they are not ignored.
_GRAMMARS = ("guided_json", "guided_regex", "guided_choice", "guided_grammar", "grammar")
_OTHER_GRAMMARS = dict.fromkeys((*_GRAMMARS, "structured_outputs", "json_schema"), _FORMAT)


class Problem(BaseModel):
    message: str = Field(description="One sentence: what is wrong and what to do")
    type: str = Field(examples=["invalid_request_error"])
    param: str | None = None
    code: str | None = Field(None, examples=["model_not_found"])
    failed_generation: str | None = Field(None, description="What the model wrote before it failed")


class ErrorOut(BaseModel):
    """What every failed request is answered with."""

    error: Problem


class StreamOptions(BaseModel):
    model_config = ConfigDict(extra="ignore")

    include_usage: bool = False


class SampledIn(CompatibleRequest):
    """What chat and plain completions share. Without `temperature` the answer is greedy and
    repeatable, as in mlx_lm.server."""

    model: ModelName
    stream: bool | None = False
    stream_options: Annotated[
        StreamOptions | None, Field(description="`include_usage` adds a last chunk with the usage")
    ] = None
    n: Annotated[
        int | None,
        Field(ge=1, le=MAX_ANSWERS, description=f"1 to {MAX_ANSWERS}; answer i uses the seed + i"),
    ] = None
    max_tokens: Annotated[
        MaxTokensOrOff,
        Field(
            description="by default, and with -1, to the end of the context, or to where the hub's "
            "deadline or its memory ends the answer, as `length`"
        ),
    ] = None
    temperature: Annotated[float | None, Field(ge=0, le=2, description="0 (greedy) by default")] = (
        None
    )
    top_p: Annotated[TopP | None, Field(description="0 keeps the likeliest token alone")] = None
    seed: Annotated[
        int | None, Field(ge=-(2**63), lt=2**63, description="the same seed gives the same text")
    ] = None
    stop: Annotated[
        StopText | Annotated[list[StopText], Field(max_length=16)] | None,
        Field(description="up to 16 texts of up to 200 characters"),
    ] = None
    presence_penalty: Annotated[float, Field(ge=-2, le=2)] | None = None
    frequency_penalty: Annotated[float, Field(ge=-2, le=2)] | None = None
    logit_bias: Annotated[
        dict[Annotated[int, Field(ge=0)], Annotated[float, Field(ge=-100, le=100)]] | None,
        Field(max_length=1024, description="up to 1024 tokens of the model's own vocabulary"),
    ] = None
    top_k: Annotated[TopK | None, Field(description="not OpenAI's; 0 and -1 are off")] = None
    min_p: Annotated[float | None, Field(ge=0, le=1, description="not OpenAI's; 0 is off")] = None
    repetition_penalty: Annotated[
        float | None, Field(gt=0, le=10, description="not OpenAI's; 1 is off")
    ] = None

    deadline_s: Annotated[
        float | None,
        Field(gt=0, le=86_400, description="not OpenAI's; seconds after which the request fails"),
    ] = None

    @property
    def include_usage(self) -> bool:
        return self.stream_options is not None and self.stream_options.include_usage

    def _sampling(self, **more: Any) -> Sampling:
        stop = (self.stop,) if isinstance(self.stop, str) else tuple(self.stop or ())
        # Sampling takes any whole number that is not negative.
        seed = None if self.seed is None else self.seed % 2**63
        return Sampling(
            temperature=self.temperature or 0.0,
            top_p=1.0 if self.top_p is None else self.top_p,
            top_k=self.top_k or 0,
            min_p=self.min_p or 0.0,
            seed=seed,
            stop=stop,
            repetition_penalty=self.repetition_penalty or 1.0,
            presence_penalty=self.presence_penalty or 0.0,
            frequency_penalty=self.frequency_penalty or 0.0,
            logit_bias=tuple((self.logit_bias or {}).items()),
            **more,
        )


# --------------------------------------------------------------------------- chat


class PlainFormat(BaseModel):
    type: Literal["text"]

    def grammar(self) -> Grammar | None:
        return None


class JsonObjectFormat(BaseModel):
    """With a `schema`, as llama.cpp and Together take it, the object fits that."""

    model_config = ConfigDict(extra="forbid", populate_by_name=True)

    type: Literal["json_object"]
    schema_: Annotated[dict[str, Any] | None, Field(alias="schema")] = None

    def grammar(self) -> Grammar | None:
        if self.schema_ is None:
            return Grammar("json_object")
        return Grammar("json_schema", json.dumps(self.schema_))


class NamedSchema(BaseModel):
    """`strict` or not, the schema is enforced token by token."""

    model_config = ConfigDict(extra="forbid", populate_by_name=True)

    name: Annotated[str, Field(min_length=1, max_length=64)]
    description: Text | None = None
    schema_: Annotated[dict[str, Any], Field(alias="schema")] = {}
    strict: bool | None = None


class JsonSchemaFormat(BaseModel):
    model_config = ConfigDict(extra="forbid")

    type: Literal["json_schema"]
    json_schema: NamedSchema

    def grammar(self) -> Grammar | None:
        return Grammar("json_schema", json.dumps(self.json_schema.schema_))


ResponseFormat = Annotated[
    PlainFormat | JsonObjectFormat | JsonSchemaFormat, Field(discriminator="type")
]


class ChatCompletionIn(SampledIn):
    """A chat to answer."""

    model_config = ConfigDict(
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
    IGNORED: ClassVar = {
        "user": _LABEL,
        "metadata": _LABEL,
        "safety_identifier": _LABEL,
        "prompt_cache_key": "the prefix cache is automatic",
        "prompt_cache_options": "the prefix cache is automatic",
        "prompt_cache_retention": "the prefix cache keeps what fits its budget",
        "service_tier": "there is only one tier",
    }
    UNHEEDED: ClassVar = {
        **_UNHEEDED,
        "prediction": Refused("predicted outputs are not used; the answer is the same"),
        "store": Refused("the hub's own log keeps what HUB_LOG_PROMPTS says", (False,)),
        "verbosity": Refused("say in the prompt how long the answer should be", ("medium",)),
    }
    REFUSED: ClassVar = {
        "best_of": Refused("it was never part of chats; use n and choose yourself", (1,)),
        "functions": Refused("send tools instead", ([],)),
        "function_call": Refused("send tool_choice instead", ("none", "auto")),
        "modalities": Refused("answers are text only", (["text"],)),
        "audio": Refused("answers are text only"),
        "moderation": Refused("the hub has no moderation"),
        **_OTHER_GRAMMARS,
        "web_search_options": Refused("the hub does not search the web"),
    }

    messages: Annotated[
        list[ChatMessageIn],
        Field(
            min_length=1,
            max_length=MAX_MESSAGES,
            description="texts of system, developer, user, assistant and tool; images are refused",
        ),
    ]
    reasoning_effort: Annotated[
        Effort | None,
        Field(description="for the chat template; none turns thinking off where it can be"),
    ] = None
    thinking: Annotated[
        Thinking | None, Field(description="not OpenAI's; enabled, disabled, and `budget_tokens`")
    ] = None
    enable_thinking: Annotated[
        bool | None, Field(description="not OpenAI's; the chat template's own variable")
    ] = None
    thinking_budget: Annotated[
        Budget | None,
        Field(description="not OpenAI's; after so many tokens of thoughts the answer has to begin"),
    ] = None
    chat_template_kwargs: Annotated[
        TemplateVariables | None,
        Field(description="not OpenAI's; variables of the model's chat template"),
    ] = None
    max_completion_tokens: Annotated[
        MaxTokensOrOff, Field(description="the same as max_tokens; wins if both are sent")
    ] = None
    logprobs: Annotated[
        bool | None, Field(description="a label of a classification version counts as one token")
    ] = None
    top_logprobs: Annotated[
        int | None, Field(ge=0, le=20, description="0 to 20, with logprobs")
    ] = None
    response_format: Annotated[
        ResponseFormat | None,
        Field(
            description="json_object and json_schema are enforced token by token, with or "
            "without `strict`; with tools the answer is calls or what it describes; text has a classification version "
            "answer in its own words"
        ),
    ] = None
    tools: Annotated[
        list[ToolIn] | None,
        Field(
            max_length=128,
            description="functions, and custom tools: for the model a function with one text, `input`, "
            "whose grammar is described to it, and enforced (a regex, or a Lark grammar "
            "whose rules do not refer to themselves). Where the chat template knows no tools they are "
            "written into the system message",
        ),
    ] = None
    tool_choice: Annotated[
        ToolChoice | None,
        Field(
            description="required and a named tool are enforced token by token, in every notation "
            "that the hub reads; what one cannot write (a list in FunctionGemma's) is refused"
        ),
    ] = None
    parallel_tool_calls: Annotated[
        bool | None, Field(description="false keeps only the first call")
    ] = None

    @model_validator(mode="after")
    def _goes_together(self) -> ChatCompletionIn:
        openai_messages.chat(self.messages)
        if self.top_logprobs and not self.logprobs:
            raise ValueError("top_logprobs needs logprobs to be true")
        named = {tool.name for tool in self.tools or []}
        if len(named) < len(self.tools or []):
            raise ValueError("two tools have the same name")
        choice = self.tool_choice
        if isinstance(choice, NamedTool | NamedCustomTool) and choice.name not in named:
            raise ValueError(f"tool_choice names {choice.name!r}, which is not one of the tools")
        if self.tool_choice == "required" and not named:
            raise ValueError("tool_choice required needs tools")
        return self

    def chat(self) -> list[Message]:
        return openai_messages.chat(self.messages)

    def callable_tools(self) -> list[dict[str, Any]]:
        """The tools that the model sees."""
        if self.tool_choice == "none":
            return []
        return [tool.description() for tool in self.tools or []]

    def forced_tools(self) -> list[str]:
        """The names of the tools of which one must be called; empty when the model decides."""
        if isinstance(self.tool_choice, NamedTool | NamedCustomTool):
            return [self.tool_choice.name]
        if self.tool_choice == "required":
            return [tool.name for tool in self.tools or []]
        return []

    def sampling(self) -> Sampling:
        return self._sampling(
            max_tokens=self.max_completion_tokens or self.max_tokens,
            logprobs=bool(self.logprobs),
            top_logprobs=self.top_logprobs or 0,
            grammar=self.response_format.grammar() if self.response_format else None,
            thinking_budget=self._thinking_budget(),
        )

    def _thinking_budget(self) -> int | None:
        if self.thinking_budget is not None:
            return self.thinking_budget
        return self.thinking.budget_tokens if self.thinking else None

    def template(self) -> dict[str, Any]:
        """Variables of the chat template."""
        return thinking.template(
            self.reasoning_effort, self.enable_thinking, self.thinking, self.chat_template_kwargs
        )

    def request(self) -> GenerationRequest:
        """Raises Unsupported."""
        self.refuse_unsupported()
        return GenerationRequest(
            model=self.model,
            prompts=[self.chat()],
            sampling=self.sampling(),
            n=self.n or 1,
            tools=self.callable_tools(),
            template=self.template(),
            forced_tools=self.forced_tools(),
            one_call=self.parallel_tool_calls is False,
            deadline_s=self.deadline_s,
            classify=False if isinstance(self.response_format, PlainFormat) else None,
        )


# --------------------------------------------------------------------------- plain text


class CompletionIn(SampledIn):
    """Texts to continue, for older clients and for base models."""

    IGNORED: ClassVar = {"user": _LABEL, "metadata": _LABEL}
    UNHEEDED: ClassVar = _UNHEEDED
    REFUSED: ClassVar = {
        "best_of": Refused("use n and choose yourself", (1,)),
        "suffix": Refused("filling in the middle is not supported", ("",)),
        **_OTHER_GRAMMARS,
    }

    prompt: Annotated[
        str | list[str] | list[int] | list[list[int]],
        Field(
            description=f"a text or up to {MAX_PROMPTS}, or the numbers of the model's own tokens, "
            "of one text or of several"
        ),
    ]
    max_tokens: Annotated[
        Annotated[int, Field(ge=0, lt=2**31)] | None,
        MINUS_ONE_IS_OFF,
        Field(
            description="by default, and with -1, to the end of the context, or to where the hub's deadline or its "
            "memory ends it, as `length`; 0 answers nothing, for `echo`",
        ),
    ] = None
    echo: Annotated[
        bool | None,
        Field(
            description="puts the prompt before its answer, with `logprobs` those of its tokens, too"
        ),
    ] = None
    logprobs: Annotated[
        int | None,
        Field(
            ge=0,
            le=20,
            description="0 to 20 of the likeliest tokens, and the token itself; half a character is "
            "named by its bytes",
        ),
    ] = None

    @field_validator("prompt", mode="before")
    @classmethod
    def _several(cls, prompt: Any) -> texts.Texts:
        return texts.several(prompt, MAX_PROMPTS)

    @model_validator(mode="after")
    def _goes_together(self) -> CompletionIn:
        if (self.n or 1) * len(self.prompt) > MAX_PROMPTS:
            raise ValueError(f"n times the number of prompts may be at most {MAX_PROMPTS}")
        return self

    @property
    def prompts(self) -> list[Prompt]:
        return [
            prompt if isinstance(prompt, str) else TokenPrompt(cast(list[int], prompt))
            for prompt in self.prompt
        ]

    def sampling(self) -> Sampling:
        return self._sampling(
            max_tokens=self.max_tokens,
            logprobs=self.logprobs is not None,
            top_logprobs=self.logprobs or 0,
        )

    def request(self) -> GenerationRequest:
        """Raises Unsupported."""
        self.refuse_unsupported()
        return GenerationRequest(
            model=self.model,
            prompts=self.prompts,
            sampling=self.sampling(),
            n=self.n or 1,
            deadline_s=self.deadline_s,
            prompt_logprobs=self.logprobs if self.echo else None,
        )


class EmbeddingIn(CompatibleRequest):
    """Texts to embed: as an embedding model's own folder says, else the mean of the model's last
    hidden states, of unit length."""

    IGNORED: ClassVar = {"user": _LABEL}

    model: ModelName
    input: Annotated[
        str | list[str] | list[int] | list[list[int]],
        Field(
            description=f"a text, or up to {MAX_TEXTS}; an empty one is read as the token that ends "
            "a text. Numbers of tokens are read as OpenAI's (cl100k_base), as LangChain sends them, "
            "when the package tiktoken is installed beside the hub"
        ),
    ]
    encoding_format: Annotated[
        Literal["float", "base64"] | None, Field(description="float or base64 (little-endian)")
    ] = None
    dimensions: Annotated[
        int | None,
        Field(
            ge=1,
            description="fewer than the model's width only for a model that was trained for it "
            "(`matryoshka_dimensions` or `is_matryoshka` in its config.json)",
        ),
    ] = None
    prompt_name: Annotated[
        str | None,
        Field(
            max_length=100,
            description="not OpenAI's; one of the embedding model's own prompts (`query`, `document`, …), "
            "which comes before every text; an empty name is none, and by default it is the one that the "
            "model says is always used",
        ),
    ] = None

    @field_validator("input", mode="before")
    @classmethod
    def _several(cls, texts_in: Any) -> texts.Texts:
        return texts.several(texts_in, MAX_TEXTS, empty=True)

    def texts(self) -> list[str]:
        """Raises Unsupported."""
        return texts.embedded(cast(texts.Texts, self.input))
