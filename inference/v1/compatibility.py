"""What the compatible APIs do with each parameter: honour it, ignore it or refuse it.

Every request of `/v1` is a `CompatibleRequest`: its fields are honoured, `IGNORED` has
those that change no answer, and the rest is refused. `docs/openai.md` is `reference()`
written down.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

from pydantic import BaseModel, ConfigDict, Field

from registry.errors import HubError

StopText = Annotated[str, Field(min_length=1, max_length=200)]
MOST_TOKENS = 131_072
MaxTokens = Annotated[int, Field(ge=1, le=MOST_TOKENS)]
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

    def refuse_unsupported(self) -> None:
        """Raises Unsupported for the first parameter that the hub does not honour."""
        for name, value in (self.model_extra or {}).items():
            if name in self.IGNORED:
                continue
            if name not in self.REFUSED:
                raise Unsupported(name, f"Unknown parameter: {name!r}.", "unknown_parameter")
            refused = self.REFUSED[name]
            if value is not None and value not in refused.neutral:
                message = f"The hub does not support {name}: {refused.why}."
                raise Unsupported(name, message, details=refused.details)


def table(kind: type[CompatibleRequest]) -> str:
    """The parameters of one endpoint as a Markdown table."""
    lines = ["| parameter | |", "|---|---|"]
    for name, field in kind.model_fields.items():
        note = f": {field.description}" if field.description else ""
        lines.append(f"| `{name}` | honoured{note} |")
    lines += [f"| `{name}` | ignored: {why} |" for name, why in kind.IGNORED.items()]
    for name, refused in kind.REFUSED.items():
        neutral = ", ".join(f"`{json.dumps(value)}`" for value in refused.neutral)
        but = f" except {neutral}" if neutral else ""
        lines.append(f"| `{name}` | refused{but}: {refused.why} |")
    return "\n".join(lines)
