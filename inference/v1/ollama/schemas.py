"""Ollama's requests: what the hub honours, what it ignores, and a clear refusal of the rest."""

from __future__ import annotations

import json
import re
from typing import Annotated, Any, ClassVar, Literal

from django.http.response import HttpResponseBase
from pydantic import BeforeValidator, Field, model_validator

from backends.base import Grammar, Message, Sampling
from inference.gateway.request import MAX_MESSAGES, GenerationRequest
from inference.v1 import thinking
from inference.v1.compatibility import (
    CompatibleRequest,
    ModelName,
    Refused,
    StopText,
    Text,
    TopP,
    Unsupported,
)
from inference.v1.ollama import messages as ollama_messages
from inference.v1.ollama.messages import MessageIn, ToolIn
from inference.v1.ollama.names import hub_name

MAX_TEXTS = 2048  # of one request for embeddings
_MOST_REPEATED = 4096
_LOADING = "the hub decides how a model is loaded"
_NEVER_CUT = "a text that does not fit the context is an error, never cut silently"
_UNITS = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1, "m": 60, "h": 3600}
_DURATION = re.compile(r"(\d+(?:\.\d+)?)(ns|us|µs|ms|s|m|h)")


def seconds(value: object) -> object:
    """Seconds, from a number or a duration as Go writes it, such as "5m" or "-1h30m"."""
    if not isinstance(value, str):
        return value
    text = value.strip()
    sign, digits = (-1, text[1:]) if text.startswith("-") else (1, text)
    if re.fullmatch(r"\d+(\.\d+)?", digits):
        return sign * float(digits)
    if not re.fullmatch(f"({_DURATION.pattern})+", digits):
        raise ValueError("write seconds, or a duration such as 5m; 0 unloads, -1 keeps it loaded")
    return sign * sum(float(number) * _UNITS[unit] for number, unit in _DURATION.findall(digits))


KeepAlive = Annotated[
    float | None,
    BeforeValidator(seconds),
    Field(
        description="0 unloads the model after the answer, a negative one pins it; any other leaves "
        "it to HUB_MODEL_IDLE_S. A key of the scope inference may not decide either"
    ),
]


class OptionsIn(CompatibleRequest):
    """`options`: how an answer is made. Without `temperature` it is greedy and repeatable."""

    IGNORED: ClassVar = {
        "num_ctx": "the context is as long as the model's own",
        "num_keep": "a context is never shifted",
        **dict.fromkeys(
            (
                "num_batch",
                "num_gpu",
                "main_gpu",
                "num_thread",
                "numa",
                "low_vram",
                "f16_kv",
                "use_mmap",
                "use_mlock",
                "vocab_only",
                "logits_all",
                "embedding_only",
            ),
            _LOADING,
        ),
        "penalize_newline": "penalties are for all tokens alike",
        "mirostat_tau": "it belongs to mirostat",
        "mirostat_eta": "it belongs to mirostat",
    }
    REFUSED: ClassVar = {
        "mirostat": Refused("use temperature, top_p, top_k or min_p", (0,)),
        "tfs_z": Refused("use top_p or min_p", (1,)),
        "typical_p": Refused("use top_p or min_p", (1,)),
    }

    num_predict: Annotated[
        int | None,
        Field(
            lt=2**31,
            description="the most tokens of an answer; by default, and below 1, up to the context",
        ),
    ] = None
    temperature: Annotated[float | None, Field(ge=0, le=2, description="0 (greedy) by default")] = (
        None
    )
    top_k: Annotated[int | None, Field(ge=0, description="0, or off, by default")] = None
    top_p: Annotated[TopP | None, Field(description="1, or off, by default")] = None
    min_p: Annotated[float | None, Field(ge=0, le=1)] = None
    seed: Annotated[
        int | None, Field(ge=-(2**63), lt=2**63, description="the same seed gives the same text")
    ] = None
    stop: Annotated[
        StopText | Annotated[list[StopText], Field(max_length=16)] | None,
        Field(description="up to 16 texts of up to 200 characters"),
    ] = None
    repeat_penalty: Annotated[
        float | None, Field(gt=0, le=10, description="1, or off, by default")
    ] = None
    repeat_last_n: Annotated[
        int | None,
        Field(ge=-1, description=f"64 by default, 0 is off; {_MOST_REPEATED} at most, also for -1"),
    ] = None
    presence_penalty: Annotated[float | None, Field(ge=-2, le=2)] = None
    frequency_penalty: Annotated[float | None, Field(ge=-2, le=2)] = None

    def sampling(self, **more: Any) -> Sampling:
        stop = (self.stop,) if isinstance(self.stop, str) else tuple(self.stop or ())
        limit = self.num_predict or 0
        looks_back = 64 if self.repeat_last_n is None else self.repeat_last_n
        return Sampling(
            max_tokens=limit if limit > 0 else None,
            temperature=self.temperature or 0.0,
            top_k=self.top_k or 0,
            top_p=1.0 if self.top_p is None else self.top_p,
            min_p=self.min_p or 0.0,
            seed=None if self.seed is None else self.seed % 2**63,
            stop=stop,
            repetition_penalty=(self.repeat_penalty or 1.0) if looks_back else 1.0,
            repetition_context=looks_back if 0 < looks_back < _MOST_REPEATED else _MOST_REPEATED,
            presence_penalty=self.presence_penalty or 0.0,
            frequency_penalty=self.frequency_penalty or 0.0,
            **more,
        )


