"""How clients ask a model to think, and what reaches its chat template and the engine."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

Effort = Literal["none", "minimal", "low", "medium", "high", "xhigh", "max"]
Budget = Annotated[int, Field(ge=0, le=1_000_000)]
TemplateVariables = Annotated[dict[str, Any], Field(max_length=50)]


class Thinking(BaseModel):
    """Anthropic's object, also DeepSeek's and GLM's. `adaptive` leaves it to the model how long it
    thinks."""

    model_config = ConfigDict(extra="ignore")  # display

    type: Literal["enabled", "disabled", "adaptive"]
    budget_tokens: Budget | None = None


def template(
    effort: str | None = None,
    enabled: bool | None = None,
    thinking: Thinking | None = None,
    variables: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Variables of the chat template. What was said most exactly counts: `variables`, then `thinking`
    and `enabled`, then `effort`. A template passes over those that it does not know."""
    said: dict[str, Any] = {}
    if effort is not None:
        said = {"enable_thinking": effort != "none"}
        said |= {} if effort == "none" else {"reasoning_effort": effort}
    if thinking is not None:
        said["enable_thinking"] = thinking.type != "disabled"
    if enabled is not None:
        said["enable_thinking"] = enabled
    return {**said, **(variables or {})}
