"""What the compatible APIs do with each parameter: honour it, ignore it or refuse it.

Every request of `/v1` is a `CompatibleRequest`: its fields are honoured, `IGNORED` has
those that change no answer, and `REFUSED` those without which the answer would be of no use. The
rest, `UNHEEDED` and names that nobody knows, is ignored with a header that says so, or refused
with HUB_UNKNOWN_PARAMETERS=refuse. `docs/openai.md` is `reference()`
written down.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain, islice
from typing import Annotated, Any, ClassVar
from urllib.parse import quote

from django.conf import settings
from django.http.response import HttpResponseBase
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from registry.errors import HubError

StopText = Annotated[str, Field(min_length=1, max_length=200)]
MaxTokens = Annotated[int, Field(ge=1, lt=2**31)]
# Off as llama.cpp, LM Studio and vLLM write it.
MINUS_ONE_IS_OFF = BeforeValidator(lambda value: _off(value, None))
MaxTokensOrOff = Annotated[MaxTokens | None, MINUS_ONE_IS_OFF]
TopK = Annotated[int, BeforeValidator(lambda value: _off(value, 0)), Field(ge=0)]
TopP = Annotated[float, Field(ge=0, le=1)]
Text = Annotated[str, Field(max_length=1_000_000)]
ModelName = Annotated[
    str,
    Field(
        min_length=1,
        max_length=250,
        description="`NAME`, `NAME@1.2.0`, `NAME@alias` or `base:NAME`",
    ),
]


class Unsupported(HubError):
    """A parameter that the hub does not honour."""

    def __init__(
        self,
        param: str | None,
        message: str,
        code: str = "unsupported_parameter",
        details: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(message)
        self.param = param
        self.code = code
        self.details = details


def _off(value: Any, off: Any) -> Any:
    return off if value == -1 and not isinstance(value, bool) else value


IGNORED_HEADER = "x-hub-ignored"
_MOST_NAMED = 20  # a header has little room
_ALIKE = 0.8


@dataclass(frozen=True)
class Refused:
    """A parameter that is not honoured, and the values that mean "off" and pass. Programs read
    `details` where the client's own service sends some."""

    why: str
    neutral: tuple[Any, ...] = ()
    details: dict[str, Any] | None = None


class CompatibleRequest(BaseModel):
    """A request of one endpoint."""

    model_config = ConfigDict(extra="allow")

    IGNORED: ClassVar[dict[str, str]] = {}
    REFUSED: ClassVar[dict[str, Refused]] = {}
    UNHEEDED: ClassVar[dict[str, Refused]] = {}

    def refuse_unsupported(self) -> None:
        """Raises Unsupported for the first parameter that the hub neither honours nor ignores."""
        for name, value in (self.model_extra or {}).items():
            refused = self.REFUSED.get(name)
            if refused and value is not None and value not in refused.neutral:
                message = f"The hub does not support {name}: {refused.why}."
                raise Unsupported(name, message, details=refused.details)
        if settings.UNKNOWN_PARAMETERS == "refuse":
            for name in self.unheeded():
                if name in self.UNHEEDED:
                    why = self.UNHEEDED[name].why
                    raise Unsupported(name, f"The hub does not support {name}: {why}.")
                meant = f" Did you mean {nearest!r}?" if (nearest := self.nearest(name)) else ""
                raise Unsupported(name, f"Unknown parameter: {name!r}.{meant}", "unknown_parameter")

    def unheeded(self) -> Iterator[str]:
        """Parameters that were sent and that change nothing, although they might be meant to."""
        for name, value in (self.model_extra or {}).items():
            if name in self.IGNORED or name in self.REFUSED:
                continue
            known = self.UNHEEDED.get(name)
            if known is None or (value is not None and value not in known.neutral):
                yield name

    @classmethod
    def nearest(cls, name: str) -> str | None:
        """The parameter that a misspelled one was probably meant to be."""
        found = difflib.get_close_matches(name[:64], cls.model_fields, 1, _ALIKE)
        return found[0] if found else None

    def told[R: HttpResponseBase](self, response: R, *more: str) -> R:
        """The response with a header that names what was ignored, `more` included:
        `x-hub-ignored: verbosity, tempreature;did-you-mean=temperature`."""
        quoted = (quote(name[:64], safe=".") for name in more)
        named = map(self._ignored, self.unheeded())
        if names := list(islice(chain(named, quoted), _MOST_NAMED)):
            response[IGNORED_HEADER] = ", ".join(names)
        return response

    @classmethod
    def _ignored(cls, name: str) -> str:
        meant = None if name in cls.UNHEEDED else cls.nearest(name)
        return quote(name[:64], safe="") + (f";did-you-mean={meant}" if meant else "")


def unheld(tools: Iterable[str]) -> list[str]:
    """As the header names it, that tools by name are strict, and their calls cannot be enforced."""
    return [f"tools.{name}.strict" for name in tools]


def table(kind: type[CompatibleRequest]) -> str:
    """The parameters of one endpoint as a Markdown table."""
    lines = ["| parameter | |", "|---|---|"]
    for name, field in kind.model_fields.items():
        note = f": {field.description}" if field.description else ""
        lines.append(f"| `{name}` | honoured{note} |")
    lines += [f"| `{name}` | ignored: {why} |" for name, why in kind.IGNORED.items()]
    for name, unheeded in kind.UNHEEDED.items():
        lines.append(f"| `{name}` | ignored with a header: {unheeded.why} |")
    for name, refused in kind.REFUSED.items():
        neutral = ", ".join(f"`{json.dumps(value)}`" for value in refused.neutral)
        but = f" except {neutral}" if neutral else ""
        lines.append(f"| `{name}` | refused{but}: {refused.why} |")
    return "\n".join(lines)
