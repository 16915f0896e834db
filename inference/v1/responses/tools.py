"""Tools as clients send them, as a chat template sees them, and the calls that come back."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag

from backends.base import inputs
from inference.v1.compatibility import Text

Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9_.-]{1,128}$")]
_NO_PARAMETERS = {"type": "object", "properties": {}}


class FunctionTool(BaseModel):
    """Arguments of a forced call keep to the parameters in any case, others with `strict`, which is the default
    here, as OpenAI's guide to function calling says, and not in Chat Completions."""

    model_config = ConfigDict(extra="ignore")  # defer_loading, allowed_callers, output_schema

    type: Literal["function"]
    name: Name
    description: Text | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None


class CustomFormat(BaseModel):
    """The grammar is described to the model, and enforced."""

    model_config = ConfigDict(extra="ignore")

    type: Literal["text", "grammar"]
    syntax: Literal["lark", "regex"] | None = None
    definition: Text | None = None


class CustomTool(BaseModel):
    """A tool whose input is a text: see `backends.base.inputs`."""

    model_config = ConfigDict(extra="ignore")

    type: Literal["custom"]
    name: Name
    description: Text | None = None
    format: CustomFormat | None = None

    @property
    def grammar(self) -> dict[str, str]:
        if not self.format or not self.format.definition:
            return {}
        syntax = self.format.syntax or "lark"
        return {"syntax": syntax, "definition": self.format.definition}


def _kind(value: Any) -> str:
    kind = value.get("type") if isinstance(value, dict) else getattr(value, "type", None)
    return str(kind) if kind in ("function", "custom", "namespace") else "other"


class HostedTool(BaseModel):
    """A tool that OpenAI runs: web search, code, images, MCP and others."""

    model_config = ConfigDict(extra="allow")

    type: str


class NamespaceTool(BaseModel):
    """Tools under one name: for the model functions called `NAMESPACE__NAME`."""

    model_config = ConfigDict(extra="ignore")

    type: Literal["namespace"]
    name: Name
    description: Text | None = None
    tools: list[
        Annotated[
            Annotated[FunctionTool, Tag("function")]
            | Annotated[CustomTool, Tag("custom")]
            | Annotated[HostedTool, Tag("other")],
            Discriminator(_kind),
        ]
    ]


ToolIn = Annotated[
    Annotated[FunctionTool, Tag("function")]
    | Annotated[CustomTool, Tag("custom")]
    | Annotated[NamespaceTool, Tag("namespace")]
    | Annotated[HostedTool, Tag("other")],
    Discriminator(_kind),
]


@dataclass(frozen=True)
class Offered:
    """A tool that the model sees."""

    tool: FunctionTool | CustomTool
    namespace: NamespaceTool | None = None

    @property
    def name(self) -> str:
        """What the model calls it by."""
        return full_name(self.namespace.name if self.namespace else None, self.tool.name)

    def description(self) -> dict[str, Any]:
        """The tool as a chat template shows it."""
        around = self.namespace.description if self.namespace else None
        told = "\n".join(filter(None, (around, self.tool.description)))
        if isinstance(self.tool, CustomTool):
            return inputs.described(self.name, told, self.tool.grammar)
        parameters = self.tool.parameters or _NO_PARAMETERS
        function: dict[str, Any] = {
            "name": self.name,
            "description": told,
            "parameters": parameters,
        }
        if self.tool.strict is not False:
            function[inputs.STRICT] = True
        return {"type": "function", "function": function}


def offered(tools: Iterable[Any]) -> Iterator[Offered]:
    """Those of `tools` that the client runs."""
    for tool in tools:
        if isinstance(tool, NamespaceTool):
            for one in tool.tools:
                if not isinstance(one, HostedTool):
                    yield Offered(one, tool)
        elif isinstance(tool, FunctionTool | CustomTool):
            yield Offered(tool)


def full_name(namespace: str | None, name: str) -> str:
    return f"{namespace}__{name}" if namespace else name


class NamedChoice(BaseModel):
    model_config = ConfigDict(extra="ignore")

    type: Literal["function", "custom"]
    name: Name
    namespace: Name | None = None

    @property
    def full_name(self) -> str:
        return full_name(self.namespace, self.name)


class AllowedChoice(BaseModel):
    """Some of the tools; `required` lets the model choose one of them."""

    model_config = ConfigDict(extra="ignore")

    type: Literal["allowed_tools"]
    mode: Literal["auto", "required"] = "auto"
    tools: list[dict[str, Any]]

    @property
    def names(self) -> set[str]:
        return {
            full_name(tool.get("namespace"), str(tool.get("name", tool.get("type"))))
            for tool in self.tools
        }


class HostedChoice(BaseModel):
    model_config = ConfigDict(extra="allow")

    type: str


def _choice(value: Any) -> str:
    if isinstance(value, str):
        return "word"
    kind = value.get("type") if isinstance(value, dict) else getattr(value, "type", None)
    return {"function": "named", "custom": "named", "allowed_tools": "allowed"}.get(
        str(kind), "hosted"
    )


ToolChoice = Annotated[
    Annotated[Literal["none", "auto", "required"], Tag("word")]
    | Annotated[NamedChoice, Tag("named")]
    | Annotated[AllowedChoice, Tag("allowed")]
    | Annotated[HostedChoice, Tag("hosted")],
    Discriminator(_choice),
]
