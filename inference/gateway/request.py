"""A request for answers as every API translates it, and who sent it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from django.http import HttpRequest

from backends.base import Message, Sampling
from inference.models import ApiToken, InferenceRequest
from inference.protocol import Folder, Generate
from registry.errors import Invalid
from registry.promotion.resolve import Served

MAX_MESSAGES = 1000
MOST_AT_ONCE = 16  # answers to one request that the engine has at the same time


@dataclass(frozen=True)
class TokenPrompt:
    """A text to continue, as numbers of the model's own tokens."""

    tokens: Sequence[int]


Prompt = Sequence[Message] | str | TokenPrompt  # a chat to answer, or a text to continue


@dataclass(frozen=True)
class GenerationRequest:
    """Asks `model` for `n` answers to each of `prompts`; answer i uses the seed + i.

    `tools` are OpenAI's function descriptions, `template` variables for the model's chat template. One of `forced_tools` (names) must be called, if
    there are any; with `one_call` the answer keeps its first call alone. After `deadline_s` seconds
    the request fails; None is the hub's own limit. With `classify` the answer is one of the version's
    labels; None means so where the version has labels and the request is a chat that asks for nothing
    else (a grammar, tools). With `prompt_logprobs` the tokens of a text are returned, too, and that many
    of the likeliest ones at each place.
    """

    model: str
    prompts: Sequence[Prompt]
    sampling: Sampling
    n: int = 1
    tools: Sequence[dict[str, Any]] = ()
    template: Mapping[str, Any] = field(default_factory=dict)
    forced_tools: Sequence[str] = ()
    one_call: bool = False
    deadline_s: float | None = None
    classify: bool | None = None
    prompt_logprobs: int | None = None

    @property
    def answers(self) -> int:
        """How many the request gets; the answers to the first prompt come first."""
        return len(self.prompts) * self.n

    @property
    def may_be_cut(self) -> bool:
        """Whether the hub decides how long an answer gets: neither a limit nor a deadline was sent."""
        return self.sampling.max_tokens is None and self.deadline_s is None

    def prompt_of(self, index: int) -> Prompt:
        return self.prompts[index // self.n]

    def sampling_of(self, index: int) -> Sampling:
        number = index % self.n
        if self.sampling.seed is None or not number:
            return self.sampling
        return replace(self.sampling, seed=(self.sampling.seed + number) % 2**63)

    def labels(self, served: Served, prompt: Prompt) -> list[str]:
        """Those that the answer is one of; [] for an answer in the model's own words. Raises
        Invalid when it shall be one and cannot."""
        own = served.version.answers_with if served.version else []
        other = self.tools or self.sampling.grammar or isinstance(prompt, str | TokenPrompt)
        if self.classify and not own:
            raise Invalid(
                f"{served.label} has no labels to classify with; ask a version of a model whose "
                "task is classification, trained on a data set of texts with labels."
            )
        if self.classify and other:
            raise Invalid(
                "classify cannot be combined with tools, a grammar or a text to continue."
            )
        return [] if other or self.classify is False else own

    def for_engine(self, served: Served, index: int = 0, **sender: Any) -> Generate:
        """What the engine gets for one answer; `sender` has its id, key and limits."""
        base, adapter = folders(served)
        prompt = self.prompt_of(index)
        return Generate(
            base=base,
            adapter=adapter,
            messages=[] if isinstance(prompt, str | TokenPrompt) else list(prompt),
            text=prompt if isinstance(prompt, str) else "",
            tokens=list(prompt.tokens) if isinstance(prompt, TokenPrompt) else [],
            prompt_logprobs=self.prompt_logprobs,
            tools=list(self.tools),
            template=dict(self.template),
            forced_tools=list(self.forced_tools),
            labels=self.labels(served, prompt),
            sampling=self.sampling_of(index),
            **sender,
        )


@dataclass(frozen=True)
class Caller:
    """Who sends a request, and through which API. Without a token it comes from this machine."""

    api: InferenceRequest.Api
    token: ApiToken | None = None

    @classmethod
    def of(cls, request: HttpRequest, api: InferenceRequest.Api) -> Caller:
        return cls(api, getattr(request, "token", None))

    def limits(self) -> dict[str, Any]:
        """The key that the engine counts the request under, and that key's limits."""
        if self.token is None:
            return {}
        return {
            "key": str(self.token.pk),
            "key_running": self.token.max_running,
            "key_waiting": self.token.max_waiting,
        }

    @property
    def at_once(self) -> int:
        """How many answers to one request are with the engine at once: no more than may run, nor than
        may wait, since all of them wait for a moment."""
        limits = (self.token.max_running, self.token.max_waiting) if self.token else ()
        return max(1, min([MOST_AT_ONCE, *(limit for limit in limits if limit is not None)]))


def answered_by(served: Served) -> str:
    """The exact name of what answers, `calendar@0.1.0` or `base:NAME`, under any name."""
    return str(served.version) if served.version else f"base:{served.base.name}"


def folders(served: Served) -> tuple[Folder, Folder | None]:
    """The folders of the base and the adapter, as their rows name them; the engine looks where that is."""
    base, version = served.base, served.version
    found = Folder(path=base.path, manifest_sha256=base.manifest_sha256)
    if version is None:
        return found, None
    return found, Folder(path=version.artifact_path, manifest_sha256=version.manifest_sha256)
