"""Promotion rules: what a version must show before an alias may point at it.

A rule compares one metric of the version with a number, or with the same metric of the version
that the alias points at now. What was never measured passes no rule.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

from django.core.exceptions import ValidationError
from django.db import IntegrityError, transaction

from registry.audit import Action, audit
from registry.errors import Conflict, Invalid
from registry.models import Model, ModelVersion, PromotionRule
from registry.promotion.resolve import PRODUCTION


@dataclass(frozen=True)
class Verdict:
    """What one rule said of a version. `value` and `bound` are the two figures it compared, None
    where there was none."""

    rule: str
    passed: bool
    value: float | None
    bound: float | None
    message: str

    def as_json(self) -> dict[str, Any]:
        """As `AliasMove.gate` keeps it."""
        return asdict(self)


def judge(
    model: Model, alias: str, version: ModelVersion, current: ModelVersion | None
) -> list[Verdict]:
    """What each rule of `alias` says of `version`, while the alias points at `current`."""
    rules = PromotionRule.objects.filter(model=model, alias=alias)
    return [_judge(rule, version, current) for rule in rules]


def refusals(verdicts: Iterable[Verdict]) -> list[str]:
    """The sentences of the rules that failed."""
    return [verdict.message for verdict in verdicts if not verdict.passed]


def _judge(rule: PromotionRule, version: ModelVersion, current: ModelVersion | None) -> Verdict:
    value = _measured(version, rule.metric)
    if rule.value is not None:
        return _compare(rule, version, value, rule.value, f"{rule.value:.6g}")
    if current is None:
        message = f"{rule.metric}: {rule.alias} points at no version yet, so there is nothing to compare with."
        return Verdict(str(rule), True, value, None, message)
    bound = _measured(current, rule.metric)
    if value is not None and bound is None:
        message = f"{rule.metric} of the current {current.version} is unknown; measure it first."
        return Verdict(str(rule), False, value, None, message)
    shown = "unknown" if bound is None else f"{bound:.6g}"
    return _compare(rule, version, value, bound, f"{current.version}'s {shown}")


def _compare(
    rule: PromotionRule,
    version: ModelVersion,
    value: float | None,
    bound: float | None,
    wanted: str,
) -> Verdict:
    demand = f"must be {rule.get_comparison_display()} {wanted}"
    if value is None or bound is None:
        message = f"{rule.metric} of {version.version} is unknown; it {demand}."
        return Verdict(str(rule), False, value, bound, message)
    at_least = rule.comparison == PromotionRule.Comparison.AT_LEAST
    passed = value >= bound if at_least else value <= bound
    message = f"{rule.metric} of {version.version} is {value:.6g}; it {demand}."
    return Verdict(str(rule), passed, value, bound, message)


def _measured(version: ModelVersion, metric: str) -> float | None:
    """The figure as a finite number, or None: a metric may also be text or missing."""
    value = version.metrics.get(metric)
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return float(value)


def add_rule(
    model: Model, metric: str, comparison: str, value: float | None = None, alias: str = ""
) -> PromotionRule:
    """Make a rule; without `value` it compares with the current version.

    Raises Invalid, and Conflict when there is the same rule already.
    """
    rule = PromotionRule(model=model, metric=metric.strip(), comparison=comparison, value=value)
    rule.alias = alias or rule.alias
    return save_rule(rule)


def proposed(model: Model, rules: Iterable[PromotionRule]) -> list[PromotionRule]:
    """Rules, not saved, that the model's task proposes beside its `rules`: production may be no
    worse than its current version at what decides."""
    metric = model.task.metrics[0]
    if any((rule.alias, rule.metric) == (PRODUCTION, metric) for rule in rules):
        return []
    at_least = PromotionRule.Comparison.AT_LEAST
    return [PromotionRule(model=model, alias=PRODUCTION, metric=metric, comparison=at_least)]


def change_rule(rule: PromotionRule, **changes: Any) -> PromotionRule:
    """Set some of alias, metric, comparison and value. Raises as `add_rule` does."""
    for field, value in changes.items():
        setattr(rule, field, value)
    return save_rule(rule)


def delete_rule(rule: PromotionRule) -> None:
    """Moves that were judged by it keep what it said."""
    with transaction.atomic():
        audit(Action.RULE_DELETED, _named(rule), str(rule))
        rule.delete()


def _named(rule: PromotionRule) -> str:
    return f"{rule.model}@{rule.alias}"


def save_rule(rule: PromotionRule) -> PromotionRule:
    """Raises as `add_rule` does."""
    action = Action.RULE_CHANGED if rule.pk else Action.RULE_ADDED
    if rule.value is not None and not math.isfinite(rule.value):
        raise Invalid("value: give a finite number, or none to compare with the current version.")
    try:
        rule.full_clean(validate_unique=False, validate_constraints=False)
    except ValidationError as error:
        problems = [f"{field}: {' '.join(texts)}" for field, texts in error.message_dict.items()]
        raise Invalid(" ".join(problems)) from None
    try:
        with transaction.atomic():
            rule.save()
            audit(action, _named(rule), str(rule))
    except IntegrityError as error:
        raise Conflict(f"{rule.alias} already has the rule “{rule}”.") from error
    return rule
