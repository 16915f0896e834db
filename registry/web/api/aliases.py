"""Aliases and the rules that guard them, over JSON."""

# No `from __future__ import annotations`: ninja resolves texts in the module of `paginate`, and fails.

from django.db.models import QuerySet
from django.http import HttpRequest
from django.shortcuts import get_object_or_404
from ninja import Router, Status
from ninja.pagination import paginate

from registry.catalog.registration import find_version
from registry.models import AliasMove, Model, PromotionRule
from registry.promotion.aliases import delete_alias, move_alias, rollback_alias
from registry.promotion.rules import add_rule, change_rule
from registry.promotion.rules import delete_rule as remove_rule
from registry.web.actor import who
from registry.web.paging import LimitOffset
from registry.web.schemas import AliasIn, AliasMoveOut, RollbackIn, RuleIn, RuleOut

router = Router(tags=["aliases"])


@router.post(
    "/models/{int:model_id}/aliases/{name}", response=AliasMoveOut, summary="Move an alias"
)
def alias(request: HttpRequest, model_id: int, name: str, payload: AliasIn) -> AliasMove:
    """At once and whole: every request sees either the old version or the new one. 409 names each
    promotion rule that refuses."""
    found = get_object_or_404(Model, pk=model_id)
    version = find_version(found, payload.version)
    return move_alias(found, name, version, who(request), payload.reason, payload.force)


@router.post(
    "/models/{int:model_id}/aliases/{name}/rollback",
    response=AliasMoveOut,
    summary="Undo an alias's last move",
)
def rollback(request: HttpRequest, model_id: int, name: str, payload: RollbackIn) -> AliasMove:
    """Back to the version before the last move; the history keeps it as a move. A deleted alias
    comes back."""
    found = get_object_or_404(Model, pk=model_id)
    return rollback_alias(found, name, who(request), payload.reason, payload.to)


@router.delete(
    "/models/{int:model_id}/aliases/{name}", response=AliasMoveOut, summary="Delete an alias"
)
def delete(request: HttpRequest, model_id: int, name: str, reason: str = "") -> AliasMove:
    """The history stays and gains this, with an empty `to_version`."""
    return delete_alias(get_object_or_404(Model, pk=model_id), name, who(request), reason)


@router.get(
    "/models/{int:model_id}/moves", response=list[AliasMoveOut], summary="Alias moves, newest first"
)
@paginate(LimitOffset)
def moves(request: HttpRequest, model_id: int, alias: str = "") -> QuerySet[AliasMove]:
    """Who moved which alias, when, why, and what the rules said."""
    found = get_object_or_404(Model, pk=model_id).alias_moves.all()
    related = found.select_related("from_version", "to_version")
    return related.filter(name=alias) if alias else related


@router.get("/models/{int:model_id}/rules", response=list[RuleOut], summary="Promotion rules")
@paginate(LimitOffset)
def rules(request: HttpRequest, model_id: int) -> QuerySet[PromotionRule]:
    """What a version must show before an alias may point at it."""
    return get_object_or_404(Model, pk=model_id).promotion_rules.all()


@router.post(
    "/models/{int:model_id}/rules", response={201: RuleOut}, summary="Add a promotion rule"
)
def create_rule(request: HttpRequest, model_id: int, payload: RuleIn) -> Status[PromotionRule]:
    """Without a value it compares with the alias's current version."""
    found = get_object_or_404(Model, pk=model_id)
    rule = add_rule(found, payload.metric, payload.comparison, payload.value, payload.alias)
    return Status(201, rule)


@router.get("/models/{int:model_id}/rules/{int:rule_id}", response=RuleOut, summary="A rule")
def rule(request: HttpRequest, model_id: int, rule_id: int) -> PromotionRule:
    """One promotion rule."""
    return get_object_or_404(PromotionRule, pk=rule_id, model_id=model_id)


@router.put(
    "/models/{int:model_id}/rules/{int:rule_id}", response=RuleOut, summary="Replace a rule"
)
def replace_rule(
    request: HttpRequest, model_id: int, rule_id: int, payload: RuleIn
) -> PromotionRule:
    """Replaces the whole rule."""
    found = get_object_or_404(PromotionRule, pk=rule_id, model_id=model_id)
    return change_rule(found, **payload.model_dump())


@router.delete(
    "/models/{int:model_id}/rules/{int:rule_id}", response={204: None}, summary="Delete a rule"
)
def delete_rule(request: HttpRequest, model_id: int, rule_id: int) -> Status[None]:
    """Moves that were judged by it keep what it said."""
    remove_rule(get_object_or_404(PromotionRule, pk=rule_id, model_id=model_id))
    return Status(204, None)
