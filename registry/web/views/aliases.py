"""What the page of a model does to its aliases and promotion rules."""

from __future__ import annotations

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect
from django.views.decorators.http import require_POST

from registry.errors import HubError
from registry.models import Model, PromotionRule
from registry.promotion import rules
from registry.promotion.aliases import delete_alias, move_alias, rollback_alias
from registry.web.actor import who
from registry.web.forms import MoveAliasForm, RuleForm
from registry.web.htmx import HtmxRequest, form_page, refuse
from registry.web.views.models import model_context, promotion_context


@require_POST
def alias_move(request: HtmxRequest, pk: int) -> HttpResponse:
    found = _model(pk)
    form = MoveAliasForm(found, request.POST)
    status = 422
    if form.is_valid():
        sent = form.cleaned_data
        name, target = sent["name"], sent["version"]
        try:
            move_alias(found, name, target, who(request), sent["reason"], sent["force"])
        except HubError as error:
            status = refuse(form, error)
        else:
            messages.success(request, f"{found.name}@{name} is now version {target.version}.")
            return redirect(found)
    return form_page(
        request, "registry/models/detail.html", model_context(request, found, form), status
    )


@require_POST
def alias_rollback(request: HttpRequest, pk: int, name: str) -> HttpResponse:
    found = _model(pk)
    try:
        move = rollback_alias(found, name, who(request), to=request.POST.get("to"))
    except HubError as error:
        messages.error(request, str(error))
    else:
        number = move.to_version.version if move.to_version else ""
        messages.success(request, f"{found.name}@{name} is version {number} again.")
    return redirect(found)


@require_POST
def alias_delete(request: HttpRequest, pk: int, name: str) -> HttpResponse:
    found = _model(pk)
    try:
        delete_alias(found, name, who(request))
    except HubError as error:
        messages.error(request, str(error))
    else:
        messages.success(request, f"{found.name}@{name} is deleted; its history stays.")
    return redirect(found)


@require_POST
def rule_add(request: HttpRequest, pk: int) -> HttpResponse:
    found = _model(pk)
    form = RuleForm(request.POST)
    status = 422
    if form.is_valid():
        try:
            rule = rules.add_rule(found, **form.cleaned_data)
        except HubError as error:
            status = refuse(form, error)
        else:
            messages.success(request, f"{rule.alias} now requires: {rule}.")
            return redirect("model_promotion", pk)
    context = promotion_context(request, found, form)
    return form_page(request, "registry/models/promotion.html", context, status)


@require_POST
def rule_delete(request: HttpRequest, pk: int, rule: int) -> HttpResponse:
    kept = get_object_or_404(PromotionRule.objects.select_related("model"), pk=rule, model_id=pk)
    rules.delete_rule(kept)
    messages.success(request, f"{kept.alias} no longer requires: {kept}.")
    return redirect("model_promotion", pk)


def _model(pk: int) -> Model:
    return get_object_or_404(Model.objects.select_related("base_model"), pk=pk)