class OllamaBody(CompatibleRequest):
    """A body whose parameters that change nothing are named, too."""

    def told[R: HttpResponseBase](self, response: R, *more: str) -> R:
        names = [name for name in self.model_extra or {} if name in self.IGNORED]
        return super().told(response, *names, *more)


class OllamaRequest(OllamaBody):
    """A request that names a model."""

    model: Annotated[
        ModelName,
        Field(
            description="`NAME` or `NAME:latest`, `NAME:1.2.0`, `NAME:alias`, `base:NAME`; with @ "
            "in place of the colon, too"
        ),
    ]
    keep_alive: KeepAlive = None
    options: Annotated[OptionsIn, Field(description="see below")] = OptionsIn()

    @model_validator(mode="before")
    @classmethod
    def _without_nulls(cls, sent: Any) -> Any:
        """Clients write null for what they leave out."""
        if not isinstance(sent, dict):
            return sent
        kept = {name: value for name, value in sent.items() if value is not None}
        if isinstance(options := kept.get("options"), dict):
            kept["options"] = {name: one for name, one in options.items() if one is not None}
        return kept

    @property
    def named(self) -> str:
        """The model's name as the hub knows it."""
        return hub_name(self.model)

    def refuse_unsupported(self) -> None:
        super().refuse_unsupported()
        self.options.refuse_unsupported()

    def told[R: HttpResponseBase](self, response: R, *more: str) -> R:
        sent = self.options.model_extra or {}
        names = [f"options.{name}" for name in sent if name in self.options.IGNORED]
        names += [f"options.{name}" for name in self.options.unheeded()]
        return super().told(response, *names, *more)


class AnswerIn(OllamaRequest):
    """What chats and plain prompts share."""

    IGNORED: ClassVar = {"truncate": _NEVER_CUT, "shift": "a context is never shifted"}

    stream: Annotated[bool, Field(description="true by default: one JSON object a line")] = True
    format: Annotated[
        Literal["", "json"] | dict[str, Any],
        Field(
            description="json or a JSON schema, enforced token by token; with tools the answer is calls or what it describes"
        ),
    ] = ""
    think: Annotated[
        bool | Literal["low", "medium", "high", "max"] | None,
        Field(description="for the chat template; by default as the template has it"),
    ] = None
    logprobs: bool = False
    top_logprobs: Annotated[int, Field(ge=0, le=20, description="0 to 20, with logprobs")] = 0

    @model_validator(mode="after")
    def _goes_together(self) -> AnswerIn:
        if self.top_logprobs and not self.logprobs:
            raise ValueError("top_logprobs needs logprobs to be true")
        return self

    def grammar(self) -> Grammar | None:
        if isinstance(self.format, dict):
            return Grammar("json_schema", json.dumps(self.format))
        return Grammar("json_object") if self.format else None

    def sampling(self) -> Sampling:
        return self.options.sampling(
            grammar=self.grammar(), logprobs=self.logprobs, top_logprobs=self.top_logprobs
        )

    def template(self) -> dict[str, Any]:
        """Variables of the chat template."""
        if isinstance(self.think, str):
            return thinking.template(self.think)
        return thinking.template(enabled=self.think)


class ChatIn(AnswerIn):
    """A chat to answer. Without messages the model is loaded (or unloaded) and nothing is said."""

    messages: Annotated[
        list[MessageIn],
        Field(
            max_length=MAX_MESSAGES,
            description="texts of system, user, assistant and tool; images are refused",
        ),
    ] = []
    tools: Annotated[
        list[ToolIn],
        Field(
            max_length=128, description="functions, for models whose chat template supports them"
        ),
    ] = []

    @property
    def only_loads(self) -> bool:
        return not self.messages

    def refuse_unsupported(self) -> None:
        super().refuse_unsupported()
        for number, message in enumerate(self.messages):
            if message.images:
                raise Unsupported(
                    f"messages.{number}.images",
                    f"messages.{number}.images: models read texts only; leave images out.",
                )

    def request(self) -> GenerationRequest:
        """Raises Unsupported."""
        self.refuse_unsupported()
        return GenerationRequest(
            model=self.named,
            prompts=[ollama_messages.chat(self.messages)],
            sampling=self.sampling(),
            tools=[tool.description() for tool in self.tools],
            template=self.template(),
        )


class GenerateIn(AnswerIn):
    """A prompt to answer. Without one the model is loaded (or unloaded) and nothing is said."""

    REFUSED: ClassVar = {
        "suffix": Refused("filling in the middle is not supported", ("",)),
        "images": Refused("models read texts only", ([],)),
        "template": Refused("the model's own chat template is used; raw uses none", ("",)),
        "context": Refused("send the conversation's messages to /api/chat", ([],)),
    }

    prompt: Text = ""
    system: Annotated[Text, Field(description="the chat's first message")] = ""
    raw: Annotated[
        bool, Field(description="continue the prompt as it is, without the chat template")
    ] = False

    @model_validator(mode="after")
    def _raw_is_alone(self) -> GenerateIn:
        if self.raw and self.system:
            raise ValueError("raw cannot be combined with system: it has no chat template")
        return self

    @property
    def only_loads(self) -> bool:
        return not self.prompt

    def chat(self) -> list[Message]:
        system = [Message(role="system", content=self.system)] if self.system else []
        return [*system, Message(role="user", content=self.prompt)]

    def request(self) -> GenerationRequest:
        """Raises Unsupported."""
        self.refuse_unsupported()
        return GenerationRequest(
            model=self.named,
            prompts=[self.prompt if self.raw else self.chat()],
            sampling=self.sampling(),
            template={} if self.raw else self.template(),
        )


_WHOLE = {"stream": Refused("the answer comes whole", (False,))}


class EmbedIn(OllamaRequest):
    """Texts to embed: as an embedding model's own folder says, else the mean of the model's last
    hidden states, of unit length."""

    IGNORED: ClassVar = {"truncate": _NEVER_CUT}
    UNHEEDED: ClassVar = _WHOLE

    input: Annotated[
        Annotated[str, Field(max_length=1_000_000)]
        | Annotated[
            list[Annotated[str, Field(min_length=1, max_length=1_000_000)]],
            Field(max_length=MAX_TEXTS),
        ],
        Field(description=f"a text, or up to {MAX_TEXTS}"),
    ] = ""
    dimensions: Annotated[
        int | None,
        Field(
            ge=0,
            description="fewer than the model's width only for a model that was trained for it "
            "(`matryoshka_dimensions` or `is_matryoshka` in its config.json); 0 is its width",
        ),
    ] = None

    @property
    def texts(self) -> list[str]:
        texts = [self.input] if isinstance(self.input, str) else self.input
        return [text for text in texts if text]


class OneEmbeddingIn(OllamaRequest):
    """The older form, of one text."""

    UNHEEDED: ClassVar = _WHOLE

    prompt: Text = ""


class ShowIn(OllamaBody):
    """The model to describe; `name` is the older word for `model`."""

    UNHEEDED: ClassVar = _WHOLE
    IGNORED: ClassVar = {
        "verbose": "the answer is the same",
        "system": "it describes the model as it is",
        "template": "it describes the model as it is",
        "options": "it describes the model as it is",
    }

    model: ModelName

    @model_validator(mode="before")
    @classmethod
    def _by_its_older_name(cls, sent: Any) -> Any:
        if isinstance(sent, dict) and "name" in sent:
            sent = {**sent, "model": sent.get("model") or sent["name"]}
            del sent["name"]
        return sent
